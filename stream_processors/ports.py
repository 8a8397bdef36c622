"""What the two stages need of the world, so that they can run without it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from pixeldetective.errors import PictureError
from pixeldetective.letters import Origin

T = TypeVar("T")


class Log(Protocol):
    """Kafka, to write to."""

    async def send(self, topic: str, key: str, value: bytes | None) -> None:
        """Write a record; returns when it is durable, raises if it may not be."""


class Table(Protocol, Generic[T]):
    """A partitioned table with a changelog. Rows are reached through the partition of the event that asks."""

    def get(self, partition: int, key: str) -> T | None:
        """The row of `key`."""

    async def put(self, partition: int, key: str, row: T | None) -> None:
        """Write or delete a row; returns when its changelog is durable, raises if it may not be."""

    def keys(self, partition: int, prefix: str) -> Iterator[str]:
        """The keys of one partition that begin with `prefix`; rows may change meanwhile."""


class Mailbox(Protocol):
    """Dead letters, to write to."""

    async def write(self, origin: Origin, key: str, error: PictureError) -> None:
        """Write a letter; returns when it is durable."""

    async def clear(self, key: str) -> None:
        """Delete the letter about `key`, if there is one; returns when that is durable."""
