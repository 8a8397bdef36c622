"""What an embedder and a captioner have to supply to become a batch worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

P = TypeVar("P")
R = TypeVar("R")


class Task(Protocol, Generic[P, R]):
    """One kind of computation on pictures. A result belongs to (task, sha256) and never changes.

    `P` is a prepared picture, `R` a result.
    """

    group: str  # consumer group, and name of the stage
    topic: str  # where the answers go
    cache_key: bytes  # names the task and everything its results depend on
    answers_for_pictures: bool  # a picture that cannot be read is its failure; False: another stage reports that

    def load(self) -> None:
        """Get ready to compute; slow. Called once, from the device thread."""

    def survive(self, data: bytes, extension: str) -> None:
        """Prepare a picture that may have crashed an earlier process, elsewhere. Raises PictureError if it did."""

    def prepare(self, data: bytes, extension: str) -> P:
        """Decode one picture, on any thread of the pool. Raises PictureError. `extension` is lower case, no dot."""

    def compute(self, batch: Sequence[P]) -> list[R | Exception]:
        """One forward pass, on the device thread: one result, or an error of its own, per member."""

    def encode(self, result: R) -> bytes:
        """A result as it is cached."""

    def decode(self, data: bytes) -> R:
        """Undo `encode`. Raises ValueError if it was written by another version."""

    def answer(self, result: R, caused_by: int) -> bytes:
        """The record that answers the record of `contents` at offset `caused_by`."""
