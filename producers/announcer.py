"""From files to records on `file-events`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from confluent_kafka import KafkaException
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential
from tenacity.nap import sleep_using_event

from pixeldetective import paths, records
from pixeldetective.kafka import ConfirmedProducer
from pixeldetective.metrics import FILES_ANNOUNCED
from pixeldetective.records import Look
from pixeldetective.topics import FILE_EVENTS

log = structlog.get_logger(__name__)

CONFIRMATION = 20.0  # seconds until an attempt counts as failed; a broker restarts in less


class Announcer(Protocol):
    """Where the watcher's paths go."""

    def announce(self, path_ids: Sequence[str]) -> None:
        """Return when every path is announced durably; raise if that will not be."""


def namer(library: str, root: bytes) -> Callable[[bytes], str]:
    """A function from the path of a file below `root` to its path id: `paths.path_id` in 0.3 µs instead of 5.

    The paths must begin with `root` as it is given here, as those of a walk do.
    """
    start = len(root if root.endswith(b"/") else root + b"/")
    quote = paths.quote
    return lambda path: f"{library}/{quote(path[start:])}"


def send_look(producer: ConfirmedProducer, path_id: str, scan: str | None = None) -> None:
    """Queue a look; durable after the producer's next `flush`. Waits while the producer's queue is full."""
    producer.send(FILE_EVENTS, path_id, records.encode(Look(path_id, scan=scan)))


class KafkaAnnouncer:
    """Announces paths, however long Kafka is away.

    Guarantee: when `announce` returns, every look is durable. An attempt that is not confirmed is made again, whole and
    with a new producer (one that met a fatal error refuses for ever), so a look may come twice, never not at all. Only
    once `stopping` is set does it give up: then it raises KafkaException. Memory is that of one call's paths.
    """

    def __init__(self, connect: Callable[[], ConfirmedProducer], stopping: threading.Event) -> None:
        self._connect = connect
        self._stopping = stopping
        self._producer = connect()

    def announce(self, path_ids: Sequence[str]) -> None:
        """Send looks at these paths and wait until they are durable."""
        for attempt in Retrying(
            retry=retry_if_exception_type(KafkaException),
            wait=wait_exponential(multiplier=0.1, max=5.0),
            stop=stop_when_event_set(self._stopping),
            sleep=sleep_using_event(self._stopping),
            before_sleep=self._reconnect,
            reraise=True,
        ):
            with attempt:
                for path_id in path_ids:
                    send_look(self._producer, path_id)
                # Whoever stops us waits for this: a few seconds suffice while Kafka is there.
                self._producer.flush(2.0 if self._stopping.is_set() else CONFIRMATION)
        FILES_ANNOUNCED.labels(source="watch").inc(len(path_ids))

    def _reconnect(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("Kafka does not confirm, trying again", attempt=state.attempt_number, error=str(error))
        self._producer = self._connect()
