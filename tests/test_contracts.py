"""Topics, the registry and letters on a real Kafka."""

from __future__ import annotations

import uuid

import pytest

from pixeldetective import kafka, topics
from pixeldetective.errors import PictureError, PixdError, Reason
from pixeldetective.kafka import ConfirmedProducer
from pixeldetective.letters import Letters
from pixeldetective.records import Collection, Library
from pixeldetective.registry import Registry
from pixeldetective.settings import Settings
from pixeldetective.topics import Topic


@pytest.fixture
def stack(local_stack: Settings) -> Settings:
    admin = kafka.admin(local_stack, local_stack.kafka_bootstrap)
    topics.ensure(admin, topics.fixed(), partitions=local_stack.partitions, replication=1)
    return local_stack


def test_topics_are_created_once_and_a_mismatch_is_refused(stack: Settings) -> None:
    admin = kafka.admin(stack, stack.kafka_bootstrap)
    name = f"t-{uuid.uuid4().hex}"
    compacted = Topic(name, {"cleanup.policy": "compact"})
    for _ in range(2):
        topics.ensure(admin, [compacted], partitions=3, replication=1)
    with pytest.raises(PixdError, match=f"“{name}” has 3 partitions, PIXD_PARTITIONS asks for 4"):
        topics.ensure(admin, [compacted], partitions=4, replication=1)
    with pytest.raises(PixdError, match=r"has cleanup\.policy=compact, it must be delete"):
        topics.ensure(admin, [Topic(name, {"cleanup.policy": "delete"})], partitions=3, replication=1)


def test_the_registry_is_what_everyone_sees(stack: Settings) -> None:
    library = Library(f"l-{uuid.uuid4().hex[:8]}", "/some/where", 1, 2)
    collection = Collection(f"c-{uuid.uuid4().hex[:8]}", "builtin", libraries=(library.name,))
    with Registry(stack, stack.kafka_bootstrap) as one, Registry(stack, stack.kafka_bootstrap) as other:
        one.put(library)
        one.put(collection)
        other.sync()
        assert other.library(library.name) == library
        assert other.collections[collection.name] == collection
        assert other.file(f"{library.name}/caf%E9.jpg") == b"/some/where/caf\xe9.jpg"
        other.remove(library)
        one.sync()
        assert one.library(library.name) is None
        assert one.file(f"{library.name}/a.jpg") is None
        one.remove(collection)


class Origin:
    def topic(self) -> str | None:
        return "contents"

    def partition(self) -> int | None:
        return 3

    def offset(self) -> int | None:
        return 42

    def value(self) -> bytes | None:
        return b"{}"


def test_a_letter_counts_attempts_survives_its_writer_and_is_cleared(stack: Settings) -> None:
    group, key = f"g-{uuid.uuid4().hex[:8]}", "a" * 64
    producer = ConfirmedProducer(stack, stack.kafka_bootstrap)

    def letters() -> Letters:
        return Letters(stack, stack.kafka_bootstrap, producer, group=group, stage="stage")

    first = letters()
    first.write(Origin(), key, PictureError(Reason.UNDECODABLE, "It is “damaged”."))
    producer.flush()
    first.close()
    second = letters()
    written = second.write(Origin(), key, PictureError(Reason.UNDECODABLE, "It is “damaged”."))
    assert (written.attempts, written.topic, written.partition, written.offset) == (2, "contents", 3, 42)
    producer.flush()
    second.sync()
    found = second.get(key)
    assert found is not None
    assert (found.reason, found.error, found.stage, found.value) == ("It is “damaged”.", "undecodable", "stage", b"{}")
    second.clear(key)
    producer.flush()
    second.close()
    third = letters()
    assert third.get(key) is None
    third.close()


def test_a_broker_that_is_not_there_gets_a_sentence(stack: Settings) -> None:
    with pytest.raises(PixdError, match="Nothing listens at localhost:1"):
        kafka.check(stack, "localhost:1")
