"""What the tests of the sinks share: records as other stages would write them, and topics of a test's own."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic
from numpy.typing import NDArray
from qdrant_client import QdrantClient

from pixeldetective import kafka, records, topics
from pixeldetective.images.metadata import Metadata
from pixeldetective.letters import Letter, decode_letter
from pixeldetective.qdrant import connect
from pixeldetective.settings import Settings
from pixeldetective.stack.addresses import Endpoints, endpoints
from pixeldetective.view import TopicView
from sinks.collection import Opened, find, open_collection
from sinks.lanes import Lanes
from sinks.sink import Sink

DIMENSION = 8
PARTITIONS = 4
MODEL = "builtin"


def sha(name: str) -> str:
    """A content's key."""
    return hashlib.sha256(name.encode()).hexdigest()


def unit(seed: int) -> NDArray[np.float32]:
    """A vector of length 1, (DIMENSION,) float32."""
    vector = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def content(key: str, *paths: str, size: int = 7) -> bytes:
    """A record of `contents`."""
    return records.encode(records.Content(sha256=key, size=size, paths=paths, version=1))


def embedding(vector: NDArray[np.float32] | str, caused_by: int, **metadata: Any) -> bytes:
    """A record of `embeddings`; a vector given as text is written as it stands."""
    text = vector if isinstance(vector, str) else records.encode_vector(vector)
    about = Metadata(width=4, height=3, format="JPEG", **metadata)
    return records.encode(records.Embedding(vector=text, metadata=about, caused_by=caused_by))


def caption(text: str, caused_by: int) -> bytes:
    """A record of `captions`."""
    return records.encode(records.Caption(caption=text, caused_by=caused_by))


@dataclass(frozen=True)
class FakeMessage:
    """A Kafka message for pure tests."""

    lane: str
    at: int
    raw_key: bytes | None
    raw: bytes | None
    where: int = 0

    def topic(self) -> str:
        return self.lane

    def partition(self) -> int:
        return self.where

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes | None:
        return self.raw_key

    def value(self) -> bytes | None:
        return self.raw


def eventually(check: Callable[[], bool], timeout: float = 25.0) -> None:
    """Wait until `check()`; fail after `timeout` seconds."""
    until = time.monotonic() + timeout
    while not check():
        assert time.monotonic() < until, "did not happen"
        time.sleep(0.02)


@dataclass
class World:
    """Lanes and a collection that only one test uses, in the running Kafka and Qdrant."""

    settings: Settings
    libraries: tuple[str, ...] = ()
    name: str = field(default_factory=lambda: "t-" + uuid.uuid4().hex[:10])
    joined: bool = False  # the topics are there: another process has made this world

    def __post_init__(self) -> None:
        self.where: Endpoints = endpoints(self.settings)
        self.bootstrap = self.where.kafka_bootstrap
        self.lanes = Lanes(f"{self.name}-contents", f"{self.name}-embeddings", f"{self.name}-captions")
        self._admin = kafka.admin(self.settings, self.bootstrap)
        if not self.joined:
            self._make_topics()
        self.client = connect(self.settings, self.where)
        self.collection = records.Collection(name=self.name, model=MODEL, libraries=self.libraries)
        self._producer = Producer(
            {**kafka.connection(self.settings, self.bootstrap), "partitioner": "murmur2_random", "linger.ms": 0}
        )
        self._running: list[tuple[Sink, threading.Thread, threading.Event]] = []
        self.failures: list[BaseException] = []

    def _make_topics(self) -> None:
        letters = [topic for topic in topics.fixed() if topic.name in {topics.DEAD_LETTERS, topics.REGISTRY}]
        topics.ensure(self._admin, letters, partitions=self.settings.partitions, replication=1)
        created = self._admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in self.lanes.by_topic])
        for future in created.values():
            future.result()

    def open(self, client: QdrantClient | None = None) -> Opened:
        return open_collection(client or self.client, self.name, MODEL, DIMENSION)

    def send(self, topic: str | None, key: str | bytes | None, value: bytes | None) -> int:
        """Write one record; returns its offset once it is durable."""
        offsets: list[int] = []
        self._producer.produce(
            topic or "", value, key, on_delivery=lambda _error, message: offsets.append(message.offset())
        )
        assert self._producer.flush(10) == 0
        return offsets[0]

    def picture(self, name: str, seed: int, *paths: str, text: str | None = None, **metadata: Any) -> str:
        """A picture as the stages before would announce it: content, embedding, perhaps a caption."""
        key = sha(name)
        at = self.send(self.lanes.contents, key, content(key, *(paths or (f"photos/{name}.jpg",))))
        self.send(self.lanes.embeddings, key, embedding(unit(seed), at, **metadata))
        if text is not None:
            self.send(self.lanes.captions, key, caption(text, at))
        return key

    def many(self, count: int, start: int = 0) -> list[str]:
        """Pictures in bulk: all contents, then all embeddings."""
        keys = [sha(f"{self.name}-{i}") for i in range(start, start + count)]
        places: dict[str, int] = {}
        for i, key in enumerate(keys):
            self._producer.produce(
                self.lanes.contents,
                content(key, f"photos/{start + i}.jpg"),
                key,
                on_delivery=lambda _error, message, key=key: places.update({key: message.offset()}),
            )
            self._producer.poll(0)
        assert self._producer.flush(20) == 0
        for i, key in enumerate(keys):
            self._producer.produce(self.lanes.embeddings, embedding(unit(start + i), places[key]), key)
            self._producer.poll(0)
        assert self._producer.flush(20) == 0
        return keys

    def sink(
        self,
        kind: type[Sink] = Sink,
        *,
        client: QdrantClient | None = None,
        opened: Opened | None = None,
        stopping: threading.Event | None = None,
        session: float = 6.0,
    ) -> Sink:
        return kind(
            self.settings,
            self.bootstrap,
            client or self.client,
            self.collection,
            opened or self.open(),
            dimension=DIMENSION,
            stopping=stopping or threading.Event(),
            lanes=self.lanes,
            session=session,
        )

    def start(self, kind: type[Sink] = Sink, **options: Any) -> tuple[Sink, Callable[[], None]]:
        """Run a sink in a thread; returns it and what stops it."""
        stopping = threading.Event()
        sink = self.sink(kind, stopping=stopping, **options)

        def run() -> None:
            try:
                sink.run()
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                self.failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        self._running.append((sink, thread, stopping))

        def stop() -> None:
            stopping.set()
            thread.join(20)
            assert not thread.is_alive()

        return sink, stop

    def ended(self, sink: Sink) -> Callable[[], bool]:
        """Whether a sink's thread has ended."""
        thread = next(thread for each, thread, _ in self._running if each is sink)
        return lambda: not thread.is_alive()

    def points(self) -> dict[str, tuple[Mapping[str, Any], list[float] | None]]:
        """Every point: sha256 → payload and vector."""
        found: dict[str, tuple[Mapping[str, Any], list[float] | None]] = {}
        if find(self.client, self.name) is None:
            return found
        for point in self.client.scroll(self.name, limit=10_000, with_vectors=True)[0]:
            payload = point.payload or {}
            vector: Any = point.vector or {}
            found[payload.get("sha256", str(point.id))] = (payload, vector.get("image"))
        return found

    def complete(self) -> set[str]:
        """The contents whose points have a vector."""
        return {key for key, (_, vector) in self.points().items() if vector is not None}

    def letters(self) -> dict[str, Letter]:
        """The letters about this test's collection."""
        with TopicView(self.settings, self.bootstrap, topics.DEAD_LETTERS, decode_letter) as view:
            view.sync()
            return {letter.key: letter for _, letter in view if letter.stage == topics.sink_stage(self.name)}

    def close(self) -> None:
        for _, _, stopping in self._running:
            stopping.set()
        for _, thread, _ in self._running:
            thread.join(20)
        for collection in self.client.get_collections().collections:
            if collection.name.startswith(f"{self.name}."):
                self.client.delete_collection(collection.name)
        self.client.close()
        futures = self._admin.delete_topics(list(self.lanes.by_topic))
        for future in futures.values():
            future.result()
