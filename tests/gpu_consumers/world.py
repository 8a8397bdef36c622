"""A batch worker on the running Kafka, with topics, a group and files of its own."""

from __future__ import annotations

import ctypes
import faulthandler
import hashlib
import os
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from confluent_kafka import TopicPartition

from gpu_consumers.batch_worker import BatchWorker
from pixeldetective import kafka, paths, records, topics
from pixeldetective.errors import PictureError, Reason
from pixeldetective.kafka import ConfirmedProducer
from pixeldetective.letters import Letter, decode_letter
from pixeldetective.operations.lag import committed
from pixeldetective.records import Content, Library
from pixeldetective.registry import Registry
from pixeldetective.settings import Settings
from pixeldetective.topics import Topic
from pixeldetective.view import TopicView

PARTITIONS = 2
TIMEOUT = 30.0  # seconds


class Crash(BaseException):
    """The process ends here."""


@dataclass
class Shouting:
    """A task whose result is the picture's bytes in capitals; some pictures make it fail."""

    group: str
    topic: str
    cache_key: bytes = b"shouting"
    answers_for_pictures: bool = True
    batches: list[int] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def load(self) -> None:
        """There is no model."""

    def survive(self, data: bytes, extension: str) -> None:
        if data.startswith(b"crash"):
            raise PictureError(Reason.DECODER_CRASHED, "It crashed.")

    def prepare(self, data: bytes, extension: str) -> bytes:
        self.gate.wait(TIMEOUT)
        if data.startswith(b"crash"):
            ctypes.string_at(0)  # a real segmentation fault, in this thread
        if data.startswith(b"undecodable"):
            raise PictureError(Reason.UNDECODABLE, "This is not a picture.")
        return data

    def compute(self, batch: Sequence[bytes]) -> list[bytes | Exception]:
        if len(batch) > 4:
            raise RuntimeError("out of memory")
        if any(data.startswith(b"poison") for data in batch):
            raise ValueError("poison")
        self.batches.append(len(batch))
        return [data.upper() for data in batch]

    def encode(self, result: bytes) -> bytes:
        return result

    def decode(self, data: bytes) -> bytes:
        return data

    def answer(self, result: bytes, caused_by: int) -> bytes:
        return result + b"|%d" % caused_by


class World:
    """One library's folder, the lanes in and out of a worker, and a way to run it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.name = "g-" + uuid.uuid4().hex[:10]
        self.settings = msgspec.structs.replace(settings, home=folder / "home", batch_size=8)
        self.bootstrap = settings.kafka_bootstrap
        self.root = folder / "library"
        self.root.mkdir()
        self.contents, self.answers = f"{self.name}-contents", f"{self.name}-answers"
        self.admin = kafka.admin(self.settings, self.bootstrap)
        own = [Topic(name, {"cleanup.policy": "compact"}) for name in (self.contents, self.answers)]
        topics.ensure(self.admin, topics.fixed(), partitions=settings.partitions, replication=1)
        topics.ensure(self.admin, own, partitions=PARTITIONS, replication=1)
        self.producer = ConfirmedProducer(self.settings, self.bootstrap)
        with Registry(self.settings, self.bootstrap) as registry:
            registry.put(Library(self.name, paths.quote(os.fsencode(self.root))))

    def task(self) -> Shouting:
        return Shouting(f"{self.name}-group", self.answers)

    def worker(self, task: Shouting, kind: type[BatchWorker[bytes, bytes]] = BatchWorker) -> BatchWorker[bytes, bytes]:
        return kind(self.settings, self.bootstrap, task, "1", contents=self.contents, threads=2)

    def file(self, name: str, data: bytes) -> str:
        """Write a file; its sha256."""
        (self.root / name).write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def catalogue(self, data: bytes, *names: str) -> str:
        """Send the state of a content; its sha256. No names: a tombstone."""
        sha256 = hashlib.sha256(data).hexdigest()
        record = Content(sha256, len(data), tuple(f"{self.name}/{name}" for name in names), 1)
        self.producer.send(self.contents, sha256, records.encode(record) if names else None)
        self.producer.flush()
        return sha256

    def put(self, name: str, data: bytes) -> str:
        """A file and its content."""
        self.file(name, data)
        return self.catalogue(data, name)

    def answered(self) -> dict[str, bytes | None]:
        """The newest answer of every content, without the offset that it names."""
        return {key: value.rpartition(b"|")[0] if value else None for key, value in self.history()}

    def history(self) -> list[tuple[str, bytes | None]]:
        """Every answer, in the order of its partition."""
        client = kafka.consumer(self.settings, self.bootstrap, "history")
        found: list[tuple[str, bytes | None]] = []
        try:
            ends = kafka.end_offsets(self.admin, self.answers)
            client.assign([TopicPartition(self.answers, p, 0) for p, end in ends.items() if end])
            while any(
                place.offset < ends[place.partition]
                for place in client.position([TopicPartition(self.answers, p) for p, end in ends.items() if end])
            ):
                messages = client.consume(100, timeout=0.1)
                found += [((message.key() or b"").decode(), message.value()) for message in messages]
        finally:
            client.close()
        return found

    def letters(self) -> dict[str, Letter]:
        """This world's letters by key."""
        view: TopicView[Letter] = TopicView(self.settings, self.bootstrap, topics.DEAD_LETTERS, decode_letter)
        with view:
            view.sync()
            return {letter.key: letter for _, letter in view if letter.group == f"{self.name}-group"}

    def caught_up(self) -> bool:
        done = committed(self.admin, f"{self.name}-group")
        ends = kafka.end_offsets(self.admin, self.contents)
        return all(done.get((self.contents, p), 0) == end for p, end in ends.items())

    def run_in_child(self) -> None:
        """Run a worker in this process, which was forked from one that has clients of its own."""
        faulthandler.disable()  # the crash is meant
        child = World.__new__(World)
        child.__dict__.update(self.__dict__)
        child.admin = kafka.admin(self.settings, self.bootstrap)
        child.run(child.worker(child.task()))
        os._exit(0)

    def run(self, worker: BatchWorker[bytes, bytes]) -> None:
        """Run a worker until everything is answered and committed; raises what it raises."""
        stopping = threading.Event()
        raised: list[BaseException] = []

        def work() -> None:
            try:
                worker.run(stopping)
            except BaseException as error:  # noqa: BLE001 - raised again below
                raised.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        deadline = time.monotonic() + TIMEOUT
        while thread.is_alive() and not self.caught_up():
            assert time.monotonic() < deadline, "not caught up"
            time.sleep(0.05)
        stopping.set()
        thread.join(TIMEOUT)
        if raised:
            raise raised[0]
