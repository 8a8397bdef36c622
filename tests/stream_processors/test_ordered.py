"""Concurrent work, acknowledged in order."""

from __future__ import annotations

import asyncio
import random

import pytest

from stream_processors.ordered import Ordered


def test_events_are_acknowledged_in_the_order_of_their_partition_whatever_finishes_first() -> None:
    acknowledged: list[tuple[int, int]] = []

    async def main() -> None:
        order: Ordered[tuple[int, int]] = Ordered(acknowledged.append, _raise, concurrency=16, outstanding=1000)
        dice = random.Random(1)

        async def work(_attempt: int) -> float | None:
            await asyncio.sleep(dice.random() / 100)
            return 0.001 if dice.random() < 0.3 else None

        for offset in range(200):
            for partition in range(3):
                await order.submit(partition, f"{partition}/{dice.randrange(20)}", (partition, offset), work)
        while order.unfinished():
            await asyncio.sleep(0.01)

    asyncio.run(main())
    for partition in range(3):
        assert [offset for p, offset in acknowledged if p == partition] == list(range(200))


def test_one_key_is_worked_on_in_order_and_never_twice_at_once() -> None:
    log: list[tuple[str, int]] = []

    async def main() -> None:
        order: Ordered[int] = Ordered(lambda _: None, _raise, concurrency=16, outstanding=100)

        def work(number: int) -> object:
            async def run(_attempt: int) -> float | None:
                log.append(("begin", number))
                await asyncio.sleep(0.002)
                log.append(("end", number))
                return None

            return run

        for number in range(20):
            await order.submit(0, "same", number, work(number))  # type: ignore[arg-type]
        while order.unfinished():
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert log == [(what, number) for number in range(20) for what in ("begin", "end")]


def test_work_that_raises_is_never_acknowledged_nor_anything_after_it() -> None:
    acknowledged: list[int] = []
    failures: list[BaseException] = []

    async def main() -> None:
        order: Ordered[int] = Ordered(acknowledged.append, failures.append, concurrency=4, outstanding=100)

        async def good(_attempt: int) -> float | None:
            return None

        async def bad(_attempt: int) -> float | None:
            raise ValueError("broken")

        for number in range(10):
            await order.submit(0, str(number), number, bad if number == 4 else good)
        await asyncio.sleep(0.05)

    asyncio.run(main())
    assert acknowledged == [0, 1, 2, 3]
    assert [str(failure) for failure in failures] == ["broken"]


def test_waiting_for_another_attempt_holds_up_neither_slots_nor_other_keys() -> None:
    done: list[int] = []

    async def main() -> None:
        order: Ordered[int] = Ordered(lambda _: None, _raise, concurrency=1, outstanding=100)

        async def patient(attempt: int) -> float | None:
            return 10.0 if attempt == 1 else None

        async def quick(_attempt: int) -> float | None:
            done.append(1)
            return None

        await order.submit(0, "slow", 0, patient)
        await order.submit(0, "fast", 1, quick)
        await asyncio.sleep(0.05)
        assert done == [1]
        order.forget(0)
        assert order.unfinished() == 0

    asyncio.run(main())


def test_a_forgotten_partition_makes_room_again() -> None:
    async def main() -> None:
        order: Ordered[int] = Ordered(lambda _: None, _raise, concurrency=1, outstanding=3)

        async def never(_attempt: int) -> float | None:
            await asyncio.sleep(100)
            return None

        for number in range(3):
            await order.submit(0, str(number), number, never)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(order.submit(0, "x", 3, never), 0.05)
        order.forget(0)
        await asyncio.wait_for(order.submit(0, "x", 3, never), 1)
        order.forget(0)

    asyncio.run(main())


def _raise(error: BaseException) -> None:
    raise error
