"""A lock that the kernel releases when its holder dies, and that leaves no file behind."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pixeldetective.errors import PixdError


@contextmanager
def hold(path: Path, *, timeout: float, busy: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Be the only process inside; wait up to `timeout` seconds for another to leave, then raise PixdError(`busy`).

    `waiting` is called once if there is somebody to wait for. A holder that is killed lets go at once.
    """
    deadline = time.monotonic() + timeout
    path.parent.mkdir(parents=True, exist_ok=True)
    while (lock := _try(path)) is None:
        if waiting:
            waiting()
            waiting = None
        if time.monotonic() > deadline:
            raise PixdError(busy)
        time.sleep(0.05)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def _try(path: Path) -> int | None:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The last holder deleted its file when it left; a lock on a deleted file excludes nobody.
        if os.path.samestat(os.fstat(lock), path.stat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None
