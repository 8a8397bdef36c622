"""Between the threads that see changes and the one that announces them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from producers.debouncer import LIMIT, Debouncer, What

BATCH = 10_000  # paths per announcement; far below the 100,000 records that librdkafka queues


class Inbox:
    """A debouncer that many threads may feed and one empties, without polling: it wakes when a path is due.

    Memory is bounded: when too many paths wait, they are dropped and `on_loss` is called, which must cause a scan.
    """

    def __init__(self, quiet: float, on_loss: Callable[[], None]) -> None:
        self._debouncer = Debouncer(quiet, limit=LIMIT)
        self._on_loss = on_loss
        self._fed = threading.Condition()
        self._closed = False

    def put(self, path: str, what: What) -> None:
        """Note one event of a path id."""
        with self._fed:
            self._debouncer.feed(path, what, time.monotonic())
            lost = self._debouncer.take_loss()
            self._fed.notify()
        if lost:  # outside the lock: whoever is called may have one of its own
            self._on_loss()

    def take(self) -> list[str]:
        """Wait until paths are due and take them. Empty once the inbox is closed and nothing is due any more."""
        with self._fed:
            while True:
                now = time.monotonic()
                if paths := self._debouncer.due(now, BATCH):
                    return paths
                if self._closed:
                    return []
                due = self._debouncer.next_due
                self._fed.wait(None if due is None else max(0.0, due - now))

    def close(self) -> None:
        """Let `take` hand out what is due now and then end; what is still being written is left to the next scan."""
        with self._fed:
            self._closed = True
            self._fed.notify()
