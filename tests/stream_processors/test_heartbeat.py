"""A worker that stood still ends before it does anything else."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from stream_processors.heartbeat import Heartbeat


class Ended(Exception):
    """The process would end here."""


def end() -> None:
    raise Ended


def test_a_frozen_worker_ends_at_its_next_effect_and_a_slow_start_does_not() -> None:
    time = [0.0]
    heartbeat = Heartbeat(5.0, now=lambda: time[0], end=end)

    async def main() -> None:
        time[0] = 100.0  # the start took long; nothing was held yet
        heartbeat.check()
        beating = asyncio.create_task(heartbeat.beat())
        await asyncio.sleep(0)
        time[0] += 4.9
        heartbeat.check()
        time[0] += 0.2
        with pytest.raises(Ended):
            heartbeat.check()
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating

    asyncio.run(main())
