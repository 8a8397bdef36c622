"""Surviving decoders that crash the process.

A segmentation fault in a C library cannot be caught. But it can be remembered what was being read when it happened:
each worker notes that in a small file, which outlives it. After a start that finds notes, those contents are first
decoded in a process of their own; the one that ends it becomes a dead letter, and the others cost a second each, once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SLOT = 64  # bytes: a SHA-256 in hex


class Hazards:
    """What this worker is reading, kept where a crash does not reach it.

    Guarantee: whatever was inside `reading` when the process died is in `suspects` of the next one. Writes go to the
    page cache, which a crash of the process leaves alone; a crash of the machine proves nothing against a picture.
    """

    def __init__(self, path: Path, threads: int) -> None:
        """`path` belongs to this worker alone. Raises OSError if it cannot be written."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        notes = os.read(self._file, 1 << 20)
        slots = [notes[start : start + SLOT] for start in range(0, len(notes), SLOT)]
        self._suspects = {slot.decode("ascii", "replace") for slot in slots if slot.strip(b"\0")}
        self._free = list(range(threads))
        self._lock = threading.Lock()
        # The notes of before stay, behind the slots in use, until each suspect was tried: another crash must not free
        # them. Written before the file is cut, so that there is no moment without them.
        self._old = {sha256: threads + n for n, sha256 in enumerate(sorted(self._suspects))}
        for sha256, slot in self._old.items():
            self._write(slot, sha256)
        for slot in self._free:
            self._write(slot, "")
        os.ftruncate(self._file, (threads + len(self._old)) * SLOT)

    @property
    def suspects(self) -> frozenset[str]:
        """The contents that were being read when an earlier process died, and have not been tried since."""
        return frozenset(self._suspects)

    @contextmanager
    def reading(self, sha256: str) -> Iterator[None]:
        """Note that a content is being read, for as long as the `with` statement lasts."""
        with self._lock:
            slot = self._free.pop()
        self._write(slot, sha256)
        try:
            yield
        finally:
            self._write(slot, "")
            with self._lock:
                self._free.append(slot)

    def acquit(self, sha256: str) -> None:
        """A suspect has been tried; what came of it is known."""
        with self._lock:
            self._suspects.discard(sha256)
            slot = self._old.pop(sha256, None)
        if slot is not None:
            self._write(slot, "")

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _write(self, slot: int, sha256: str) -> None:
        os.pwrite(self._file, sha256.encode("ascii").ljust(SLOT, b"\0"), slot * SLOT)
