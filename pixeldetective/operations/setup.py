"""What must exist before any worker starts: topics, the default collection, the groups' first offsets."""

from __future__ import annotations

import time

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

from pixeldetective import topics
from pixeldetective.errors import PixdError
from pixeldetective.models.model import resolve, resolve_captions
from pixeldetective.operations.connections import Connections
from pixeldetective.operations.lag import Stage, committed, stages
from pixeldetective.operations.libraries import hold_emptied
from pixeldetective.records import Collection
from pixeldetective.settings import Settings
from pixeldetective.stack.addresses import endpoints

POLL = 0.5  # seconds between two questions whether the servers answer


def prepare(connections: Connections) -> None:
    """Create what is missing; may be called again and by several processes.

    Raises PixdError if what exists does not fit the settings.
    """
    settings = connections.settings
    size = {"partitions": settings.partitions, "replication": settings.replication}
    topics.ensure(connections.admin, topics.fixed(), **size)
    registry = connections.registry
    cache = settings.models_folder
    known = registry.collections.get(settings.collection)
    # A machine without the weights may name the resolved id itself.
    model = settings.model if known and known.model == settings.model else resolve(settings.model, cache=cache).id
    if known is None:
        captions_model = resolve_captions(settings.caption_model, cache=cache).id if settings.caption_model else None
        registry.put(Collection(settings.collection, model, captions=captions_model))
    collection = registry.collections[settings.collection]
    if collection.model != model:
        raise PixdError(
            f"The collection “{collection.name}” is bound to the model {collection.model}, PIXD_MODEL asks for "
            f"{model}: their vectors cannot be compared. Choose another collection with PIXD_COLLECTION, or "
            f"set PIXD_MODEL={collection.model}."
        )
    models = {one.model for one in registry.collections.values()}
    captions = {one.captions for one in registry.collections.values() if one.captions}
    topics.ensure(connections.admin, topics.of_models(models, captions), **size)
    hold_emptied(connections)
    for stage in stages(connections):
        _first_offsets(connections, stage)


def wait_for_servers(settings: Settings, timeout: float) -> None:
    """Wait until Kafka and Qdrant answer. Raises PixdError, saying which does not, once `timeout` seconds passed."""
    endpoints(settings)  # what is not configured is not waited for
    deadline = time.monotonic() + timeout
    while True:
        try:
            with Connections(settings) as connections:
                connections.qdrant.incarnation(settings.collection)
        except PixdError:
            if time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(POLL)


def _first_offsets(connections: Connections, stage: Stage) -> None:
    """Commit offset 0 where a group has committed nothing: its lag is then a number from the first moment on."""
    admin = connections.admin
    known = committed(admin, stage.group)
    metadata = admin.list_topics(timeout=30).topics
    missing = [
        TopicPartition(topic, partition, 0)
        for topic in stage.topics
        for partition in metadata[topic].partitions
        if (topic, partition) not in known
    ]
    if missing:
        futures = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(stage.group, missing)])
        try:
            futures[stage.group].result()
        except KafkaException:
            # The group has members: it is at work, and commits by itself.
            return
