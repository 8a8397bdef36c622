"""The process that fills one collection: fold, write, settle letters, commit, in that order and no other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event

import structlog
from qdrant_client import QdrantClient

from pixeldetective import kafka, metrics, process, records, topics
from pixeldetective.errors import PictureError, PixdError
from pixeldetective.kafka import ConfirmedProducer
from pixeldetective.letters import Letters
from pixeldetective.models.model import dimension_of
from pixeldetective.qdrant import ERRORS, connect, patiently
from pixeldetective.registry import Registry
from pixeldetective.settings import Settings
from pixeldetective.stack.addresses import endpoints
from sinks.collection import Opened, find, open_collection
from sinks.fold import Folded, fold
from sinks.intake import Intake, PartitionsLostError, StoppedError, check_topics
from sinks.lanes import Absent, Entry, Lanes, Reader
from sinks.points import Change, Plan, plan
from sinks.writer import CollectionGoneError, Writer

log = structlog.get_logger(__name__)

# A sink that dies is noticed after this. Batches take well under a second, and the heartbeat has a thread of its own.
SESSION = 10.0  # seconds
BATCHES = 4  # requests' worth of records at most in a batch: letters and commits are then a small part of the time
WATCH = 2.0  # seconds between two looks at the registry and the alias


class Sink:
    """Fills one incarnation of a collection with the partitions Kafka gives it.

    Guarantee: an offset is committed only after Qdrant has confirmed what the records before it say and the letters
    about those that failed are durable. Everything may happen twice and comes to the same.
    """

    def __init__(
        self,
        settings: Settings,
        bootstrap: str,
        client: QdrantClient,
        collection: records.Collection,
        opened: Opened,
        *,
        dimension: int,
        stopping: Event,
        lanes: Lanes | None = None,
        session: float = SESSION,
        worker_id: str = "sink",
    ) -> None:
        lanes = lanes or Lanes.of(collection)
        self.group = topics.sink_group(collection.name, opened.incarnation)
        self.stage = topics.sink_stage(collection.name)
        self._limit = settings.upsert_batch_size * BATCHES
        self._client = client
        self._opened = opened
        self._stopping = stopping
        self._next_watch = 0.0
        consumer = kafka.consumer(
            settings,
            bootstrap,
            self.group,
            client_id=worker_id,
            # One consumer owns a key in all lanes: range gives it the same partitions of each topic.
            partition_assignment_strategy="range",
            session_timeout_ms=int(session * 1000),
            heartbeat_interval_ms=1000,  # a member hears of a rebalance with its next heartbeat
            # While one lane is paused or idle, records of another should not wait for its fetch.
            fetch_wait_max_ms=100,
        )
        check_topics(consumer, lanes)
        self._producer = ConfirmedProducer(settings, bootstrap)
        self._letters = Letters(settings, bootstrap, self._producer, group=self.group, stage=self.stage)
        self.intake = Intake(
            consumer,
            lanes,
            Reader(lanes, dimension, collection.libraries),
            stopping,
            session=session,
            on_assigned=self._letters.sync,
        )
        self._writer = Writer(
            client,
            opened.physical,
            size=settings.upsert_batch_size,
            wait=self.intake.keep_alive,
            may_write=self.intake.check,
        )

    def run(self, changed: Callable[[], bool] = lambda: False) -> None:
        """Fill the collection until the process is to stop, the collection is gone or moved, or `changed()` is true.

        In any of these cases it leaves the group and returns.
        """
        try:
            while not self._stopping.is_set():
                entries = self.intake.batch(self._limit, timeout=0.25)
                try:
                    if entries or self.intake.open_dead_gates():
                        self.step(entries or self.intake.held())
                    else:
                        self.intake.commit()
                except PartitionsLostError:
                    log.info("partitions lost, batch dropped", collection=self._opened.name)
                if not self._is_current() or changed():
                    return
        except StoppedError:
            pass
        except CollectionGoneError:
            log.error("Qdrant has lost the collection", collection=self._opened.physical)
        finally:
            self.intake.close()
            self._letters.close()

    def step(self, entries: Sequence[Entry]) -> None:
        """Take one batch from its records to its commit."""
        folded = fold(entries, self.intake.passed)
        existing = self._writer.existing(folded.keys)
        planned = plan(folded, existing, self._opened.model)
        refused = self.write(planned.changes)
        self.settle(planned, refused)
        self.commit(folded)

    def write(self, changes: Sequence[Change]) -> list[tuple[Change, PictureError]]:
        """Write a batch's changes; returns what Qdrant refuses."""
        return self._writer.write(changes)

    def settle(self, planned: Plan, refused: Sequence[tuple[Change, PictureError]]) -> None:
        """Write letters about what failed and clear those about what did not; returns when they are durable."""
        failed = [(entry, entry.error) for entry in planned.errors if entry.error is not None]
        failed += [(change.entry, error) for change, error in refused]
        bad = {id(entry) for entry, _ in failed}
        for entry in planned.settled:
            letter = None if id(entry) in bad else self._letters.get(entry.key)
            # A lane answers for itself: a good caption says nothing about a vector that was refused.
            if letter is not None and (isinstance(entry.state, Absent) or letter.topic == entry.message.topic()):
                self._letters.clear(entry.key)
        for entry, error in failed:
            self._letters.write(entry.message, entry.key, error)
            metrics.LETTERS_WRITTEN.labels(self.stage, error.reason.value).inc()
            log.warning("given up on", key=entry.key, error=error.reason.value, reason=str(error))
        self._producer.flush()

    def commit(self, folded: Folded) -> None:
        """Commit a batch whose effects are all durable."""
        self.intake.done(folded)
        self.intake.commit()

    def _is_current(self) -> bool:
        if time.monotonic() < self._next_watch:
            return True
        self._next_watch = time.monotonic() + WATCH
        try:
            found = find(self._client, self._opened.name)
        except ERRORS:
            return True  # the next write will say what is wrong
        if found == self._opened:
            return True
        log.warning("the collection is gone or was replaced", collection=self._opened.physical)
        return False


def run(settings: Settings, collection: str, worker_id: str) -> None:
    """Fill the collection `collection` until SIGTERM; call it from the main thread.

    If Qdrant loses the collection or its registration changes, it is opened anew. Raises PixdError if it is not
    registered, is bound to another model, or Kafka cannot be reached.
    """
    process.configure_logging(settings)
    stopping = process.stop_on_signals()
    structlog.contextvars.bind_contextvars(worker=worker_id)
    metrics.serve(settings.metrics_port)
    where = endpoints(settings)
    client = connect(settings, where)
    try:
        with Registry(settings, where.kafka_bootstrap) as registry:
            while not stopping.is_set():
                _fill(settings, where.kafka_bootstrap, client, registry, collection, worker_id, stopping)
    except StoppedError:
        pass
    finally:
        client.close()


def _fill(
    settings: Settings,
    bootstrap: str,
    client: QdrantClient,
    registry: Registry,
    name: str,
    worker_id: str,
    stopping: Event,
) -> None:
    registered = registry.collections.get(name)
    if registered is None:
        raise PixdError(f"There is no collection “{name}”. `pixd collections create {name}` makes one.")

    def wait(seconds: float) -> None:
        if stopping.wait(seconds):
            raise StoppedError

    dimension = dimension_of(registered.model)
    opened = patiently(lambda: open_collection(client, name, registered.model, dimension), wait)
    sink = Sink(
        settings, bootstrap, client, registered, opened, dimension=dimension, stopping=stopping, worker_id=worker_id
    )
    log.info("filling", collection=opened.physical, group=sink.group)

    def changed() -> bool:
        return registry.collections.get(name) != registered

    sink.run(changed)
    if changed():
        log.warning("the collection's registration has changed", collection=name)
    wait(0.5)  # whatever made it end may still be going on
