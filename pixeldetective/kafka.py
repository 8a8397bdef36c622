"""Kafka at the edge: how this project's clients are configured, and a producer that confirms.

All producers use the Java-compatible partitioner, as aiokafka inside Faust does, so a key has the same partition
number in every topic.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from pixeldetective.errors import PixdError
from pixeldetective.settings import Settings

Headers = Sequence[tuple[str, bytes]]

SESSION_TIMEOUT_MS = 10_000
MAX_MESSAGE_BYTES = 16 << 20  # a content with very many copies; topics allow as much


def connection(settings: Settings, bootstrap: str) -> dict[str, Any]:
    """The librdkafka properties that every client of this installation needs, security among them."""
    config: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "security.protocol": settings.kafka_security_protocol,
        # A broker that restarts is asked again soon: the default lets a client sleep for ten seconds.
        "reconnect.backoff.max.ms": 1000,
        # Its connection errors are ours to report, in sentences, not librdkafka's to print.
        "log_level": 2,
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        config["sasl.mechanism"] = settings.kafka_sasl_mechanism
        config["sasl.username"] = settings.kafka_sasl_username
        config["sasl.password"] = settings.kafka_sasl_password
    if settings.kafka_ssl_ca_location:
        config["ssl.ca.location"] = settings.kafka_ssl_ca_location
    return config


def admin(settings: Settings, bootstrap: str) -> AdminClient:
    """An admin client."""
    return AdminClient(connection(settings, bootstrap))


def check(settings: Settings, bootstrap: str, timeout: float = 10.0) -> None:
    """Raise PixdError with a sentence unless Kafka answers within `timeout` seconds."""
    if not any(_listens(server) for server in bootstrap.split(",")):
        raise PixdError(
            f"Nothing listens at {bootstrap}. "
            + (
                "Is PIXD_KAFKA_BOOTSTRAP right?"
                if settings.kafka_bootstrap
                else "The local stack is not running, or Kafka is just being restarted (`pixd ps` tells): `pixd up` "
                "starts it, and everything goes on."
            )
        )
    try:
        admin(settings, bootstrap).list_topics(timeout=timeout)
    except KafkaException as error:
        raise PixdError(
            f"Kafka at {bootstrap} does not answer within {timeout:g} s ({error.args[0].str()}). Is it running? "
            "`pixd ps` shows the local stack; PIXD_KAFKA_BOOTSTRAP names another cluster."
        ) from None


def _listens(server: str) -> bool:
    host, _, port = server.strip().rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
    except (OSError, ValueError):
        return False
    return True


def consumer(settings: Settings, bootstrap: str, group: str, **extra: Any) -> Consumer:
    """A consumer that commits only what it was told to store; keyword `a_b` becomes the property `a.b`."""
    return Consumer(
        {
            **connection(settings, bootstrap),
            "group.id": group,
            # How soon the partitions of a worker that was killed for good go to others.
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": SESSION_TIMEOUT_MS // 5,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            **{name.replace("_", "."): value for name, value in extra.items()},
        }
    )


class ConfirmedProducer:
    """A producer whose `send` can be waited for.

    Guarantee: after `flush` returned, every record sent before it is durable on the brokers (acks=all, idempotent, so
    retries neither reorder nor repeat); otherwise `flush` raises. Threads may share one if each of them takes an error
    as the end of the process: whoever flushes first is told of it.
    """

    def __init__(self, settings: Settings, bootstrap: str, **extra: Any) -> None:
        self._producer = Producer(
            {
                **connection(settings, bootstrap),
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 5,
                "message.max.bytes": MAX_MESSAGE_BYTES,
                **{name.replace("_", "."): value for name, value in extra.items()},
            }
        )
        self._lock = threading.Lock()
        self._error: KafkaError | None = None
        self._ends: dict[tuple[str, int], int] = {}

    def send(
        self,
        topic: str,
        key: str | bytes,
        value: bytes | None,
        *,
        headers: Headers = (),
        partition: int | None = None,
        on_confirmed: Callable[[], None] | None = None,
    ) -> None:
        """Queue one record; waits while the queue is full. A value of None is a tombstone.

        `on_confirmed` is called from `poll` or `flush`, in their thread, once the record is durable.
        """

        def delivered(error: KafkaError | None, message: Message) -> None:
            self._delivered(error, message)
            if error is None and on_confirmed is not None:
                on_confirmed()

        where = {} if partition is None else {"partition": partition}
        raw = key.encode("utf-8") if isinstance(key, str) else key
        while True:
            try:
                self._producer.produce(topic, value, raw, headers=list(headers), on_delivery=delivered, **where)
            except BufferError:
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def poll(self) -> None:
        """Serve delivery reports without waiting. Raises KafkaException if a record was refused."""
        self._producer.poll(0)
        self._raise()

    def flush(self, timeout: float = 60.0) -> Mapping[tuple[str, int], int]:
        """Wait until every record is durable.

        Returns the offset after the last confirmed record per (topic, partition) this producer ever wrote to. Raises
        KafkaException if a record was refused or `timeout` seconds passed: then nothing that caused these records may
        be acknowledged.
        """
        left = self._producer.flush(timeout)
        self._raise()
        if left:
            raise KafkaException(KafkaError(KafkaError._MSG_TIMED_OUT, f"{left} records unconfirmed"))
        return dict(self._ends)

    def _raise(self) -> None:
        with self._lock:
            error, self._error = self._error, None
        if error is not None:
            raise KafkaException(error)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        with self._lock:
            if error is not None:
                self._error = error
                return
            end = (message.topic(), message.partition())
            self._ends[end] = max(self._ends.get(end, 0), message.offset() + 1)


def instance_id(settings: Settings, group: str, worker_id: str) -> str:
    """The static member id of one worker of a group, the same after a restart, on no other machine or home.

    A worker that was killed takes its partitions up again at once; the group need not wait for its session to end.
    """
    return f"{group}-{socket.gethostname()}-{settings.home_key}-{worker_id}"


def _is_young(error: BaseException) -> bool:
    young = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
    return isinstance(error, KafkaException) and error.args[0].code() in young


# A topic that was just created has no leader for a moment.
@retry(retry=retry_if_exception(_is_young), wait=wait_fixed(0.1), stop=stop_after_delay(20), reraise=True)
def end_offsets(client: AdminClient, topic: str, timeout: float = 30.0) -> dict[int, int]:
    """The offset after the last record of each partition of `topic`. Raises KafkaException, also if there is none."""
    found = client.list_topics(topic, timeout=timeout).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in found.partitions}
    answers = client.list_offsets(asked, request_timeout=timeout)
    return {place.partition: answer.result().offset for place, answer in answers.items()}
