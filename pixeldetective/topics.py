"""Every topic: its name, key, value, writers, readers and how Kafka keeps it.

| topic | key | value | written by | read by |
|---|---|---|---|---|
| file-events | path id | FileEvent | watcher, scanner, commands | hashing |
| content-changes | sha256 | ContentChange | hashing, commands | dedup |
| contents | sha256 | Content, tombstone | dedup | embedder, captioner, sink |
| embeddings.<model> | sha256 | Embedding, tombstone | embedder | sink |
| captions.<model> | sha256 | Caption, tombstone | captioner | sink |
| dead-letters | group + key | the original value, tombstone | every stage | commands, every stage its own |
| counts | partition of contents | Counts | dedup | commands |
| registry | kind + name | Library, Collection, tombstone | commands | everyone |
| stream-…-changelog | as its table | row | the Faust tables | the Faust tables, commands |

`ensure` creates what is missing before any worker starts and refuses what does not fit: a key must fall into the same
partition of every topic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from pixeldetective.errors import PixdError
from pixeldetective.kafka import MAX_MESSAGE_BYTES
from pixeldetective.models.slug import slug

FILE_EVENTS = "file-events"
CONTENT_CHANGES = "content-changes"
CONTENTS = "contents"
DEAD_LETTERS = "dead-letters"
REGISTRY = "registry"
COUNTS = "counts"

STREAM_GROUP = "stream"  # the Faust application's id and consumer group: stages hashing and dedup
PATHS_TABLE = "paths"
CONTENTS_TABLE = "contents"

DAY = 24 * 3600 * 1000  # milliseconds
# Tombstones must outlive any pause of a reader: one that never saw the deletion would keep the point for ever.
FOR_EVER = 100 * 365 * DAY


def embeddings(model: str) -> str:
    """The topic of a model's embeddings."""
    return f"embeddings.{slug(model)}"


def captions(model: str) -> str:
    """The topic of a caption model's captions."""
    return f"captions.{slug(model)}"


def changelog(table: str) -> str:
    """The topic from which Faust restores a table."""
    return f"{STREAM_GROUP}-{table}-changelog"


def embedder_group(model: str) -> str:
    """The consumer group of a model's embedders, and the name of their stage."""
    return f"embedder.{slug(model)}"


def captioner_group(model: str) -> str:
    """The consumer group of a caption model's captioners, and the name of their stage."""
    return f"captioner.{slug(model)}"


def sink_stage(collection: str) -> str:
    """The name of a collection's stage."""
    return f"sink.{collection}"


def sink_group(collection: str, incarnation: str) -> str:
    """The consumer group that fills one incarnation of a collection."""
    return f"{sink_stage(collection)}.{incarnation}"


@dataclass(frozen=True)
class Topic:
    """How one topic must exist. `partitions` of None: PIXD_PARTITIONS."""

    name: str
    config: Mapping[str, str] = field(default_factory=dict)
    partitions: int | None = None


def _compacted() -> dict[str, str]:
    return {
        "cleanup.policy": "compact",
        "delete.retention.ms": str(FOR_EVER),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }


def fixed() -> list[Topic]:
    """The topics that every installation has."""
    events = {"cleanup.policy": "delete", "retention.ms": str(7 * DAY)}
    return [
        Topic(FILE_EVENTS, events),
        Topic(CONTENT_CHANGES, events),
        Topic(CONTENTS, _compacted()),
        Topic(DEAD_LETTERS, _compacted()),
        Topic(REGISTRY, _compacted(), partitions=1),
        Topic(COUNTS, _compacted(), partitions=1),
        # A table's changelog needs its tombstones only until every standby has seen them.
        Topic(changelog(PATHS_TABLE), _compacted()),
        Topic(changelog(CONTENTS_TABLE), _compacted()),
    ]


def of_models(models: Iterable[str], caption_models: Iterable[str]) -> list[Topic]:
    """The topics that the models in use need."""
    return [Topic(embeddings(model), _compacted()) for model in models] + [
        Topic(captions(model), _compacted()) for model in caption_models
    ]


def ensure(admin: AdminClient, topics: Iterable[Topic], *, partitions: int, replication: int) -> None:
    """Create the topics that are missing and check those that exist; returns when the brokers know them all.

    May be called by several processes at once. Raises PixdError if a topic exists with another partition count or
    clean-up policy, or if Kafka refuses.
    """
    wanted = {topic.name: topic for topic in topics}
    known = admin.list_topics(timeout=30).topics
    missing = [topic for name, topic in wanted.items() if name not in known]
    if missing:
        futures = admin.create_topics(
            [
                NewTopic(t.name, t.partitions or partitions, replication_factor=replication, config=dict(t.config))
                for t in missing
            ],
            operation_timeout=30,
        )
        for name, future in futures.items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                    raise PixdError(f"Kafka refused to create the topic “{name}”: {error.args[0].str()}.") from None
    _check(admin, wanted, partitions)


@retry(retry=retry_if_exception_type(KafkaException), wait=wait_fixed(0.1), stop=stop_after_delay(30), reraise=True)
def _describe(admin: AdminClient, names: Iterable[str]) -> tuple[dict[str, int], dict[str, str]]:
    """Partition count and clean-up policy by topic. A broker hears of a new topic a moment after it was created."""
    known = admin.list_topics(timeout=30).topics
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    configs = {resource.name: future.result() for resource, future in admin.describe_configs(resources).items()}
    if any(name not in known or known[name].error is not None for name in configs):
        raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    counts = {name: len(known[name].partitions) for name in configs}
    return counts, {name: config["cleanup.policy"].value for name, config in configs.items()}


def _check(admin: AdminClient, wanted: Mapping[str, Topic], partitions: int) -> None:
    counts, policies = _describe(admin, wanted)
    for name, topic in wanted.items():
        found, needed = counts[name], topic.partitions or partitions
        if found != needed:
            raise PixdError(
                f"The topic “{name}” has {found} partitions, PIXD_PARTITIONS asks for {needed}. Partitions of an "
                f"existing installation cannot be changed, because every key would move: set PIXD_PARTITIONS={found}, "
                "or start with a fresh cluster or PIXD_HOME."
            )
        policy, asked = policies[name], topic.config["cleanup.policy"]
        if policy != asked:
            raise PixdError(
                f"The topic “{name}” has cleanup.policy={policy}, it must be {asked}: records would be lost. Mend it "
                f"with: pixd kafka kafka-configs --alter --entity-type topics --entity-name {name} "
                f"--add-config cleanup.policy={asked}"
            )
