"""The state of the whole installation in one answer."""

from __future__ import annotations

import time

import msgspec

from pixeldetective.operations.connections import Connections
from pixeldetective.operations.counting import counts
from pixeldetective.operations.lag import PartitionLag, Stage, lags, stages
from pixeldetective.operations.libraries import held_because
from pixeldetective.topics import sink_stage

SAMPLE = 0.5  # seconds between the two looks that a rate is computed from


class StageStatus(msgspec.Struct, frozen=True):
    """How far behind a stage is and how fast it works."""

    lag: int | None  # records
    rate: float | None  # records per second


class CountStatus(msgspec.Struct, frozen=True):
    """How many there are of everything; None where that is not known."""

    files: int | None
    contents: int | None
    points: int | None
    failures: int
    searchable: int | None  # points that have a vector: the others are on their way, or failed


class HeldLibrary(msgspec.Struct, frozen=True):
    """A library of which nothing is deleted at present."""

    library: str
    files: int | None
    reason: str


class EndpointStatus(msgspec.Struct, frozen=True):
    """Where the servers are."""

    kafka: str
    qdrant: str
    api: str


class Status(msgspec.Struct, frozen=True):
    """What `pixd status --json` prints."""

    idle: bool
    stages: dict[str, StageStatus]
    counts: CountStatus
    held: list[HeldLibrary]
    endpoints: EndpointStatus
    libraries: dict[str, int | None]  # files by library
    collection: str
    model: str


def status(connections: Connections, *, sample: float = SAMPLE) -> Status:
    """Ask everyone. `sample` is the time in seconds over which rates are measured; 0 leaves them unknown.

    Raises PixdError if Kafka or Qdrant cannot be reached.
    """
    known = stages(connections)
    before, started = lags(connections, known), time.monotonic()
    if sample:
        time.sleep(sample)
    now = lags(connections, known)
    elapsed = time.monotonic() - started
    counted = counts(connections)
    files = {name: counted.libraries.get(name, 0) if counted else None for name in connections.registry.libraries}
    held = [
        HeldLibrary(library.name, files[library.name], because)
        for library in connections.registry.libraries.values()
        if (because := held_because(connections, library)) is not None
    ]
    settings = connections.settings
    collection = connections.registry.collections.get(settings.collection)
    return Status(
        # Not before everyone has begun: until the dedup workers have counted and the sinks have opened, nobody knows.
        idle=counted is not None
        and {stage.name for stage in known} >= {sink_stage(name) for name in connections.registry.collections}
        and all(
            row.lag == 0 for stage in known for row in now if row.group == stage.group and row.topic in stage.awaited
        ),
        stages={stage.name: _stage(stage, before, now, elapsed if sample else 0.0) for stage in known},
        counts=CountStatus(
            files=sum(counted.libraries.values()) if counted else None,
            contents=counted.contents if counted else None,
            points=connections.qdrant.count(settings.collection),
            failures=len(list(connections.letters)),
            searchable=connections.qdrant.count(settings.collection, searchable=True),
        ),
        held=held,
        endpoints=EndpointStatus(
            connections.endpoints.kafka_bootstrap, connections.endpoints.qdrant_url, connections.endpoints.api_url
        ),
        libraries=files,
        collection=settings.collection,
        model=collection.model if collection else settings.model,
    )


def _stage(stage: Stage, before: list[PartitionLag], now: list[PartitionLag], elapsed: float) -> StageStatus:
    mine = [row for row in now if row.group == stage.group and row.topic in stage.topics]
    if not mine or any(row.lag is None for row in mine):
        return StageStatus(None, None)
    then = sum(row.committed or 0 for row in before if row.group == stage.group and row.topic in stage.topics)
    done = sum(row.committed or 0 for row in mine)
    rate = max(0.0, round((done - then) / elapsed, 1)) if elapsed else None
    return StageStatus(sum(row.lag or 0 for row in mine), rate)
