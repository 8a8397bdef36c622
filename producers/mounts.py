"""What kind of file system a folder lies on: those on other machines change without telling our kernel."""

from __future__ import annotations

import os
import re
from pathlib import Path

# Where inotify reports only what this machine does itself. Names as in the ninth field of /proc/self/mountinfo.
NETWORK = frozenset(
    (
        *(
            "9p",
            "afs",
            "ceph",
            "cifs",
            "lustre",
            "ncpfs",
            "nfs",
            "nfs4",
            "prl_fs",
            "smb3",
            "smbfs",
            "vboxsf",
            "virtiofs",
        ),
        *("fuse.davfs", "fuse.glusterfs", "fuse.gvfsd-fuse", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
        *("fuse.vmhgfs-fuse", "fuse.osxfs", "fuse.grpcfuse", "fuse.juicefs", "fuse.mount.s3", "fuse.gcsfuse"),
    )
)
_OCTAL = re.compile(rb"\\([0-7]{3})")


def is_network(path: bytes, mountinfo: bytes | None = None) -> bool:
    """Whether other machines may change `path` unseen; where that cannot be found out, False.

    `mountinfo` is the text of /proc/self/mountinfo, read here unless it is given.
    """
    return file_system(path, mountinfo) in NETWORK


def file_system(path: bytes, mountinfo: bytes | None = None) -> str:
    """The type of the file system that holds `path`, as in /proc/self/mountinfo; empty if unknown."""
    if mountinfo is None:
        try:
            mountinfo = Path("/proc/self/mountinfo").read_bytes()
        except OSError:
            return ""
    real = os.path.realpath(path)
    found, kind = b"", ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(b" - ")
        fields = before.split(b" ")
        if len(fields) < 5 or not after:
            continue
        place = _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), fields[4])
        inside = real == place or real.startswith(place.rstrip(b"/") + b"/")
        # Of two mounts on one place the later covers the earlier.
        if inside and len(place) >= len(found):
            found, kind = place, after.split(b" ")[0].decode("ascii", "replace")
    return kind
