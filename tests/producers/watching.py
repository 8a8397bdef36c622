"""A watcher on real folders and real inotify whose announcements are collected instead of sent."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from pixeldetective.settings import Settings
from producers.scanner import ScanStoppedError
from producers.selection import Selection
from producers.walk import walk
from producers.watcher import Watcher

# Long enough for a machine under load; nothing waits so long unless it fails.
PATIENCE = 10.0


class Collector:
    """Announcements and scans in the order in which they came; an `Announcer` and a `Scan`."""

    def __init__(self) -> None:
        self.announced: list[tuple[str, float]] = []
        self.scans: list[tuple[str, list[str]]] = []
        self.blocked = threading.Event()  # while set, announcing and scanning wait

    def announce(self, path_ids: Sequence[str]) -> None:
        self._wait()
        self.announced += [(path_id, time.monotonic()) for path_id in path_ids]

    def scan(
        self, library: str, root: bytes, *, entering: Callable[[bytes], None], stopping: threading.Event
    ) -> list[str]:
        self._wait()
        selection = Selection(Settings())
        seen = [os.fsdecode(e.path[len(root) + 1 :]) for e in walk(root, selection, lambda *_: None, entering)]
        if stopping.is_set():
            raise ScanStoppedError
        self.scans.append((library, sorted(seen)))
        return seen

    def paths(self) -> list[str]:
        return [path for path, _ in self.announced]

    def count(self, path_id: str) -> int:
        return self.paths().count(path_id)

    def at(self, path_id: str) -> float:
        """When the path was announced last."""
        return max(when for path, when in list(self.announced) if path == path_id)

    def clear(self) -> None:
        self.announced.clear()
        self.scans.clear()

    def _wait(self) -> None:
        while self.blocked.is_set():
            time.sleep(0.01)


def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class Running:
    """A running watcher."""

    def __init__(self, settings: Settings, roots: dict[str, bytes]) -> None:
        self.roots = roots
        self.seen = Collector()
        self.failure: BaseException | None = None
        self.watcher = Watcher(settings, lambda: dict(self.roots), self.seen, self.seen.scan)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.watcher.run(self.stopping)
        except Exception as error:  # noqa: BLE001 - for the test to look at
            self.failure = error

    def settled(self) -> None:
        """Wait until every library with a folder is watched and scanned, then forget what was seen so far."""
        until(lambda: {name for name, _ in self.seen.scans} >= set(self.roots))
        time.sleep(0.1)
        self.seen.clear()


@contextmanager
def watching(roots: dict[str, Path], **settings: object) -> Iterator[Running]:
    """Run a watcher on these libraries until the block ends, then check that it ended well."""
    chosen = msgspec.structs.replace(Settings(), **{"quiet": 0.3, **settings})
    running = Running(chosen, {name: os.fsencode(root) for name, root in roots.items()})
    running.thread.start()
    try:
        yield running
    finally:
        running.seen.blocked.clear()
        running.stopping.set()
        running.thread.join(PATIENCE)
        assert not running.thread.is_alive()
