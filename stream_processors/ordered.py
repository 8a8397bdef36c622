"""Doing many things at once and acknowledging them in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Event = TypeVar("Event")

# One attempt at an event; returns None when it is done, else after how many seconds it wants another attempt.
Work = Callable[[int], Awaitable[float | None]]

# The end of the work on a key that comes before, and the end of one's own.
_Turn = tuple[asyncio.Future[None] | None, asyncio.Future[None]]


@dataclass(eq=False)
class _Entry(Generic[Event]):
    event: Event
    queue: deque[_Entry[Event]]
    done: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Ordered(Generic[Event]):
    """Runs the work of events concurrently.

    Guarantees: events with the same key are worked on one after the other, in the order they were submitted; an event
    is acknowledged only when it and every earlier event of its partition is done (Faust commits past an unfinished
    event otherwise); what waits for another attempt holds up neither other keys nor the work slots. If work raises,
    `failed` is called, nothing from that event on is acknowledged, and the process is expected to end.
    """

    def __init__(
        self,
        acknowledge: Callable[[Event], None],
        failed: Callable[[BaseException], None],
        *,
        concurrency: int,
        outstanding: int,
    ) -> None:
        """`concurrency` events are worked on at once, `outstanding` may be unfinished before `submit` waits."""
        self._acknowledge = acknowledge
        self._failed = failed
        self._slots = asyncio.Semaphore(concurrency)
        self._room = asyncio.Semaphore(outstanding)
        self._queues: dict[int, deque[_Entry[Event]]] = {}
        self._tails: dict[str, asyncio.Future[None]] = {}

    async def submit(self, partition: int, key: str, event: Event, work: Work, *, slot: bool = True) -> None:
        """Take an event; waits while too many are unfinished.

        Work that itself waits for the work on other keys must not hold a `slot` meanwhile: those may need it.
        """
        await self._room.acquire()
        queue = self._queues.setdefault(partition, deque())
        entry = _Entry(event, queue)
        queue.append(entry)
        slots = self._slots if slot else asyncio.Semaphore()
        entry.task = asyncio.create_task(self._run(key, entry, work, slots, self._turn(key)))

    async def within(self, key: str, work: Work) -> None:
        """Do work on `key` as a part of an event that is being worked on, in turn with all other work on that key.

        Raises what the work raises.
        """
        await self._attempts(key, work, self._slots, self._turn(key))

    def forget(self, partition: int) -> None:
        """Drop a partition that now belongs to another worker: its unfinished work is cancelled, not acknowledged."""
        queue = self._queues.pop(partition, deque())
        while queue:
            entry = queue.popleft()
            if not entry.done and entry.task is not None:
                entry.task.cancel()
            self._room.release()

    def unfinished(self) -> int:
        """How many events are not acknowledged yet."""
        return sum(len(queue) for queue in self._queues.values())

    async def _run(self, key: str, entry: _Entry[Event], work: Work, slots: asyncio.Semaphore, turn: _Turn) -> None:
        try:
            await self._attempts(key, work, slots, turn)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must not be acknowledged
            self._failed(error)
            return
        entry.done = True
        while entry.queue and entry.queue[0].done:
            self._acknowledge(entry.queue.popleft().event)
            self._room.release()

    async def _attempts(self, key: str, work: Work, slots: asyncio.Semaphore, turn: _Turn) -> None:
        attempt = 1
        while True:
            before, mine = turn
            try:
                if before is not None:
                    await asyncio.wait([before])
                async with slots:
                    again = await work(attempt)
            finally:
                self._pass_on(key, mine)
            if again is None:
                return
            await asyncio.sleep(again)
            attempt += 1
            turn = self._turn(key)

    def _turn(self, key: str) -> _Turn:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        before = self._tails.get(key)
        self._tails[key] = mine
        return before, mine

    def _pass_on(self, key: str, mine: asyncio.Future[None]) -> None:
        if not mine.done():
            mine.set_result(None)
        if self._tails.get(key) is mine:
            del self._tails[key]
