"""A folder tree watched by looking at it again and again: for shares that other machines write to.

Not watchdog's PollingObserver: it follows symbolic links, blocks its caller while it lists the tree for the first time,
gives up a whole pass when one folder cannot be read, and calls a file modified once for each pass of a long copy.
"""

from __future__ import annotations

import threading
import time

import structlog

from pixeldetective import paths
from producers.selection import Selection
from producers.source import Sink
from producers.walk import walk

log = structlog.get_logger(__name__)

INTERVAL = 5.0  # seconds between two passes
DUTY = 4  # a pass that took t seconds is followed by a pause of at least DUTY * t: a large share needs its peace

Stamp = tuple[int, int, int]  # size, mtime_ns, inode


class PollingTree:
    """Compares what lies below one root with what lay there before; a `Source`.

    A new or changed file is told of as closed once two passes in a row saw it alike. Memory: some 200 bytes a file.
    """

    def __init__(self, root: bytes, selection: Selection, sink: Sink) -> None:
        self._root = root
        self._selection = selection
        self._sink = sink
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"poll {paths.shown(root)}", daemon=True)

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def entering(self, folder: bytes) -> None:
        """Nothing: the next pass sees every folder."""

    def settle(self) -> None:
        """Nothing: no folder leaves unseen."""

    def stop(self) -> None:
        """End; waits for the folder that is being listed."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def is_alive(self) -> bool:
        """Whether its thread lives."""
        return self._thread.is_alive()

    def _run(self) -> None:
        known: dict[bytes, Stamp] | None = None
        growing: set[bytes] = set()
        pause = 0.0
        while not self._stopping.wait(pause):
            started = time.monotonic()
            seen, troubled = self._look()
            if self._stopping.is_set():
                return
            if known is not None:
                growing = self._tell(known, seen, growing, troubled)
                for path in known.keys() - seen.keys():
                    if path.startswith(troubled):
                        seen[path] = known[path]  # not seen is not gone where the folder could not be listed
            known = seen
            pause = max(INTERVAL, DUTY * (time.monotonic() - started))

    def _look(self) -> tuple[dict[bytes, Stamp], tuple[bytes, ...]]:
        seen: dict[bytes, Stamp] = {}
        troubled: list[bytes] = []
        for entry in walk(self._root, self._selection, lambda folder, _: troubled.append(folder.rstrip(b"/") + b"/")):
            if self._stopping.is_set():
                break
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError:
                seen[entry.path] = (-1, -1, -1)
                continue
            seen[entry.path] = (status.st_size, status.st_mtime_ns, status.st_ino)
        return seen, tuple(troubled)

    def _tell(
        self, known: dict[bytes, Stamp], seen: dict[bytes, Stamp], growing: set[bytes], troubled: tuple[bytes, ...]
    ) -> set[bytes]:
        changed = {path for path, stamp in seen.items() if known.get(path) != stamp}
        for path in growing - changed:
            self._sink.changed(path, "closed" if path in seen else "gone")
        for path in known.keys() - seen.keys() - growing:
            if not path.startswith(troubled):
                self._sink.changed(path, "gone")
        return changed
