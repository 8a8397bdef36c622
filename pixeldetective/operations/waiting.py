"""Waiting until everything that lies in the folders now has been through the pipeline."""

from __future__ import annotations

import time
from collections.abc import Iterable

from confluent_kafka import KafkaException

from pixeldetective import topics
from pixeldetective.errors import PixdError
from pixeldetective.operations.connections import Connections
from pixeldetective.operations.lag import Stage, committed, ends, stages
from pixeldetective.operations.libraries import held_because
from producers.scanner import scan

POLL = 0.1  # seconds between two looks at the committed offsets


def scan_all(connections: Connections, names: Iterable[str] | None = None) -> int:
    """Scan libraries (all by default) from this process; returns how many files were announced.

    Raises PixdError if Kafka does not take the events.
    """
    registry = connections.registry
    files = 0
    for name in list(registry.libraries if names is None else names):
        root = registry.root(name)
        if root is not None:
            try:
                partitions = connections.settings.partitions
                files += scan(connections.settings, root, name, connections.producer, partitions).files
            except KafkaException as error:
                raise PixdError(f"Kafka did not take the file events: {error.args[0].str()}.") from None
    return files


def wait_idle(connections: Connections, timeout: float) -> None:
    """Scan every library, then `wait_through`.

    `timeout` in seconds. Raises PixdError, naming the stage, if it passes, or naming the library if one is held.
    """
    for library in connections.registry.libraries.values():
        because = held_because(connections, library)
        if because is not None:
            raise PixdError(f"The library “{library.name}” is held: no file of it counts as deleted. {because}")
    scan_all(connections)
    wait_through(connections, timeout)


def wait_through(connections: Connections, timeout: float) -> None:
    """Wait for each stage in turn until it has done all that the stage before made it do.

    Each end is read only after the stage before is done. A second look, a grace period or an unfinished batch is not
    committed, so it counts as work. Captions are not waited for. `timeout` in seconds; raises PixdError if it passes.
    """
    deadline = time.monotonic() + timeout
    names = [stage.name for stage in stages(connections)]
    # A sink's group is only known once Qdrant has its collection.
    names += [
        topics.sink_stage(name) for name in connections.registry.collections if topics.sink_stage(name) not in names
    ]
    for name in names:
        _wait_for(connections, name, deadline, timeout)


def _wait_for(connections: Connections, name: str, deadline: float, timeout: float) -> None:
    wanted: dict[tuple[str, int], int] | None = None
    missing: dict[tuple[str, int], int] = {}
    while True:
        stage = next((stage for stage in stages(connections) if stage.name == name), None)
        try:
            if stage is not None:
                if wanted is None:
                    wanted = _ends(connections, stage)
                done = committed(connections.admin, stage.group)
                missing = {place: end for place, end in wanted.items() if done.get(place, 0) < end}
                if not missing:
                    return
        except KafkaException as error:
            raise PixdError(f"Kafka did not say how far “{name}” is: {error.args[0].str()}.") from None
        if time.monotonic() > deadline:
            waiting = "it has not started" if stage is None else f"{len(missing)} partitions are not done"
            raise PixdError(
                f"Not idle after {timeout:g} s: still waiting for {name} ({waiting}). `pixd status` and `pixd ps` "
                "show more."
            )
        time.sleep(POLL)


def _ends(connections: Connections, stage: Stage) -> dict[tuple[str, int], int]:
    return {
        (topic, partition): end
        for topic, by_partition in ends(connections.admin, stage.awaited).items()
        for partition, end in by_partition.items()
    }
