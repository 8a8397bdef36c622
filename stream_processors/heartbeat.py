"""Noticing that this process was frozen.

A worker that stood still for longer than its session timeout (SIGSTOP, a suspended laptop, a swapping machine) has lost
its partitions without knowing. What it would send or remember next is old, so it must not: it ends at once, and the
supervisor starts a fresh one.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

TICK = 0.25  # seconds


def _boottime() -> float:
    # Goes on while the machine sleeps, where CLOCK_MONOTONIC stands still.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Heartbeat:
    """Ends the process once its event loop overslept by more than `limit` seconds."""

    def __init__(
        self, limit: float, *, now: Callable[[], float] = _boottime, end: Callable[[], None] = lambda: os._exit(70)
    ) -> None:
        self._limit = limit
        self._now = now
        self._end = end
        self._last: float | None = None  # no partitions are held before the loop runs

    def check(self) -> None:
        """Call before every effect: the callbacks of a thawed loop run before its timers do."""
        stood_still = 0.0 if self._last is None else self._now() - self._last
        if stood_still > self._limit:
            log.error("the process stood still and has lost its partitions; ending", seconds=round(stood_still, 1))
            self._end()

    async def beat(self) -> None:
        """Runs for as long as the process does."""
        while True:
            self.check()
            self._last = self._now()
            await asyncio.sleep(TICK)
