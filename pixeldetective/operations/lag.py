"""Consumer lag, as Kafka's own kafka-consumer-groups computes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient

from pixeldetective import topics
from pixeldetective.errors import PixdError
from pixeldetective.kafka import end_offsets
from pixeldetective.operations.connections import Connections

TIMEOUT = 30.0  # seconds


class Stage(msgspec.Struct, frozen=True):
    """A stage of the pipeline and the consumer group that does its work."""

    name: str
    group: str
    topics: tuple[str, ...]
    awaited: tuple[str, ...]  # the topics that `--wait-idle` waits for: captions come when they come


class PartitionLag(msgspec.Struct, frozen=True):
    """How far a group is in one partition."""

    group: str
    topic: str
    partition: int
    committed: int | None  # the next offset to be read; None: the group has not committed yet
    end: int  # the offset after the last record
    lag: int | None


def stages(connections: Connections) -> list[Stage]:
    """Every stage of this installation, in the order in which data meets them.

    A collection whose Qdrant collection does not exist yet has no group and is left out.
    """
    found = [
        Stage("hashing", topics.STREAM_GROUP, (topics.FILE_EVENTS,), (topics.FILE_EVENTS,)),
        Stage("dedup", topics.STREAM_GROUP, (topics.CONTENT_CHANGES,), (topics.CONTENT_CHANGES,)),
    ]
    collections = connections.registry.collections.values()
    for model in sorted({collection.model for collection in collections}):
        group = topics.embedder_group(model)
        found.append(Stage(group, group, (topics.CONTENTS,), (topics.CONTENTS,)))
    for model in sorted({collection.captions for collection in collections if collection.captions}):
        group = topics.captioner_group(model)
        found.append(Stage(group, group, (topics.CONTENTS,), ()))
    for collection in collections:
        incarnation = connections.qdrant.incarnation(collection.name)
        if incarnation is not None:
            awaited = (topics.CONTENTS, topics.embeddings(collection.model))
            lanes = (*awaited, *((topics.captions(collection.captions),) if collection.captions else ()))
            group = topics.sink_group(collection.name, incarnation)
            found.append(Stage(topics.sink_stage(collection.name), group, lanes, awaited))
    return found


def lags(connections: Connections, of: Iterable[Stage] | None = None) -> list[PartitionLag]:
    """The lag of every partition of these stages' groups (all stages by default), sorted.

    Raises PixdError if Kafka does not answer.
    """
    wanted = list(stages(connections) if of is None else of)
    pairs = sorted({(stage.group, topic) for stage in wanted for topic in stage.topics})
    try:
        last = ends(connections.admin, {topic for _, topic in pairs})
        done = {group: committed(connections.admin, group) for group in {group for group, _ in pairs}}
    except KafkaException as error:
        raise PixdError(f"Kafka did not say how far the groups are: {error.args[0].str()}.") from None
    rows = []
    for group, topic in pairs:
        for partition, end in sorted(last[topic].items()):
            here = done[group].get((topic, partition))
            rows.append(PartitionLag(group, topic, partition, here, end, None if here is None else max(0, end - here)))
    return rows


def ends(admin: AdminClient, names: Iterable[str]) -> dict[str, dict[int, int]]:
    """The offset after the last record, by topic and partition. Raises KafkaException."""
    return {name: end_offsets(admin, name, TIMEOUT) for name in names}


def committed(admin: AdminClient, group: str) -> Mapping[tuple[str, int], int]:
    """The committed offsets of a group, by topic and partition. Raises KafkaException."""
    futures = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=TIMEOUT)
    places = futures[group].result().topic_partitions
    return {(place.topic, place.partition): place.offset for place in places if place.offset >= 0}
