"""The Qdrant collection a sink fills: `<collection>.<incarnation>` behind the alias `<collection>`.

An incarnation is 8 random hex digits. It is part of the consumer group's name, so that a collection that is made anew
(Qdrant lost it, or somebody deleted it) is filled from the earliest offset by itself.

Sinks that start at the same time agree on one incarnation, and none that dies on the way leaves anything behind.
Qdrant replaces an alias without a word, so an alias elects nobody; but of two who create the same collection one is
told that it exists. So the first to create `<collection>.opening` decides the incarnation, which that collection's
metadata carries, and everybody who finds it finishes the work: each step may be done twice.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

import structlog
from qdrant_client import QdrantClient, models

from pixeldetective.errors import PixdError
from pixeldetective.qdrant import ERRORS, Fault, details, fault
from pixeldetective.records import VECTOR

log = structlog.get_logger(__name__)

INCARNATION = re.compile(r"[0-9a-f]{8}")

_KEYWORD = models.PayloadSchemaType.KEYWORD
_INTEGER = models.PayloadSchemaType.INTEGER
INDEXES: dict[str, models.PayloadSchemaType | models.TextIndexParams] = {
    "sha256": _KEYWORD,
    "paths": _KEYWORD,
    "libraries": _KEYWORD,
    "format": _KEYWORD,
    "camera": _KEYWORD,
    "lens": _KEYWORD,
    "tags": _KEYWORD,
    "taken_at": models.PayloadSchemaType.DATETIME,
    "size": _INTEGER,
    "width": _INTEGER,
    "height": _INTEGER,
    "gps": models.PayloadSchemaType.GEO,
    "caption": models.TextIndexParams(
        type=models.TextIndexType.TEXT, tokenizer=models.TokenizerType.WORD, lowercase=True
    ),
}


@dataclass(frozen=True)
class Opened:
    """A collection that exists."""

    name: str  # the alias
    physical: str  # the name in Qdrant
    incarnation: str
    model: str


def physical_name(name: str, incarnation: str) -> str:
    """What Qdrant calls an incarnation of a collection."""
    return f"{name}.{incarnation}"


def find(client: QdrantClient, name: str) -> Opened | None:
    """The collection behind the alias `name`, None if there is none.

    Raises PixdError if the alias leads to a collection that is not ours.
    """
    aliases = {alias.alias_name: alias.collection_name for alias in client.get_aliases().aliases}
    physical = aliases.get(name)
    if physical is None:
        return None
    metadata = _metadata(client, physical)
    if metadata is None:
        return None  # deleted since
    incarnation, model = metadata.get("incarnation"), metadata.get("model")
    if not isinstance(incarnation, str) or not INCARNATION.fullmatch(incarnation) or not isinstance(model, str):
        raise PixdError(
            f"Qdrant's alias “{name}” leads to the collection “{physical}”, which Pixel Detective did not make. Delete "
            "that alias, or give the collection another name (PIXD_COLLECTION)."
        )
    return Opened(name, physical, incarnation, model)


def open_collection(client: QdrantClient, name: str, model: str, dimension: int) -> Opened:
    """Find the collection `name`, or make a new incarnation of it, empty and with its payload indexes.

    May be called by several processes at once: all end at the same incarnation, and no other remains. Raises PixdError
    if the collection is bound to another model or its name is taken, one of ERRORS if Qdrant does not answer.
    """
    while True:
        opened = find(client, name)
        if opened is None:
            decided = _decide(client, name, model, dimension)
            # Only now: whoever finished before us removed its decision after the alias was set.
            opened = find(client, name)
            if opened is None:
                incarnation = str(decided["incarnation"])
                create(client, name, incarnation, str(decided["model"]), int(decided["dimension"]))
                point_alias(client, name, incarnation)
                log.info("collection made", collection=name, **decided)
            client.delete_collection(_opening(name))
            continue
        if opened.model != model:
            raise PixdError(
                f"The collection “{name}” is bound to the model {opened.model}, not to {model}: their vectors cannot "
                f"be compared. Use another collection for {model}, or make this one anew with "
                f"`pixd collections reindex {name}`."
            )
        return opened


def create(client: QdrantClient, name: str, incarnation: str, model: str, dimension: int) -> None:
    """Make an incarnation with all its payload indexes, not yet behind the alias. May be called twice."""
    physical = physical_name(name, incarnation)
    _create(
        client,
        physical,
        {"incarnation": incarnation, "model": model},
        {VECTOR: models.VectorParams(size=dimension, distance=models.Distance.COSINE)},
    )
    for key, schema in INDEXES.items():
        client.create_payload_index(physical, key, field_schema=schema, wait=True)


def point_alias(client: QdrantClient, name: str, incarnation: str) -> None:
    """Let the alias `name` lead to an incarnation. Raises PixdError if a collection is itself called `name`."""
    action = models.CreateAliasOperation(
        create_alias=models.CreateAlias(collection_name=physical_name(name, incarnation), alias_name=name)
    )
    try:
        client.update_collection_aliases([action])
    except ERRORS as error:
        if "already exists" not in details(error):
            raise
        client.delete_collection(physical_name(name, incarnation))
        client.delete_collection(_opening(name))
        raise PixdError(
            f"Qdrant already has a collection called “{name}” that Pixel Detective did not make. Delete it there, or "
            "give ours another name (PIXD_COLLECTION)."
        ) from None


def _decide(client: QdrantClient, name: str, model: str, dimension: int) -> dict[str, Any]:
    """The incarnation that all who are opening the collection now will make, with its model and dimension."""
    proposal = {"incarnation": secrets.token_hex(4), "model": model, "dimension": dimension}
    while True:
        _create(client, _opening(name), proposal, {})
        decided = _metadata(client, _opening(name))
        if decided is not None:
            return decided
        time.sleep(0.05)  # somebody finished between the two requests


def _opening(name: str) -> str:
    return f"{name}.opening"


def _create(
    client: QdrantClient, physical: str, metadata: dict[str, Any], vectors: dict[str, models.VectorParams]
) -> None:
    try:
        client.create_collection(physical, vectors_config=vectors, metadata=metadata)
    except ERRORS as error:
        if "already exists" not in details(error):
            raise


def _metadata(client: QdrantClient, physical: str) -> dict[str, Any] | None:
    try:
        return client.get_collection(physical).config.metadata or {}
    except ERRORS as error:
        if fault(error) is Fault.NO_COLLECTION:
            return None
        raise
