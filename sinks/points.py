"""What folded states change in Qdrant, and the operations that do it.

Pure. The `contents` lane alone creates and deletes points; the other lanes fill in points that exist. Every lane sets
its own payload keys and nothing else, and what a point already says is not written again, so a replay costs little more
than reading.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from pixeldetective.records import VECTOR, point_id
from sinks.fold import Folded
from sinks.lanes import METADATA_KEYS, Absent, Captioned, Embedded, Entry, Lane, Present

Payload = Mapping[str, Any]


class Action(Enum):
    """What happens to a point."""

    CREATE = auto()
    FILL = auto()  # keys, and perhaps the vector, of a point that exists
    DELETE = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What one lane changes in one point."""

    key: str  # sha256
    action: Action
    entry: Entry  # the record that says so
    payload: Payload = field(default_factory=dict)  # keys to set
    remove: tuple[str, ...] = ()  # keys to delete
    vector: NDArray[np.float32] | None = None  # (dimension,) float32


@dataclass(eq=False)
class Plan:
    """What a batch changes: `changes`, those of a key in the order of the lanes."""

    changes: list[Change]
    settled: list[Entry]  # states that are as they should be once `changes` are written
    errors: list[Entry]  # records that deserve a letter


def plan(folded: Folded, existing: Mapping[str, Payload], model: str) -> Plan:
    """Compare what a batch says with the points that exist (sha256: payload), of those the batch speaks of."""
    contents = folded.states[Lane.CONTENTS]
    changes: list[Change] = []
    settled: list[Entry] = []
    created = set()
    alive = set(existing)
    for key, entry in contents.items():
        settled.append(entry)
        if isinstance(entry.state, Present):
            payload = _own(key, entry.state, model)
            alive.add(key)
            if key not in existing:
                created.add(key)
                changes.append(Change(key, Action.CREATE, entry, payload))
            else:
                changes += _fill(entry, existing[key], payload)
        elif isinstance(entry.state, Absent):
            alive.discard(key)
            if key in existing:
                changes.append(Change(key, Action.DELETE, entry))
    for lane in (Lane.EMBEDDINGS, Lane.CAPTIONS):
        for key, entry in folded.states[lane].items():
            if key not in alive:
                continue  # late: its content is gone, or not in this collection's libraries
            settled.append(entry)
            before = {} if key in created else existing[key]
            if isinstance(entry.state, Embedded):
                changes += _fill(entry, before, entry.state.metadata, METADATA_KEYS, entry.state.vector)
            elif isinstance(entry.state, Captioned):
                changes += _fill(entry, before, {"caption": entry.state.caption})
    errors = [e for (lane, key), e in folded.errors.items() if lane is Lane.CONTENTS or key in alive]
    return Plan(sorted(changes, key=lambda change: change.key), settled, errors)


def operations(changes: Iterable[Change]) -> list[models.UpdateOperation]:
    """The fewest operations that make these changes. Raises ValueError or TypeError for what no request can carry."""
    deletes: list[str] = []
    creates: dict[str, models.PointStruct] = {}
    payloads: dict[str, dict[str, Any]] = {}
    removals: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    vectors: list[models.PointVectors] = []
    for change in changes:
        pid = point_id(change.key)
        if change.action is Action.DELETE:
            deletes.append(pid)
            continue
        if change.action is Action.CREATE:
            # No vector yet: the picture is listed, and not found until it has one.
            creates[pid] = models.PointStruct(id=pid, vector={}, payload={})
        vector = {} if change.vector is None else {VECTOR: change.vector.tolist()}
        if pid in creates:
            creates[pid] = models.PointStruct(
                id=pid,
                vector={**_named(creates[pid].vector), **vector},
                payload={**(creates[pid].payload or {}), **change.payload},
            )
            continue
        if vector:
            vectors.append(models.PointVectors(id=pid, vector=vector))
        if change.payload:
            payloads.setdefault(pid, {}).update(change.payload)
        if change.remove:
            removals[change.remove].append(pid)
    done: list[models.UpdateOperation] = []
    if deletes:
        done.append(models.DeleteOperation(delete=models.PointIdsList(points=list(deletes))))
    if creates:
        done.append(models.UpsertOperation(upsert=models.PointsList(points=list(creates.values()))))
    for keys, ids in removals.items():
        done.append(
            models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=list(keys), points=list(ids)))
        )
    # An operation costs Qdrant about 0.4 ms however small it is: what says the same of many points is said once.
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for pid, payload in payloads.items():
        alike[repr(sorted(payload.items()))].append(pid)
    for ids in alike.values():
        one = models.SetPayload(payload=payloads[ids[0]], points=list(ids))
        done.append(models.SetPayloadOperation(set_payload=one))
    if vectors:
        # Last: who finds a picture sees its metadata, too.
        done.append(models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(points=vectors)))
    return done


def _own(key: str, state: Present, model: str) -> dict[str, Any]:
    return {
        "sha256": key,
        "paths": list(state.paths),
        "libraries": list(state.libraries),
        "size": state.size,
        "model": model,
    }


def _fill(
    entry: Entry,
    before: Payload,
    payload: Payload,
    owned: Sequence[str] = (),
    vector: NDArray[np.float32] | None = None,
) -> list[Change]:
    news = {key: value for key, value in payload.items() if before.get(key) != value}
    gone = tuple(key for key in owned if key in before and key not in payload)
    if not news and not gone and vector is None:
        return []
    return [Change(entry.key, Action.FILL, entry, news, gone, vector)]


def _named(vector: Any) -> dict[str, Any]:
    return vector if isinstance(vector, dict) else {}
