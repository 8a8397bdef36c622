"""Dead letters: the address of every failure.

A letter's key is the consumer group that gave up and the key of the record it gave up on, so there is at most one per
stage and file or content. Its value is the original record's; its headers say where that came from and what went wrong.
It is deleted by a tombstone once the same stage succeeds with that key, or the key is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pixeldetective.errors import PictureError, Reason
from pixeldetective.kafka import ConfirmedProducer
from pixeldetective.settings import Settings
from pixeldetective.topics import DEAD_LETTERS
from pixeldetective.view import TopicView

_SEPARATOR = b"|"  # no group contains it


@dataclass(frozen=True)
class Letter:
    """One failure."""

    group: str  # the consumer group that gave up; its stage is `stage`
    key: str  # path id (stage hashing) or sha256
    reason: str  # a sentence
    error: Reason
    topic: str  # the record it gave up on
    partition: int
    offset: int
    attempts: int
    at: float  # seconds since the epoch
    value: bytes = b""  # of the original record
    stage: str = ""

    def headers(self) -> list[tuple[str, bytes]]:
        """The headers of the record."""
        texts = {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "timestamp": int(self.at * 1000),
            "group": self.group,
            "stage": self.stage,
            "error": self.error.value,
            "reason": self.reason,
            "attempts": self.attempts,
        }
        return [(name, str(text).encode("utf-8", "replace")) for name, text in texts.items()]


class Origin(Protocol):
    """The part of a Kafka message that a letter speaks of."""

    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def value(self) -> bytes | None: ...


def letter_key(group: str, key: str) -> bytes:
    """The Kafka key of a letter."""
    return group.encode("utf-8") + _SEPARATOR + key.encode("utf-8", "replace")


def decode_letter(key: bytes, value: bytes, headers: dict[str, bytes]) -> Letter:
    """A record of `dead-letters`. Raises KeyError or ValueError if it is not one."""
    text = {name: header.decode("utf-8", "replace") for name, header in headers.items()}
    return Letter(
        group=text["group"],
        key=key.partition(_SEPARATOR)[2].decode("utf-8", "replace"),
        reason=text["reason"],
        error=Reason(text["error"]),
        topic=text["topic"],
        partition=int(text["partition"]),
        offset=int(text["offset"]),
        attempts=int(text["attempts"]),
        at=int(text["timestamp"]) / 1000,
        value=value,
        stage=text.get("stage", text["group"]),
    )


class Letters:
    """All letters, and this stage's way to write and clear its own.

    Guarantee: `write` and `clear` only queue; they are durable after the producer's next `flush`. `clear` writes
    nothing where there is no letter. Call `sync` after partitions were assigned: the worker before may have written.
    """

    def __init__(
        self, settings: Settings, bootstrap: str, producer: ConfirmedProducer, *, group: str, stage: str
    ) -> None:
        self._producer = producer
        self._group = group
        self._stage = stage
        self._view = TopicView(settings, bootstrap, DEAD_LETTERS, decode_letter)
        self._own: dict[bytes, Letter | None] = {}  # written here, perhaps not yet seen in the view
        self._view.sync()

    def sync(self) -> None:
        """Wait until every letter written so far, by whomever, is known."""
        self._view.sync()

    def get(self, key: str) -> Letter | None:
        """This stage's letter about `key`, or None."""
        return self._known(letter_key(self._group, key))

    def write(
        self, origin: Origin, key: str, error: PictureError, on_confirmed: Callable[[], None] | None = None
    ) -> Letter:
        """Queue a letter about the record `origin` whose key is `key`."""
        raw = letter_key(self._group, key)
        before = self._known(raw)
        letter = Letter(
            group=self._group,
            stage=self._stage,
            key=key,
            reason=str(error),
            error=error.reason,
            topic=origin.topic() or "",
            partition=origin.partition() or 0,
            offset=origin.offset() or 0,
            attempts=(before.attempts if before else 0) + 1,
            at=time.time(),
            value=origin.value() or b"",
        )
        self._producer.send(DEAD_LETTERS, raw, letter.value, headers=letter.headers(), on_confirmed=on_confirmed)
        self._own[raw] = letter
        return letter

    def clear(self, key: str) -> None:
        """Queue the deletion of this stage's letter about `key`, if there is one."""
        raw = letter_key(self._group, key)
        if self._known(raw) is not None:
            self._producer.send(DEAD_LETTERS, raw, None)
            self._own[raw] = None

    def close(self) -> None:
        """Stop following the topic."""
        self._view.close()

    def _known(self, raw: bytes) -> Letter | None:
        seen = self._view.get(raw)
        if raw not in self._own:
            return seen
        own = self._own[raw]
        if (own is None) == (seen is None):
            del self._own[raw]  # the view has caught up; from here on it is the truth, whoever writes
        return own
