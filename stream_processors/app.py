"""The Faust application: two agents around the two stages, and nothing but wiring."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import faust
import msgspec
import structlog
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException

from pixeldetective import metrics, records, topics
from pixeldetective.cache import Cache
from pixeldetective.errors import PictureError, Reason
from pixeldetective.kafka import MAX_MESSAGE_BYTES, SESSION_TIMEOUT_MS, ConfirmedProducer, instance_id
from pixeldetective.letters import Letters, Origin
from pixeldetective.registry import Registry
from pixeldetective.settings import Settings
from pixeldetective.stack.addresses import endpoints
from producers.selection import Selection
from stream_processors import dedup, hashing
from stream_processors.counting import Counting
from stream_processors.heartbeat import Heartbeat
from stream_processors.observing import Limits
from stream_processors.ordered import Ordered, Work
from stream_processors.rows import ContentRow, content_row, path_row
from stream_processors.tables import CHUNK, DurableTable

log = structlog.get_logger(__name__)

SESSION_TIMEOUT = SESSION_TIMEOUT_MS / 1000
CONCURRENCY = 32  # events of one stage worked on at once
OUTSTANDING = 10_000  # events of one stage not yet acknowledged; those that wait for a second look hold nothing else
HASH_CACHE_BYTES = 1 << 30
HASH_THREADS = max(4, 2 * (os.cpu_count() or 1))  # a disk that is waited for needs more than one per core
ATTEMPTS = 3  # at an event that brings a defect to light


@dataclass(frozen=True)
class _Origin:
    """A Faust message as a dead letter speaks of it."""

    message: Any

    def topic(self) -> str:
        return str(self.message.topic)

    def partition(self) -> int:
        return int(self.message.partition)

    def offset(self) -> int:
        return int(self.message.offset)

    def value(self) -> bytes | None:
        value: bytes | None = self.message.value
        return value


class _FaustLog:
    def __init__(self, app: faust.App, heartbeat: Heartbeat) -> None:
        self._app = app
        self._heartbeat = heartbeat

    async def send(self, topic: str, key: str, value: bytes | None) -> None:
        self._heartbeat.check()
        await self._app.producer.send_and_wait(topic, key.encode(), value, None, None, None)


class _Mailbox:
    """Dead letters through a confirmed producer; an unchanged failure is not written again."""

    def __init__(self, letters: Letters, producer: ConfirmedProducer, executor: ThreadPoolExecutor) -> None:
        self._letters = letters
        self._producer = producer
        self._executor = executor

    async def write(self, origin: Origin, key: str, error: PictureError) -> None:
        before = self._letters.get(key)
        if before is not None and (before.error, before.reason) == (error.reason, str(error)):
            return
        self._letters.write(origin, key, error)
        await self._flush()

    async def clear(self, key: str) -> None:
        if self._letters.get(key) is not None:
            self._letters.clear(key)
            await self._flush()

    async def _flush(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, self._producer.flush)


def build(settings: Settings, worker_id: str) -> faust.App:
    """The application of one worker; its tables lie in a folder of their own."""
    bootstrap = endpoints(settings).kafka_bootstrap
    heartbeat = Heartbeat(SESSION_TIMEOUT / 2)
    folder = settings.state_folder / f"stream-{worker_id}"
    folder.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        topics.STREAM_GROUP,
        broker=[f"kafka://{server}" for server in bootstrap.split(",")],
        broker_credentials=_credentials(settings),
        datadir=str(folder),
        store="rocksdb://",
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,  # created explicitly, before any worker starts
        topic_disable_leader=True,
        topic_partitions=settings.partitions,
        processing_guarantee="at_least_once",
        stream_wait_empty=True,
        broker_commit_interval=0.2,
        broker_session_timeout=SESSION_TIMEOUT,
        broker_heartbeat_interval=SESSION_TIMEOUT / 5,
        consumer_group_instance_id=instance_id(settings, topics.STREAM_GROUP, worker_id),
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,
        producer_compression_type="lz4",
        producer_max_request_size=MAX_MESSAGE_BYTES,
        consumer_max_fetch_size=MAX_MESSAGE_BYTES,
        stream_processing_timeout=3600.0,  # an event may wait for a slow disk or a second look
    )
    executor = ThreadPoolExecutor(HASH_THREADS, thread_name_prefix="hash")
    registry = Registry(settings, bootstrap)
    producer = ConfirmedProducer(settings, bootstrap)
    letters = Letters(settings, bootstrap, producer, group=topics.STREAM_GROUP, stage=hashing.STAGE)
    mailbox = _Mailbox(letters, producer, executor)
    cache = Cache(settings.cache_folder / "hashes", HASH_CACHE_BYTES)
    faust_log = _FaustLog(app, heartbeat)
    path_rows = DurableTable(app, topics.PATHS_TABLE, settings.partitions, path_row, heartbeat)
    content_rows = DurableTable(app, topics.CONTENTS_TABLE, settings.partitions, content_row, heartbeat)
    limits = Limits(max_file_size=settings.max_file_size, recheck=settings.recheck)
    selected = Selection(settings).counts
    hasher = hashing.Hashing(faust_log, path_rows, mailbox, registry, cache, limits, executor, selected)
    counting = Counting()
    merger = dedup.Dedup(faust_log, content_rows, counting, grace=settings.grace)
    merged: list[Any] = []  # done, and acknowledged as soon as the counts say so, too
    recount = asyncio.Event()

    def acknowledge(event: Any) -> None:
        event.ack()

    def count_first(event: Any) -> None:
        merged.append(event)
        recount.set()

    hash_order: Ordered[Any] = Ordered(acknowledge, _end, concurrency=CONCURRENCY, outstanding=OUTSTANDING)
    merge_order: Ordered[Any] = Ordered(count_first, _end, concurrency=CONCURRENCY, outstanding=OUTSTANDING)

    def looking(origin: Origin, partition: int, offset: int, look: records.Look) -> Work:
        return _surviving(partial(hasher.look, origin, partition, offset, look), origin, look.path, mailbox)

    async def settle(look: Callable[[records.Look], Work], path: str) -> None:
        await hash_order.within(path, look(records.Look(path)))

    @app.agent(_raw_topic(app, topics.FILE_EVENTS), name="hashing")
    async def hash_files(stream: Any) -> None:
        async for event in stream.noack().events():
            message, origin = event.message, _Origin(event.message)
            try:
                record = records.file_event(message.value)
            except (msgspec.DecodeError, TypeError) as error:
                await _submit_bad(hash_order, event, mailbox, error)
                continue
            hasher.arrived(message.partition, record)
            look = partial(looking, origin, message.partition, message.offset)
            if isinstance(record, records.Look):
                await hash_order.submit(message.partition, record.path, event, look(record))
            else:
                marker = partial(hasher.scan_finished, message.partition, record, partial(settle, look))
                key = f"marker {message.partition} {record.library}"
                await hash_order.submit(message.partition, key, event, _once(marker), slot=False)

    @app.agent(_raw_topic(app, topics.CONTENT_CHANGES), name="dedup")
    async def merge_changes(stream: Any) -> None:
        async for event in stream.noack().events():
            message, origin = event.message, _Origin(event.message)
            try:
                sha256 = message.key.decode("ascii")
                record = records.content_change(message.value)
            except (msgspec.DecodeError, TypeError, AttributeError, UnicodeDecodeError) as error:
                await _submit_bad(merge_order, event, mailbox, error)
                continue
            merge = _every_attempt(partial(merger.change, message.partition, sha256, record))
            await merge_order.submit(message.partition, sha256, event, _surviving(merge, origin, sha256, mailbox))

    @app.on_partitions_assigned.connect
    async def assigned(_app: Any, partitions: Any, **_: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(executor, letters.sync)
        log.info("partitions assigned", count=len(partitions))

    @app.on_partitions_revoked.connect
    async def revoked(_app: Any, partitions: Any, **_: Any) -> None:
        for place in partitions:
            if place.topic == topics.FILE_EVENTS:
                hash_order.forget(place.partition)
                hasher.forget(place.partition)
            elif place.topic == topics.CONTENT_CHANGES:
                merge_order.forget(place.partition)
                merger.forget()
                counting.forget(place.partition)

    async def recovered() -> None:
        recount.set()

    content_rows.on_recovered(recovered)

    @app.task
    async def beat() -> None:
        await heartbeat.beat()

    @app.task
    async def count() -> None:
        while True:
            await recount.wait()
            recount.clear()
            try:
                for place in app.consumer.assignment():
                    if place.topic == topics.CONTENT_CHANGES:
                        await _count_partition(counting, content_rows, place.partition)
                events = merged.copy()
                for partition, counts in counting.changed().items():
                    await faust_log.send(topics.COUNTS, str(partition), records.encode(counts))
            except Exception as error:  # noqa: BLE001 - what was not counted is not acknowledged
                _end(error)
            del merged[: len(events)]
            for event in events:
                event.ack()

    return app


def run(settings: Settings, worker_id: str) -> None:
    """Run one worker until SIGTERM or SIGINT."""
    metrics.serve(settings.metrics_port)
    app = build(settings, worker_id)
    worker = faust.Worker(app, loglevel="WARNING", redirect_stdouts=False, blocking_timeout=60.0)
    worker.execute_from_commandline()


async def _count_partition(counting: Counting, table: DurableTable[ContentRow], partition: int) -> None:
    while (after := counting.position(partition)) is not None:
        rows = table.rows(partition, after)
        counting.count(partition, rows, last=len(rows) < CHUNK)
        await asyncio.sleep(0)


def _raw_topic(app: faust.App, name: str) -> Any:
    return app.topic(
        name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True
    )


def _once(work: Callable[[], Awaitable[None]]) -> Work:
    async def attempt(_number: int) -> float | None:
        await work()
        return None

    return attempt


def _every_attempt(work: Callable[[], Awaitable[float | None]]) -> Work:
    async def attempt(_number: int) -> float | None:
        return await work()

    return attempt


def _surviving(work: Work, origin: Origin, key: str, mailbox: _Mailbox) -> Work:
    """Work whose defects become a letter instead of stopping the partition for ever.

    What Kafka refuses is no defect: it is raised, the process ends and the event is repeated.
    """
    failures = 0

    async def attempt(number: int) -> float | None:
        nonlocal failures
        try:
            return await work(number)
        except (KafkaError, KafkaException):
            raise
        except Exception as error:
            failures += 1
            log.exception("an event failed", key=key, failures=failures)
            if failures < ATTEMPTS:
                return 1.0
            text = f"Pixel Detective failed on this file: {type(error).__name__}: {error}. Please report it."
            await mailbox.write(origin, key, PictureError(Reason.INTERNAL, text))
            return None

    return attempt


async def _submit_bad(order: Ordered[Any], event: Any, mailbox: _Mailbox, error: Exception) -> None:
    message = event.message
    key = (message.key or b"").decode("utf-8", "replace")
    problem = PictureError(Reason.BAD_RECORD, f"The record on {message.topic} does not follow the schema: {error}.")
    work = partial(mailbox.write, _Origin(message), key, problem)
    await order.submit(message.partition, key, event, _once(work))


def _end(error: BaseException) -> None:
    # An agent that raises would acknowledge and drop the event; a process that ends repeats it.
    log.error("cannot go on; ending, the supervisor starts a fresh worker", error=f"{type(error).__name__}: {error}")
    os._exit(1)


def _credentials(settings: Settings) -> Any:
    import ssl

    context = None
    if settings.kafka_security_protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=settings.kafka_ssl_ca_location or None)
    if settings.kafka_security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=settings.kafka_sasl_username,
            password=settings.kafka_sasl_password,
            mechanism=settings.kafka_sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context else None
