"""Writing to Qdrant: confirmed, patient with a server that is not well, strict with a point that is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from qdrant_client import QdrantClient

from pixeldetective import metrics
from pixeldetective.errors import PictureError, Reason
from pixeldetective.qdrant import ERRORS, Fault, details, fault, patiently
from pixeldetective.records import point_id
from sinks.points import Change, operations

T = TypeVar("T")


class CollectionGoneError(Exception):
    """Qdrant has lost the collection: only a new incarnation helps."""


class Writer:
    """Reads and writes the points of one collection.

    Guarantee: when `write` returns, every change that it does not report as refused is confirmed by Qdrant. It may be
    called again with the same changes. While Qdrant is unavailable, overloaded or rate-limited it tries again for ever
    and calls `wait(seconds)` in between, which may raise to give up. `may_write` is called right before each write and
    may raise as well: then nothing more is written.
    """

    def __init__(
        self,
        client: QdrantClient,
        physical: str,
        *,
        size: int,
        wait: Callable[[float], None],
        may_write: Callable[[], None],
    ) -> None:
        self._client = client
        self._physical = physical
        self._size = size  # points per request
        self._wait = wait
        self._may_write = may_write

    def existing(self, keys: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """The payloads of those of these contents that have a point. Raises CollectionGoneError."""
        ids = {point_id(key): key for key in keys}
        if not ids:
            return {}
        points = self._patiently(
            lambda: self._client.retrieve(self._physical, list(ids), with_payload=True, with_vectors=False)
        )
        return {ids[str(point.id)]: point.payload or {} for point in points}

    def write(self, changes: Sequence[Change]) -> list[tuple[Change, PictureError]]:
        """Make these changes, ordered by content; returns those that Qdrant refuses, each with what it said.

        A refused request is halved down to the one change that is wrong, the rest is written. A change of a point that
        is not there any more is dropped. Raises CollectionGoneError, PixdError if the API key is wrong.
        """
        refused: list[tuple[Change, PictureError]] = []
        for part in chunks(changes, self._size):
            self._write(part, refused)
        return refused

    def _write(self, changes: Sequence[Change], refused: list[tuple[Change, PictureError]]) -> None:
        try:
            self._patiently(lambda: self._send(changes))
        except ERRORS as error:
            if len(changes) > 1:
                half = len(changes) // 2
                self._write(changes[:half], refused)
                self._write(changes[half:], refused)
            elif fault(error) is Fault.REFUSED:
                refused.append((changes[0], PictureError(Reason.REFUSED, f"Qdrant refuses it: {details(error)}.")))
        else:
            for change in changes:
                metrics.POINTS_WRITTEN.labels(change.entry.lane).inc()

    def _send(self, changes: Sequence[Change]) -> None:
        updates = operations(changes)
        self._may_write()
        with metrics.UPSERT_SECONDS.time():
            self._client.batch_update_points(self._physical, update_operations=updates, wait=True)

    def _patiently(self, request: Callable[[], T]) -> T:
        try:
            return patiently(request, self._wait)
        except ERRORS as error:
            if fault(error) is Fault.NO_COLLECTION:
                raise CollectionGoneError(self._physical) from None
            raise


def chunks(changes: Sequence[Change], size: int) -> list[Sequence[Change]]:
    """Cut changes ordered by content into parts of at most `size` contents, never between those of one content."""
    parts: list[Sequence[Change]] = []
    start, keys, last = 0, 0, None
    for i, change in enumerate(changes):
        if change.key == last:
            continue
        if keys == size:
            parts.append(changes[start:i])
            start, keys = i, 0
        last = change.key
        keys += 1
    return [*parts, changes[start:]] if start < len(changes) else parts
