"""A compacted topic as a dictionary that follows it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pixeldetective import kafka
from pixeldetective.errors import PixdError
from pixeldetective.settings import Settings

T = TypeVar("T")
log = structlog.get_logger(__name__)

# decode(key, value, headers) -> what to keep, or None to leave the record out
Decode = Callable[[bytes, bytes, dict[str, bytes]], T | None]


class TopicView(Generic[T]):
    """The newest value of every key of a small compacted topic, kept current by a thread.

    Guarantee: after `sync` returned, the view holds at least everything that was in the topic when `sync` was called.
    It has no consumer group and commits nothing. Close it, or use it in a `with` statement.
    """

    def __init__(self, settings: Settings, bootstrap: str, topic: str, decode: Decode[T]) -> None:
        self._topic = topic
        self._decode = decode
        self._items: dict[bytes, T] = {}
        self._positions: dict[int, int] = {}
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._admin = kafka.admin(settings, bootstrap)
        try:
            partitions = kafka.end_offsets(self._admin, topic, timeout=10)
        except KafkaException as error:
            raise PixdError(f"The topic “{topic}” cannot be read at {bootstrap}: {error.args[0].str()}.") from None
        self._consumer: Consumer = kafka.consumer(settings, bootstrap, f"view-of-{topic}")
        self._consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        self._positions = dict.fromkeys(partitions, 0)
        self._thread = threading.Thread(target=self._follow, name=f"view {topic}", daemon=True)
        self._thread.start()

    def __enter__(self) -> TopicView[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[bytes, T]]:
        with self._changed:
            return iter(list(self._items.items()))

    def __contains__(self, key: bytes) -> bool:
        return key in self._items

    def get(self, key: bytes) -> T | None:
        """The newest value known of `key`."""
        return self._items.get(key)

    def sync(self, timeout: float = 30.0) -> None:
        """Wait until everything that is in the topic now is in the view. Raises PixdError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        try:
            # Not through the consumer: it answers nobody else while its thread polls it.
            ends = kafka.end_offsets(self._admin, self._topic, timeout)
        except KafkaException as error:
            raise PixdError(f"Kafka did not answer while reading “{self._topic}”: {error.args[0].str()}.") from None
        with self._changed:
            while any(self._positions[p] < end for p, end in ends.items()):
                if not self._changed.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    raise PixdError(f"Reading the topic “{self._topic}” took more than {timeout:g} s.")

    def close(self) -> None:
        """Stop following."""
        self._stopped.set()
        self._thread.join()
        self._consumer.close()

    def _follow(self) -> None:
        while not self._stopped.is_set():
            messages = self._consumer.consume(500, timeout=0.1)
            with self._changed:
                for message in messages:
                    error = message.error()
                    if error is None:
                        self._apply(message)
                    elif error.code() != KafkaError._PARTITION_EOF:
                        log.warning("reading failed, trying again", topic=self._topic, error=error.str())
                # Compaction leaves gaps: the position counts, not the last record.
                for place in self._consumer.position([TopicPartition(self._topic, p) for p in self._positions]):
                    self._positions[place.partition] = max(self._positions[place.partition], place.offset)
                self._changed.notify_all()

    def _apply(self, message: Any) -> None:
        key = message.key()
        if key is None:
            return
        value = message.value()
        headers = dict(message.headers() or [])
        try:
            item = None if value is None else self._decode(key, value, headers)
        except Exception as error:  # noqa: BLE001 - one strange record must not blind every process
            log.warning("record left out", topic=self._topic, key=key, error=str(error))
            return
        if item is None:
            self._items.pop(key, None)
        else:
            self._items[key] = item
