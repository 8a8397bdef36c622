"""The stage *dedup*: content changes in, the catalogue `contents` out.

Order of effects for every change: send the new state and have it confirmed, remember the row and have its changelog
confirmed, and only then the event is acknowledged. A content whose last path left keeps its record for a grace period,
so that a rename, which is a leave and a join in either order, never makes a picture vanish.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from pixeldetective import records, topics
from pixeldetective.metrics import CONTENT_CHANGES
from pixeldetective.records import ContentChange, Republish
from stream_processors.counting import Counting
from stream_processors.merging import merge, state
from stream_processors.ports import Log, Table
from stream_processors.rows import ContentRow

STAGE = "dedup"


class Dedup:
    """Merges content changes. One object per worker; call it from the event loop only."""

    def __init__(
        self,
        log: Log,
        table: Table[ContentRow],
        counting: Counting,
        *,
        grace: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`grace` in seconds."""
        self._log = log
        self._table = table
        self._counting = counting
        self._grace = grace
        self._now = now
        self._empty_since: dict[str, float] = {}

    async def change(self, partition: int, sha256: str, change: ContentChange) -> float | None:
        """Merge one change; returns None when it is settled, else after how many seconds to call again with it."""
        row = self._table.get(partition, sha256) or ContentRow()
        merged = merge(row, change)
        again = isinstance(change, Republish)
        CONTENT_CHANGES.labels(kind=type(change).__name__.lower()).inc()
        if merged.paths:
            self._empty_since.pop(sha256, None)
            if again or not row.published or merged.paths.keys() != row.paths.keys():
                merged = msgspec.structs.replace(merged, version=row.version + 1, published=True)
                await self._log.send(topics.CONTENTS, sha256, records.encode(state(sha256, merged)))
            await self._remember(partition, sha256, row, merged)
            return None
        await self._remember(partition, sha256, row, merged)
        if not merged.published:
            if again:
                await self._log.send(topics.CONTENTS, sha256, None)
            return None
        left = self._empty_since.setdefault(sha256, self._now()) + self._grace - self._now()
        if left > 0:
            return left
        await self._log.send(topics.CONTENTS, sha256, None)
        # The row stays, for its version and its marks: a picture that comes back goes on counting.
        await self._remember(partition, sha256, merged, msgspec.structs.replace(merged, published=False))
        self._empty_since.pop(sha256, None)
        return None

    async def _remember(self, partition: int, sha256: str, before: ContentRow, after: ContentRow) -> None:
        if after != before:
            await self._table.put(partition, sha256, after)
            self._counting.moved(partition, sha256, before, after)

    def forget(self) -> None:
        """Partitions moved: their grace periods begin anew where their events are repeated."""
        self._empty_since.clear()
