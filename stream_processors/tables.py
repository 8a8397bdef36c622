"""Faust tables whose writes can be waited for and whose partitions can be walked through."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Generic, TypeVar

import faust
import msgspec
from faust.stores import rocksdb

from stream_processors.heartbeat import Heartbeat
from stream_processors.rows import encode

Row = TypeVar("Row", bound=msgspec.Struct)

# RocksDB's defaults allow gigabytes per partition and table; these keep sixteen of them below about 200 MB.
OPTIONS = {
    "driver": "rocksdict",
    "max_open_files": 64,
    "write_buffer_size": 4 << 20,
    "max_write_buffer_number": 2,
    "target_file_size_base": 8 << 20,
    "block_cache_size": 8 << 20,
}
CHUNK = 1000  # rows read from one iterator; a longer-lived one would pin old files and see no new rows


class PartitionedStore(rocksdb.Store):  # type: ignore[misc]
    """Faust's RocksDB store, and a way to walk through one partition."""

    def items_from(self, partition: int, start: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """Up to `count` rows of a partition in the order of their keys, from `start` on, Faust's own left out."""
        rows = self._db_for_partition(partition).items(from_key=start)
        return list(itertools.islice(((k, v) for k, v in rows if k != self.offset_key), count))


class PartitionedTable(faust.Table):  # type: ignore[misc]
    """A Faust table with raw keys and values on a `PartitionedStore`."""

    def _new_store(self) -> PartitionedStore:
        return PartitionedStore(
            "rocksdb://",
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer,
            value_type=self.value_type,
            loop=self.loop,
            options=dict(self.options),
        )


class DurableTable(Generic[Row]):
    """Rows of one kind in a Faust table.

    Guarantee: `put` writes the local store first and returns when the changelog has confirmed it. (The other way
    round, a crash in between would leave a store that believes it is up to date.) Only from within an agent's event.
    """

    def __init__(
        self, app: faust.App, name: str, partitions: int, decode: Callable[[bytes], Row], heartbeat: Heartbeat
    ) -> None:
        self._table = app.tables.add(
            PartitionedTable(
                app,
                name=name,
                partitions=partitions,
                key_type=bytes,  # and so raw, as the values
                value_type=bytes,
                options=OPTIONS,
            )
        )
        self._decode = decode
        self._heartbeat = heartbeat

    def get(self, _partition: int, key: str) -> Row | None:
        """The row of `key` in the partition of the event under way."""
        value: Any = self._table.data.get(key.encode())
        return None if value is None else self._decode(value)

    async def put(self, partition: int, key: str, row: Row | None) -> None:
        """Write or delete a row."""
        self._heartbeat.check()
        raw = key.encode()
        value = None if row is None else encode(row)
        if value is None:
            self._table.data.pop(raw, None)
        else:
            self._table.data[raw] = value
        await self._table.send_changelog(partition, raw, value)

    def keys(self, partition: int, prefix: str) -> Iterator[str]:
        """The keys of a partition that begin with `prefix`."""
        start = raw = prefix.encode()
        while True:
            found = self._table.data.items_from(partition, start, CHUNK)
            for key, _ in found:
                if not key.startswith(raw):
                    return
                yield key.decode()
            if len(found) < CHUNK:
                return
            start = found[-1][0] + b"\0"

    def rows(self, partition: int, after: str) -> list[tuple[str, Row]]:
        """Up to CHUNK rows of a partition in the order of their keys, those behind the key `after`."""
        start = after.encode() + b"\0" if after else b""
        return [(k.decode(), self._decode(v)) for k, v in self._table.data.items_from(partition, start, CHUNK)]

    def on_recovered(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Have `callback` called whenever the table has been restored after a rebalance."""
        self._table.on_recover(callback)
