"""Scanner, announcer and the watcher's process against a real broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from pixeldetective import kafka, paths, records, topics
from pixeldetective.kafka import ConfirmedProducer
from pixeldetective.records import Library, Look, ScanFinished
from pixeldetective.registry import Registry
from pixeldetective.settings import Settings
from producers import announcer
from producers.announcer import KafkaAnnouncer
from producers.scanner import ScanStoppedError, scan
from tests.producers.watching import until

NAMES = [b"a.jpg", b"caf\xe9.jpg", b"two\nlines.jpg", b"50%E9.jpg", b"d/\xff/b.jpg", "Übersee/c.jpg".encode()]


@pytest.fixture
def settings(local_stack: Settings) -> Settings:
    admin = kafka.admin(local_stack, local_stack.kafka_bootstrap)
    topics.ensure(admin, topics.fixed(), partitions=local_stack.partitions, replication=local_stack.replication)
    # Just created, a topic's leaders are still being told for a moment.
    for attempt in Retrying(
        retry=retry_if_exception_type(KafkaException), wait=wait_fixed(0.1), stop=stop_after_delay(30)
    ):
        with attempt:
            kafka.end_offsets(admin, topics.FILE_EVENTS)
    return msgspec.structs.replace(local_stack, quiet=0.3)


@pytest.fixture
def library(tmp_path: Path) -> str:
    """A name that no other test uses: the topic is shared."""
    return f"lib-{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture
def root(tmp_path: Path) -> bytes:
    folder = os.fsencode(tmp_path / "photos")
    long_ago = time.time() - 1000
    for name in NAMES:
        path = os.fsdecode(folder + b"/" + name)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(b"x")
        os.utime(path, (long_ago, long_ago))
    return folder


class Events:
    """Everything in `file-events` from the moment this was made, by partition."""

    def __init__(self, settings: Settings) -> None:
        self.client: Consumer = kafka.consumer(settings, settings.kafka_bootstrap, "test-file-events")
        self.admin = kafka.admin(settings, settings.kafka_bootstrap)
        self.starts = kafka.end_offsets(self.admin, topics.FILE_EVENTS)
        self.client.assign([TopicPartition(topics.FILE_EVENTS, p, at) for p, at in self.starts.items()])
        self.read: list[tuple[int, int, bytes, Look | ScanFinished]] = []  # partition, offset, key, event

    def poll(self, timeout: float = 0.1) -> None:
        for message in self.client.consume(10_000, timeout):
            assert message.error() is None
            event = records.file_event(message.value())
            self.read.append((message.partition(), message.offset(), message.key(), event))

    def to_the_end(self) -> list[tuple[int, int, bytes, Look | ScanFinished]]:
        ends = kafka.end_offsets(self.admin, topics.FILE_EVENTS)
        while any(place.offset < ends[place.partition] for place in self._positions()):
            self.poll()
        return self.read

    def looks(self) -> dict[str, list[Look]]:
        looks: dict[str, list[Look]] = {}
        for _, _, _, event in self.read:
            if isinstance(event, Look):
                looks.setdefault(event.path, []).append(event)
        return looks

    def _positions(self) -> list[TopicPartition]:
        places = self.client.position([TopicPartition(topics.FILE_EVENTS, p) for p in self.starts])
        return [TopicPartition(p.topic, p.partition, max(p.offset, self.starts[p.partition])) for p in places]


@pytest.fixture
def events(settings: Settings) -> Iterator[Events]:
    read = Events(settings)
    yield read
    read.client.close()


def producer(settings: Settings) -> ConfirmedProducer:
    return ConfirmedProducer(settings, settings.kafka_bootstrap)


def test_a_scans_looks_stand_before_its_markers_in_each_partition(
    settings: Settings, events: Events, library: str, root: bytes
) -> None:
    for i in range(500):
        Path(os.fsdecode(root), f"{i}.jpg").write_bytes(b"x")
    result = scan(settings, root, library, producer(settings), settings.partitions)
    assert (result.files, result.unreadable, result.library) == (500 + len(NAMES), 0, library)
    read = events.to_the_end()
    markers = {p: offset for p, offset, _, event in read if event == ScanFinished(library, result.scan)}
    assert result.markers == {p: offset + 1 for p, offset in markers.items()}
    assert markers.keys() == set(range(settings.partitions))
    looks = [(p, offset) for p, offset, _, event in read if isinstance(event, Look) and event.scan == result.scan]
    assert len(looks) == result.files
    assert {p for p, _ in looks} == markers.keys()
    assert all(offset < markers[p] for p, offset in looks)


def test_announced_ids_lead_back_to_the_files_whatever_their_names(
    settings: Settings, events: Events, library: str, root: bytes
) -> None:
    scan(settings, root, library, producer(settings), settings.partitions)
    looks = [(key, event) for _, _, key, event in events.to_the_end() if isinstance(event, Look)]
    assert all(key.decode("utf-8") == event.path for key, event in looks)
    assert {event.path for _, event in looks} == {paths.path_id(library, root, root + b"/" + name) for name in NAMES}
    assert sorted(paths.split(event.path)[1] for _, event in looks) == sorted(NAMES)


def test_a_missing_root_has_markers_and_no_looks(settings: Settings, events: Events, library: str) -> None:
    result = scan(settings, b"/nowhere/at/all", library, producer(settings), settings.partitions)
    assert (result.files, result.unreadable) == (0, 1)
    assert [event for _, _, _, event in events.to_the_end()] == [ScanFinished(library, result.scan)] * 8
    assert result.markers.keys() == set(range(settings.partitions))


def test_a_file_that_is_being_written_comes_last_and_when_it_is_quiet(
    settings: Settings, events: Events, library: str, root: bytes
) -> None:
    path = Path(os.fsdecode(root), "growing.jpg")
    last_write = [0.0]

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            for _ in range(20):
                file.write(b"x")
                last_write[0] = time.monotonic()
                time.sleep(0.05)

    writer = threading.Thread(target=write)
    writer.start()
    until(path.exists)
    result = scan(settings, root, library, producer(settings), settings.partitions)
    assert time.monotonic() >= last_write[0] + settings.quiet - 0.05
    writer.join()
    assert result.files == len(NAMES) + 1


def test_a_file_that_is_written_for_ever_does_not_hold_up_the_scan(
    settings: Settings, library: str, root: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.scanner.PATIENCE", 0.7)
    path = Path(os.fsdecode(root), "log.jpg")
    finished = threading.Event()

    def write() -> None:
        while not finished.wait(0.02):
            with path.open("ab") as file:
                file.write(b"x")

    writer = threading.Thread(target=write)
    writer.start()
    until(path.exists)
    started = time.monotonic()
    result = scan(settings, root, library, producer(settings), settings.partitions)
    finished.set()
    writer.join()
    assert result.files == len(NAMES) + 1
    assert 0.6 < time.monotonic() - started < 5


def test_a_stopped_scan_sends_no_markers(settings: Settings, events: Events, library: str, root: bytes) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(ScanStoppedError):
        scan(settings, root, library, producer(settings), settings.partitions, stopping=stopping)
    assert events.to_the_end() == []


def test_a_scan_that_kafka_does_not_confirm_fails(settings: Settings, library: str, root: bytes) -> None:
    with pytest.raises(KafkaException):  # a partition that does not exist
        scan(settings, root, library, producer(settings), settings.partitions + 1)


def test_what_kafka_did_not_confirm_is_announced_when_it_is_back(
    settings: Settings, events: Events, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcer, "CONFIRMATION", 0.3)
    down = [True, True, True]

    def connect() -> ConfirmedProducer:
        return ConfirmedProducer(settings, "127.0.0.1:9" if down and down.pop() else settings.kafka_bootstrap)

    ids = [f"{library}/{i}.jpg" for i in range(100)]
    KafkaAnnouncer(connect, threading.Event()).announce(ids)
    events.to_the_end()
    assert set(events.looks()) == set(ids)


def test_an_announcer_that_is_told_to_stop_gives_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcer, "CONFIRMATION", 0.3)
    stopping = threading.Event()
    away = KafkaAnnouncer(lambda: ConfirmedProducer(settings, "127.0.0.1:9"), stopping)
    threading.Timer(0.5, stopping.set).start()
    with pytest.raises(KafkaException):
        away.announce(["p/a.jpg"])


def test_the_process_scans_watches_follows_the_registry_and_stops(
    settings: Settings, events: Events, library: str, root: bytes, tmp_path: Path
) -> None:
    environ = {
        **os.environ,
        "PIXD_HOME": str(tmp_path / "home"),
        "PIXD_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "PIXD_QDRANT_URL": settings.qdrant_url or "http://127.0.0.1:9",
        "PIXD_PARTITIONS": str(settings.partitions),
    }
    record = Library(library, paths.quote(root))
    first = paths.path_id(library, root, root + b"/" + NAMES[1])
    with Registry(settings, settings.kafka_bootstrap) as registry, _started(environ) as process:

        def came(condition: Callable[[], bool]) -> None:
            def check() -> bool:
                events.poll(0.01)
                assert process.poll() is None
                return condition()

            until(check)

        registry.put(record)
        came(lambda: first in events.looks())
        assert events.looks()[first][0].scan is not None
        came(lambda: sum(isinstance(event, ScanFinished) for *_, event in events.read) >= settings.partitions)
        delays = []
        for i in range(20):
            Path(os.fsdecode(root), f"new {i}.jpg").write_bytes(b"x" * 10_000)
            closed = time.monotonic()
            came(partial(_looked_at, events, f"{library}/new {i}.jpg"))
            delays.append(time.monotonic() - closed)
        print(f"close to record: median {sorted(delays)[10] * 1000:.1f} ms, worst {max(delays) * 1000:.1f} ms")
        assert sorted(delays)[10] < 0.1
        assert events.looks()[f"{library}/new 0.jpg"] == [Look(f"{library}/new 0.jpg")]
        registry.remove(record)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def _looked_at(events: Events, path_id: str) -> bool:
    return path_id in events.looks()


@contextmanager
def _started(environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    code = "from pixeldetective.settings import load; from producers.watcher import run; run(load())"
    with subprocess.Popen([sys.executable, "-W", "error", "-c", code], env=environ) as process:
        try:
            yield process
        finally:
            process.kill()
