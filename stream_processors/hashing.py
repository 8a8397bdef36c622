"""The stage *hashing*: file events in, content changes out.

Order of effects for every look: remember which contents are about to be told, tell them, remember what is true, write
or clear the letter, and only then acknowledge the event; each is confirmed before the next begins. A crash between any
two of these repeats the event, and looking again says the same or something newer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol, TypeVar

from pixeldetective import paths, records, topics
from pixeldetective.cache import Cache
from pixeldetective.errors import PictureError, Reason
from pixeldetective.letters import Origin
from pixeldetective.metrics import FILES_LOOKED_AT
from pixeldetective.records import Library, Look, ScanFinished
from stream_processors.deciding import decide
from stream_processors.observing import Changing, Failed, Gone, Limits, Observation, observe
from stream_processors.ports import Log, Mailbox, Table
from stream_processors.rows import PathRow

T = TypeVar("T")

STAGE = "hashing"
PATIENCE = 10  # attempts at a file that keeps changing before it becomes a letter; its writer's close brings it back
SCAN_LOOKS = 32  # files that a marker looks at at once
SCANS = 4  # of one library at a time whose seen files are kept; one that was cut off never sends its marker


class Libraries(Protocol):
    """The part of the registry that hashing needs."""

    def library(self, name: str) -> Library | None: ...
    def root(self, name: str) -> bytes | None: ...
    def sync(self) -> None: ...


class Hashing:
    """Answers file events. One object per worker; call it from the event loop only."""

    def __init__(
        self,
        log: Log,
        table: Table[PathRow],
        mailbox: Mailbox,
        libraries: Libraries,
        cache: Cache,
        limits: Limits,
        executor: Executor,
        selected: Callable[[bytes], bool] = lambda _relative: True,
    ) -> None:
        """`selected` tells whether the file at a path relative to its library's root counts as a picture."""
        self._log = log
        self._table = table
        self._mailbox = mailbox
        self._libraries = libraries
        self._cache = cache
        self._limits = limits
        self._executor = executor
        self._selected = selected
        # What a scan that is under way has seen, per partition: 8 bytes of hash stand for a path. It is lost with the
        # process or the partition; then the marker merely looks at more rows than it had to.
        self._seen: dict[tuple[int, str, str], set[int]] = {}

    def arrived(self, partition: int, event: records.FileEvent) -> None:
        """Note an event in the order of the partition, before any work on it."""
        if isinstance(event, Look) and event.scan is not None:
            scan = (partition, paths.library_of(event.path), event.scan)
            if scan not in self._seen:
                under_way = [other for other in self._seen if other[:2] == scan[:2]]
                for oldest in under_way[: 1 - SCANS]:
                    del self._seen[oldest]
            self._seen.setdefault(scan, set()).add(hash(event.path))

    def forget(self, partition: int) -> None:
        """The partition belongs to another worker now."""
        for key in [key for key in self._seen if key[0] == partition]:
            del self._seen[key]

    async def look(self, origin: Origin, partition: int, offset: int, look: Look, attempt: int) -> float | None:
        """Answer one look; returns None when it is settled, else after how many seconds to try again."""
        row = self._table.get(partition, look.path)
        seen = await self._observe(look, row, force=look.force or attempt > 1)
        decision = decide(look, offset, row, seen, time.time_ns())
        if decision.intent is not None:
            await self._table.put(partition, look.path, decision.intent)
        for sha256, change in decision.changes:
            await self._log.send(topics.CONTENT_CHANGES, sha256, records.encode(change))
        if decision.row != (decision.intent or row):
            await self._table.put(partition, look.path, decision.row)
        given_up = isinstance(seen, Changing) and attempt >= PATIENCE
        if isinstance(seen, Failed):
            await self._mailbox.write(origin, look.path, PictureError(seen.reason, seen.text))
        elif given_up:
            text = "The file was being written to whenever it was read."
            await self._mailbox.write(origin, look.path, PictureError(Reason.CHANGED, text))
        else:
            await self._mailbox.clear(look.path)
        FILES_LOOKED_AT.labels(outcome=type(seen).__name__.lower()).inc()
        return None if decision.settled or given_up else self._limits.recheck

    async def scan_finished(
        self, partition: int, marker: ScanFinished, settle: Callable[[str], Coroutine[Any, Any, None]]
    ) -> None:
        """Have every known file of the library and partition settled that the scan did not see."""
        seen = self._seen.pop((partition, marker.library, marker.scan), set())
        slots = asyncio.Semaphore(SCAN_LOOKS)

        async def one(path: str) -> None:
            try:
                await settle(path)
            finally:
                slots.release()

        async with asyncio.TaskGroup() as group:
            for path in self._table.keys(partition, f"{marker.library}/"):
                if hash(path) not in seen:
                    await slots.acquire()
                    group.create_task(one(path))

    async def _observe(self, look: Look, row: PathRow | None, *, force: bool) -> Observation:
        try:
            name, relative = paths.split(look.path)
        except ValueError:
            return Gone()
        library = self._libraries.library(name)
        if library is None:
            # Perhaps it was added a moment ago and this process has not heard of it yet.
            await self._in_thread(self._libraries.sync)
            library = self._libraries.library(name)
        root = self._libraries.root(name)
        if library is None or root is None:
            return Gone()
        if not self._selected(relative):
            return Gone()  # it is there, but the settings no longer count it
        path = root.rstrip(b"/") + b"/" + relative
        return await self._in_thread(
            partial(observe, path, root, library, row, force=force, cache=self._cache, limits=self._limits)
        )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
