"""What may be a library, and what kind of disk it lies on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pixeldetective.errors import UsageError
from producers.mounts import file_system, is_network
from producers.nesting import refuse_nested

MOUNTINFO = rb"""22 27 0:21 / /proc rw - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:50 / /mnt/nas rw shared:1 - nfs4 nas:/photos rw,vers=4.2
41 40 8:1 / /mnt/nas/local rw - ext4 /dev/sdb1 rw
42 27 0:51 / /mnt/two\040words rw - cifs //nas/photos rw
43 27 0:52 / /home/me/ssh rw master:2 propagate_from:1 - fuse.sshfs me@host: rw
44 27 8:2 / /home/me/ssh rw - ext4 /dev/sdc1 rw
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "2024").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    return root


def refuse(existing: Path, new: Path, name: str | None = None) -> None:
    refuse_nested({"photos": os.fsencode(existing)}, os.fsencode(new), name=name)


def test_folders_apart_are_allowed(library: Path, tmp_path: Path) -> None:
    refuse(library, tmp_path / "other")
    refuse(library, tmp_path / "photos2")
    refuse(library, tmp_path / "missing")


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ("photos", "is the library"),
        ("photos/", "is the library"),
        ("other/../photos", "is the library"),
        ("photos/2024", "lies in"),
        ("photos/missing/deep", "lies in"),
        (".", "contains"),
    ],
)
def test_the_same_an_inner_and_an_outer_folder_are_refused(library: Path, tmp_path: Path, new: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"{why}.*photos.*pixd libraries remove photos"):
        refuse_nested({"photos": os.fsencode(library)}, os.fsencode(tmp_path) + b"/" + os.fsencode(new))


def test_symbolic_links_do_not_hide_it(library: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(library)
    for new in ("link", "link/2024"):
        with pytest.raises(UsageError):
            refuse(library, tmp_path / new)
    with pytest.raises(UsageError, match="contains"):
        refuse(tmp_path / "link/2024", library)


def test_a_missing_root_still_counts_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lies in"):
        refuse(tmp_path / "unplugged", tmp_path / "unplugged/2024")


def test_a_library_may_keep_its_own_folder(library: Path) -> None:
    refuse(library, library, name="photos")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (b"/home/x", "ext4"),
        (b"/mnt/nas/2024", "nfs4"),
        (b"/mnt/nas", "nfs4"),
        (b"/mnt/nas2", "ext4"),
        (b"/mnt/nas/local/x", "ext4"),
        (b"/mnt/two words/x", "cifs"),
        (b"/home/me/ssh/x", "ext4"),
    ],
)
def test_a_path_belongs_to_the_innermost_and_newest_mount(path: bytes, kind: str) -> None:
    assert file_system(path, MOUNTINFO) == kind
    assert is_network(path, MOUNTINFO) == (kind in {"nfs4", "cifs"})


def test_this_machine_has_a_file_system(tmp_path: Path) -> None:
    assert file_system(os.fsencode(tmp_path)) != ""
    assert not is_network(os.fsencode(tmp_path))
