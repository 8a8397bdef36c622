"""Looking at one file: the only place of this package that touches the disk."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from dataclasses import dataclass

from pixeldetective.cache import Cache
from pixeldetective.errors import Reason
from pixeldetective.metrics import BYTES_HASHED
from pixeldetective.records import Library
from stream_processors.rows import PathRow

CHUNK = 1 << 20  # bytes per read: larger is not faster from the page cache, and a signal is answered sooner

# These mean that the disk or the network is ill or that we may not look. They say nothing about the file's existence.
ILL = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENODEV}


@dataclass(frozen=True)
class Same:
    """The file is what the row says."""


@dataclass(frozen=True)
class Present:
    """The file exists and was read, or its hash was known."""

    sha256: str
    size: int  # bytes
    mtime_ns: int
    ctime_ns: int
    inode: int
    fresh: bool  # it changed so recently that another change could hide behind the same time stamp


@dataclass(frozen=True)
class Gone:
    """There is no such file, and that can be believed."""


@dataclass(frozen=True)
class Held:
    """There is no such file, but neither is there the library's folder as it was registered: nothing is concluded."""


@dataclass(frozen=True)
class Changing:
    """The file was written to while it was read."""


@dataclass(frozen=True)
class Failed:
    """The file exists and cannot become a content. `known` says whether what was known of it stays true meanwhile."""

    reason: Reason
    text: str
    known: bool


Observation = Same | Present | Gone | Held | Changing | Failed


@dataclass(frozen=True)
class Limits:
    """The settings that decide what an observation says."""

    max_file_size: int  # bytes
    recheck: float  # seconds


def root_is_healthy(root: bytes, library: Library) -> bool:
    """Whether the library's folder is there, is the registered one, and was not found suspiciously empty."""
    try:
        return is_registered_folder(root, library) and not (library.emptied and is_empty(root))
    except OSError:
        return False


def is_registered_folder(root: bytes, library: Library) -> bool:
    """Whether a folder is the one that was registered. Raises OSError if it cannot be reached."""
    found = os.stat(root)
    if not stat.S_ISDIR(found.st_mode):
        return False
    if library.inode is None:
        return True
    file_system = os.statvfs(root).f_fsid
    same = file_system == library.file_system if file_system and library.file_system else found.st_dev == library.device
    return same and found.st_ino == library.inode


def is_empty(folder: bytes) -> bool:
    """Whether there is nothing but hidden files in a folder. Raises OSError if it cannot be read."""
    with os.scandir(folder) as entries:
        return all(entry.name.startswith(b".") for entry in entries)


def observe(
    path: bytes, root: bytes, library: Library, row: PathRow | None, *, force: bool, cache: Cache, limits: Limits
) -> Observation:
    """Look at the file `path` of a library as it is now; blocks while it is read.

    Costs one `lstat` where the row still holds. `force` reads the bytes whatever the row and the cache say. Never
    raises OSError: what the disk answers becomes an observation.
    """
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        # Only now, after the file was missed, does the root's health prove anything.
        return Gone() if root_is_healthy(root, library) else Held()
    except OSError as error:
        return _unreadable(error)
    if not stat.S_ISREG(found.st_mode):
        return Gone()
    if row is not None and not force and _identity(found) == (row.size, row.mtime_ns, row.ctime_ns, row.inode):
        return Same()
    if found.st_size == 0:
        return Failed(Reason.EMPTY, "The file is empty (0 bytes).", known=False)
    if found.st_size > limits.max_file_size:
        return Failed(
            Reason.TOO_LARGE,
            f"The file has {found.st_size:,} bytes, more than PIXD_MAX_FILE_SIZE ({limits.max_file_size:,}) allows.",
            known=False,
        )
    key = f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}".encode()
    known = None if force else cache.get(key)
    if known is not None:
        return _present(found, known.decode("ascii"), fresh=False)
    try:
        read, sha256 = _hash(path)
    except FileNotFoundError:
        return Gone() if root_is_healthy(root, library) else Held()
    except OSError as error:
        return _unreadable(error)
    if _identity(read) != _identity(found):
        return Changing()
    # A time stamp in the future is somebody's wrong clock, not a recent change.
    fresh = 0 <= time.time() - read.st_mtime < limits.recheck
    if not fresh:
        cache.put(key, sha256.encode("ascii"))
    return _present(read, sha256, fresh=fresh)


def _hash(path: bytes) -> tuple[os.stat_result, str]:
    # O_NONBLOCK: a FIFO that took the file's place must not hang the worker.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        digest = hashlib.sha256()
        while chunk := os.read(descriptor, CHUNK):
            digest.update(chunk)
            BYTES_HASHED.inc(len(chunk))
        return os.fstat(descriptor), digest.hexdigest()
    finally:
        os.close(descriptor)


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _present(found: os.stat_result, sha256: str, *, fresh: bool) -> Present:
    return Present(sha256, *_identity(found), fresh)


def _unreadable(error: OSError) -> Failed:
    text = os.strerror(error.errno) if error.errno else str(error)
    what = "The disk or network share does not answer" if error.errno in ILL else "The file cannot be read"
    return Failed(Reason.UNREADABLE, f"{what}: {text}.", known=True)
