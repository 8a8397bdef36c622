"""Every record that travels through Kafka, one struct each, JSON on the wire.

Unknown fields are ignored and new fields are optional, so that old and new processes can run side by side. The topic,
its key, its writers and its readers stand in `topics.py`.
"""

from __future__ import annotations

import base64
import uuid
from typing import Annotated, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from pixeldetective.images.metadata import Metadata

VECTOR = "image"  # the name of the vector of a point in Qdrant

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Look(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="look"):
    """A hint on `file-events`: this path may have changed, look at the file as it is now."""

    path: str  # path id
    scan: str | None = None  # the scan that saw the file; its marker looks at what it did not see
    force: bool = False  # read the bytes again and say again what is true
    suspects: tuple[str, ...] = ()  # contents that claim this path; each that is wrong is told to leave


class ScanFinished(msgspec.Struct, frozen=True, tag_field="kind", tag="scan-finished"):
    """A marker on every partition of `file-events`: all that the scan saw of this library stands before it."""

    library: str
    scan: str


FileEvent = Look | ScanFinished


class Join(msgspec.Struct, frozen=True, tag_field="kind", tag="join"):
    """`path` has this content (the record's key) since `version`."""

    path: str
    version: int
    size: int  # bytes


class Leave(msgspec.Struct, frozen=True, tag_field="kind", tag="leave"):
    """`path` no longer has this content since `version`."""

    path: str
    version: int


class Republish(msgspec.Struct, frozen=True, tag_field="kind", tag="republish"):
    """Write the state of this content to `contents` once more."""


ContentChange = Join | Leave | Republish


class Content(msgspec.Struct, frozen=True):
    """The full state of one content: a record of `contents`. A tombstone means that no path is left."""

    sha256: Sha256
    size: int  # bytes
    paths: tuple[str, ...]  # path ids, sorted
    version: int  # grows with every record of this content


class Embedding(msgspec.Struct, frozen=True):
    """What a model made of one content: a record of `embeddings.<model>`."""

    vector: str  # base64 of little-endian float32, unit length
    metadata: Metadata
    caused_by: int  # offset of the record in the same partition of `contents` that this answers


class Caption(msgspec.Struct, frozen=True):
    """One sentence about one content: a record of `captions.<model>`."""

    caption: str
    caused_by: int  # as in Embedding


class Counts(msgspec.Struct, frozen=True):
    """How much there is in one partition of `contents`: a record of `counts`."""

    libraries: dict[str, int]  # files by library
    contents: int


class Library(msgspec.Struct, frozen=True, tag_field="kind", tag="library"):
    """A watched folder: a record of `registry`. Written by `pixd up` and `pixd libraries`, read by every stage."""

    name: str
    root: str  # absolute path, quoted as in path ids
    # Which folder the root was when it was added or last confirmed: another one at the same place must not look like a
    # library whose files were all deleted. A device number may change with every start, so f_fsid goes before it.
    device: int | None = None  # st_dev
    inode: int | None = None  # st_ino
    file_system: int = 0  # f_fsid; 0: the file system has none
    emptied: bool = False  # it was found empty at a start although files of it were known: held until it is not


class Collection(msgspec.Struct, frozen=True, tag_field="kind", tag="collection"):
    """A Qdrant collection and what fills it: a record of `registry`."""

    name: str
    model: str  # model id, as in PIXD_MODEL
    captions: str | None = None  # caption model id
    libraries: tuple[str, ...] = ()  # names; empty: all


Registered = Library | Collection

T = TypeVar("T")
_encoder = msgspec.json.Encoder()
_file_event = msgspec.json.Decoder(FileEvent)
_content_change = msgspec.json.Decoder(ContentChange)
_content = msgspec.json.Decoder(Content)
_embedding = msgspec.json.Decoder(Embedding)
_caption = msgspec.json.Decoder(Caption)
_registered = msgspec.json.Decoder(Registered)

# Each raises msgspec.DecodeError (ValidationError among them) for bytes that are not such a record.
file_event = _file_event.decode
content_change = _content_change.decode
content = _content.decode
embedding = _embedding.decode
caption = _caption.decode
registered = _registered.decode


def encode(record: msgspec.Struct) -> bytes:
    """A record as the bytes of a Kafka message's value."""
    return _encoder.encode(record)


def encode_vector(vector: NDArray[np.float32]) -> str:
    """A vector, (dimension,) float32, as it stands in an `Embedding`: base64 of little-endian float32."""
    return base64.b64encode(np.ascontiguousarray(vector, dtype="<f4").tobytes()).decode("ascii")


def decode_vector(text: str) -> NDArray[np.float32]:
    """The vector in an `Embedding`, (dimension,) float32. Raises ValueError if it is not one."""
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float32)


def point_id(sha256: str) -> str:
    """The id of a content's point in Qdrant, the same in every collection."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, sha256))
