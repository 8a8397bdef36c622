"""The lanes that fill a collection: what came in on one of them, decoded and checked once.

A lane is a topic: `contents` says which pictures there are and where, `embeddings.<model>` and `captions.<model>` what
is known of them. Pure: whatever is wrong with a record ends in its `error`, nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from pixeldetective import paths, records, topics
from pixeldetective.errors import PictureError, Reason
from pixeldetective.images.metadata import Metadata
from sinks import vectors

SHA256 = re.compile(r"[0-9a-f]{64}")

# The keys of the payload that the lane `embeddings` owns, besides the vector.
METADATA_KEYS = ("width", "height", "format", "taken_at", "camera", "lens", "gps", "tags")


class Lane(StrEnum):
    """The kinds of lane, in the order in which they are applied."""

    CONTENTS = "contents"
    EMBEDDINGS = "embeddings"
    CAPTIONS = "captions"


@dataclass(frozen=True)
class Lanes:
    """The topics of a collection's lanes."""

    contents: str
    embeddings: str
    captions: str | None = None

    @classmethod
    def of(cls, collection: records.Collection) -> Lanes:
        """The lanes of a registered collection."""
        captions = topics.captions(collection.captions) if collection.captions else None
        return cls(topics.CONTENTS, topics.embeddings(collection.model), captions)

    @property
    def by_topic(self) -> Mapping[str, Lane]:
        """Which lane each topic is."""
        lanes = {self.contents: Lane.CONTENTS, self.embeddings: Lane.EMBEDDINGS}
        return {**lanes, self.captions: Lane.CAPTIONS} if self.captions else lanes


class Message(Protocol):
    """The part of a Kafka message that is read."""

    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Present:
    """`contents`: the content lies at these paths of the collection's libraries."""

    size: int  # bytes
    paths: tuple[str, ...]  # path ids, sorted
    libraries: tuple[str, ...]  # sorted


@dataclass(frozen=True, slots=True)
class Absent:
    """`contents`: the content has no path, or none in the collection's libraries."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """`embeddings`: what the model made of the content, and what its file says of itself."""

    vector: NDArray[np.float32]
    metadata: Mapping[str, Any]  # the keys that are known, as they stand in the payload


@dataclass(frozen=True, slots=True)
class Captioned:
    """`captions`: one sentence about the content."""

    caption: str


State = Present | Absent | Embedded | Captioned
_Said = tuple[State | PictureError, int | None]  # what a record says, and its caused_by


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One record, read.

    Exactly one of three: `state` says something, `error` says what is wrong with it, or both are None: a tombstone of a
    lane that only fills in, which means nothing, because the `contents` lane alone deletes.
    """

    lane: Lane
    partition: int
    offset: int
    key: str  # sha256; of a record with a wrong key, the key as text
    message: Message
    state: State | None = None
    error: PictureError | None = None
    caused_by: int | None = None  # offset in the same partition of `contents` that has to be passed first


class Reader:
    """Reads the records of one collection's lanes."""

    def __init__(self, lanes: Lanes, dimension: int, libraries: Collection[str] = ()) -> None:
        self._lanes = lanes.by_topic
        self._dimension = dimension
        self._libraries = frozenset(libraries)
        self._read: Mapping[Lane, Callable[[str, bytes], _Said]] = {
            Lane.CONTENTS: self._content,
            Lane.EMBEDDINGS: self._embedding,
            Lane.CAPTIONS: self._caption,
        }

    def read(self, message: Message) -> Entry:
        """Decode and check one record of one of the lanes."""
        lane = self._lanes[message.topic() or ""]
        key = (message.key() or b"").decode("utf-8", "replace")
        said: State | PictureError | None
        caused_by: int | None = None
        value = message.value()
        if not SHA256.fullmatch(key):
            said = PictureError(Reason.BAD_RECORD, "The record's key is not a SHA-256.")
        elif value is None:
            said = Absent() if lane is Lane.CONTENTS else None
        else:
            try:
                said, caused_by = self._read[lane](key, value)
            except (msgspec.DecodeError, UnicodeDecodeError) as problem:
                said = PictureError(Reason.BAD_RECORD, f"The record cannot be read: {problem}.")
        where = (lane, message.partition() or 0, message.offset() or 0, key, message)
        if isinstance(said, PictureError):
            return Entry(*where, error=said, caused_by=caused_by)
        return Entry(*where, state=said, caused_by=caused_by)

    def _content(self, key: str, value: bytes) -> _Said:
        content = records.content(value)
        if content.sha256 != key:
            return PictureError(Reason.BAD_RECORD, f"The record speaks of another content, {content.sha256}."), None
        inside = [p for p in content.paths if not self._libraries or paths.library_of(p) in self._libraries]
        if not inside:
            return Absent(), None
        libraries = tuple(sorted({paths.library_of(p) for p in inside}))
        return Present(content.size, tuple(sorted(inside)), libraries), None

    def _embedding(self, _key: str, value: bytes) -> _Said:
        embedding = records.embedding(value)
        try:
            vector = vectors.checked(embedding.vector, self._dimension)
        except PictureError as error:
            # It waits like a good one: whether its content still exists decides whether there is a letter.
            return error, embedding.caused_by
        return Embedded(vector, metadata_payload(embedding.metadata)), embedding.caused_by

    def _caption(self, _key: str, value: bytes) -> _Said:
        caption = records.caption(value)
        return Captioned(caption.caption), caption.caused_by


def metadata_payload(metadata: Metadata) -> dict[str, Any]:
    """The payload keys of a picture's metadata; what is not known has no key."""
    known = msgspec.to_builtins(metadata)
    return {key: value for key in METADATA_KEYS if (value := known.get(key)) not in (None, "", [], ())}
