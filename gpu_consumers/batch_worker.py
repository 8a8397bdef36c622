"""The batch worker: poll → decode pool → bounded window → batch → device → confirmed produce → offsets in order.

One thread polls and decides; a pool reads and decodes; the device thread computes. Polling never waits for either: a
full window pauses the partitions instead, so the group never loses a worker that is merely busy.
"""

from __future__ import annotations

import os
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from gpu_consumers.device import Device
from gpu_consumers.fetching import NotFetched, fetch
from gpu_consumers.hazards import Hazards
from gpu_consumers.task import Task
from gpu_consumers.window import Entry, Window
from pixeldetective import kafka, records, topics
from pixeldetective.cache import Cache
from pixeldetective.errors import PictureError, Reason
from pixeldetective.kafka import ConfirmedProducer
from pixeldetective.letters import Letters
from pixeldetective.metrics import LETTERS_WRITTEN, RECORDS_ANSWERED, WINDOW
from pixeldetective.records import Content, Look
from pixeldetective.registry import Registry
from pixeldetective.settings import Settings

log = structlog.get_logger(__name__)

P = TypeVar("P")
R = TypeVar("R")

BUSY, IDLE = 0.005, 0.25  # seconds to wait for a record while results are due, and while nothing is
WINDOWS = 4  # batches in the window: one on the device, one ready, the rest being decoded


@dataclass(eq=False)
class _Pending(Generic[R]):
    """All records in the window about one content; the newest of them says what is to be answered."""

    sha256: str
    content: Content
    message: Message
    entries: list[Entry] = field(default_factory=list)
    tried: frozenset[tuple[str, ...]] = frozenset()


class BatchWorker(Generic[P, R]):
    """Answers the records of `contents` with the results of one task.

    Guarantees: every record is answered, by a result, a tombstone or a dead letter, or by the answer to a newer record
    of the same content; its offset is committed only after that answer is durable and every record before it in the
    partition is answered too. Answers about one content come in the order of its records. Records may be answered twice
    after a crash; the second answer equals the first.
    """

    def __init__(
        self,
        settings: Settings,
        bootstrap: str,
        task: Task[P, R],
        worker_id: str,
        *,
        contents: str = topics.CONTENTS,
        threads: int | None = None,
    ) -> None:
        self._task = task
        self._contents = contents
        self._settings = settings
        self._consumer: Consumer = kafka.consumer(
            settings,
            bootstrap,
            task.group,
            group_instance_id=kafka.instance_id(settings, task.group, worker_id),
        )
        self._producer = ConfirmedProducer(settings, bootstrap)
        self._letters = Letters(settings, bootstrap, self._producer, group=task.group, stage=task.group)
        self._registry = Registry(settings, bootstrap)
        self._cache = Cache(settings.cache_folder / "results", settings.cache_size)
        threads = threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._hazards = Hazards(settings.state_folder / f"{task.group}-{worker_id}.reading", threads)
        self._window = Window()
        self._pending: dict[str, _Pending[R]] = {}
        self._results: queue.SimpleQueue[tuple[_Pending[R], R | Exception, bool]] = queue.SimpleQueue()
        self._preparing = 0
        self._paused = False
        self._limit = WINDOWS * settings.batch_size
        self._device: Device[_Pending[R], P, R] = Device(
            task, settings.batch_size, self._computed, lambda: self._preparing
        )

    def run(self, stopping: threading.Event) -> None:
        """Work until `stopping` is set. Raises what makes it impossible to go on; nothing unanswered is committed."""
        self._device.start()
        self._consumer.subscribe(
            [self._contents], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        try:
            while not stopping.is_set():
                self.step()
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._consumer.close()  # commits nothing by itself; `_revoked` does
            self._letters.close()
            self._registry.close()
            self._cache.close()
            self._hazards.close()

    def step(self) -> None:
        """One turn: take what is there, hand on what is done, commit what is durable."""
        if self._device.failure is not None:
            raise self._device.failure
        self._take(BUSY if len(self._window) else IDLE)
        self._hand_on()
        self._producer.poll()
        self._commit()
        self._hold_back()
        WINDOW.labels(group=self._task.group).set(len(self._window))

    # Taking

    def _take(self, timeout: float) -> None:
        # `consume` would wait for the whole batch: the first record is waited for, the rest are those already here.
        first = self._consumer.poll(timeout)
        if first is None:
            return
        for message in [first, *self._consumer.consume(self._limit, timeout=0)]:
            error = message.error()
            if error is None:
                self._accept(message)
            elif error.fatal():
                raise KafkaException(error)
            elif error.code() != KafkaError._PARTITION_EOF:
                log.warning("Kafka", error=error.str())

    def _accept(self, message: Message) -> None:
        entry = self._window.add(message.partition(), message.offset())
        sha256 = (message.key() or b"").decode("ascii", "replace")
        value = message.value()
        if value is None:
            self._answer_gone(sha256, entry)
            return
        try:
            content = records.content(value)
        except msgspec.DecodeError as error:
            problem = PictureError(Reason.BAD_RECORD, f"The record on contents does not follow the schema: {error}.")
            self._write_letter(message, sha256, problem, [entry])
            return
        pending = self._pending.get(content.sha256)
        if pending is not None:
            pending.content, pending.message = content, message
            pending.entries.append(entry)
            return
        pending = _Pending(content.sha256, content, message, [entry])
        self._pending[content.sha256] = pending
        self._begin(pending)

    def _begin(self, pending: _Pending[R]) -> None:
        pending.tried |= {pending.content.paths}
        self._preparing += 1
        self._pool.submit(self._prepare, pending, pending.content)

    # On the pool

    def _prepare(self, pending: _Pending[R], content: Content) -> None:
        try:
            known = self._cached(content.sha256)
            if known is not None:
                self._results.put((pending, known, False))
                return
            fetched = fetch(content, self._registry.file)
            extension = fetched.name.rpartition(".")[2].lower()
            if content.sha256 in self._hazards.suspects:
                self._task.survive(fetched.data, extension)
            with self._hazards.reading(content.sha256):
                prepared = self._task.prepare(fetched.data, extension)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to this picture alone
            self._results.put((pending, error, False))
        else:
            self._device.submit(pending, prepared)

    def _cached(self, sha256: str) -> R | None:
        data = self._cache.get(self._cache_key(sha256))
        if data is None:
            return None
        try:
            return self._task.decode(data)
        except ValueError:
            return None

    def _cache_key(self, sha256: str) -> bytes:
        return self._task.cache_key + b"|" + sha256.encode("ascii")

    # On the device thread

    def _computed(self, pending: _Pending[R], result: R | Exception) -> None:
        if not isinstance(result, Exception):
            self._cache.put(self._cache_key(pending.sha256), self._task.encode(result))
        self._results.put((pending, result, True))

    # Handing on

    def _hand_on(self) -> None:
        while True:
            try:
                pending, result, computed = self._results.get_nowait()
            except queue.Empty:
                return
            self._preparing -= 1
            outcome = "computed" if computed else "cached"
            if self._pending.get(pending.sha256) is not pending:
                continue  # its content is gone, or its partition belongs to another worker
            if isinstance(result, NotFetched) and pending.content.paths not in pending.tried:
                self._begin(pending)  # a newer record knows other paths
                continue
            del self._pending[pending.sha256]
            if pending.sha256 in self._hazards.suspects:
                self._hazards.acquit(pending.sha256)
            if isinstance(result, Exception):
                self._answer_failed(pending, result)
            else:
                answer = self._task.answer(result, pending.message.offset())
                self._send(pending.sha256, answer, pending.entries)
                self._letters.clear(pending.sha256)
                RECORDS_ANSWERED.labels(group=self._task.group, outcome=outcome).inc(len(pending.entries))

    def _answer_gone(self, sha256: str, entry: Entry) -> None:
        entries = [entry]
        overtaken = self._pending.pop(sha256, None)
        if overtaken is not None:
            entries = [*overtaken.entries, entry]
        self._letters.clear(sha256)
        self._send(sha256, None, entries)
        RECORDS_ANSWERED.labels(group=self._task.group, outcome="gone").inc(len(entries))

    def _answer_failed(self, pending: _Pending[R], error: Exception) -> None:
        if isinstance(error, PictureError) and not self._task.answers_for_pictures:
            self._send(pending.sha256, None, pending.entries)
            RECORDS_ANSWERED.labels(group=self._task.group, outcome="left").inc(len(pending.entries))
            return
        if isinstance(error, NotFetched):
            for pid in error.suspects:
                look = Look(pid, force=True, suspects=(pending.sha256,))
                self._producer.send(topics.FILE_EVENTS, pid, records.encode(look))
        if not isinstance(error, PictureError):
            log.error("a picture failed", sha256=pending.sha256, error=f"{type(error).__name__}: {error}")
            error = PictureError(Reason.MODEL_FAILED, f"The model failed on it: {type(error).__name__}: {error}.")
        self._write_letter(pending.message, pending.sha256, error, pending.entries)

    def _write_letter(self, message: Message, sha256: str, error: PictureError, entries: list[Entry]) -> None:
        self._letters.write(message, sha256, error, on_confirmed=lambda: self._window.finish(entries))
        LETTERS_WRITTEN.labels(stage=self._task.group, error=error.reason.value).inc()
        RECORDS_ANSWERED.labels(group=self._task.group, outcome="failed").inc(len(entries))

    def _send(self, sha256: str, value: bytes | None, entries: list[Entry]) -> None:
        self._producer.send(self._task.topic, sha256, value, on_confirmed=lambda: self._window.finish(entries))

    # Committing

    def _commit(self) -> None:
        places = self._committable()
        if places:
            self._consumer.commit(offsets=places, asynchronous=True)

    def _committable(self) -> list[TopicPartition]:
        return [TopicPartition(self._contents, p, offset) for p, offset in self._window.committable().items()]

    def _hold_back(self) -> None:
        full = len(self._window) >= (self._limit // 2 if self._paused else self._limit)
        if full != self._paused:
            assignment = self._consumer.assignment()
            (self._consumer.pause if full else self._consumer.resume)(assignment)
            self._paused = full

    # Rebalancing

    def _assigned(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._letters.sync()
        self._paused = False
        log.info("partitions assigned", group=self._task.group, partitions=[p.partition for p in partitions])

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # What is answered but not confirmed yet takes a moment; what is not answered the next worker answers.
        self._producer.flush()
        places = self._committable()
        if places:
            try:
                consumer.commit(offsets=places, asynchronous=False)
            except KafkaException as error:
                log.warning("last offsets not committed; these records are answered again", error=str(error))
        self._lost(consumer, partitions)

    def _lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for place in partitions:
            self._window.drop(place.partition)
            for sha256 in [s for s, p in self._pending.items() if p.message.partition() == place.partition]:
                del self._pending[sha256]
