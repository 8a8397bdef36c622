"""When a path is announced: at once where a file is complete, after a quiet moment where it may still be growing."""

from __future__ import annotations

import math
from typing import Literal

What = Literal["closed", "written", "moved", "gone"]

FOLD = 0.1  # seconds; a program that saves a file again and again costs ten looks a second, not thousands
LIMIT = 200_000  # paths waiting, some 50 MB; more at once is cheaper to find by a scan


class Debouncer:
    """Folds the events of many paths into as few announcements as may be. Pure: the caller brings the time.

    Guarantee: after the last event of a path there is an announcement that does not come before it. A path that is
    being written is announced only after `quiet` seconds without a write, or when it is closed, moved or gone; then at
    once, but not twice within `fold` seconds. When more than `limit` paths wait, all of them are forgotten and
    `take_loss` says so: whoever asks must scan. Each operation takes constant time per path.

    Times are seconds of one clock that never goes back.
    """

    def __init__(self, quiet: float, *, fold: float = FOLD, limit: int = LIMIT) -> None:
        self._quiet_for = quiet
        self._fold = fold
        self._limit = limit
        # Each dictionary is in the order of its due times, because all its paths wait equally long.
        self._ready: dict[str, None] = {}
        self._folded: dict[str, float] = {}  # complete again soon after it was announced
        self._written: dict[str, float] = {}
        self._announced: dict[str, float] = {}
        self._lost = False

    def __len__(self) -> int:
        return len(self._ready) + len(self._folded) + len(self._written)

    def feed(self, path: str, what: What, now: float) -> None:
        """Note one event of `path`."""
        if what == "written":
            # A file that was complete and is written again is not complete.
            self._ready.pop(path, None)
            self._folded.pop(path, None)
            self._written.pop(path, None)
            self._written[path] = now + self._quiet_for
        else:
            self._written.pop(path, None)
            if path in self._ready or path in self._folded:
                return
            if now < self._announced.get(path, -math.inf) + self._fold:
                self._folded[path] = now + self._fold
            else:
                self._ready[path] = None
        if len(self) > self._limit:
            self._ready.clear()
            self._folded.clear()
            self._written.clear()
            self._lost = True

    def due(self, now: float, limit: int | None = None) -> list[str]:
        """Take the paths to announce now, at most `limit` of them, those that waited longest first."""
        for waiting in (self._folded, self._written):
            while waiting and (path := next(iter(waiting))) and waiting[path] <= now:
                del waiting[path]
                self._ready[path] = None
        while self._announced and self._announced[oldest := next(iter(self._announced))] + self._fold <= now:
            del self._announced[oldest]
        paths = (
            list(self._ready) if limit is None else [path for path, _ in zip(self._ready, range(limit), strict=False)]
        )
        for path in paths:
            del self._ready[path]
            self._announced.pop(path, None)
            self._announced[path] = now
        return paths

    @property
    def next_due(self) -> float | None:
        """When `due` has something: a time, minus infinity for at once, None if nothing waits."""
        if self._ready:
            return -math.inf
        return min((next(iter(waiting.values())) for waiting in (self._folded, self._written) if waiting), default=None)

    def take_loss(self) -> bool:
        """Whether paths were forgotten since the last call."""
        lost, self._lost = self._lost, False
        return lost
