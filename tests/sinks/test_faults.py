"""What breaks on the way, and that nothing is lost by it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import numpy as np
from confluent_kafka import TopicPartition

from pixeldetective import kafka, records, topics
from pixeldetective.errors import PictureError
from pixeldetective.qdrant import connect
from pixeldetective.registry import Registry
from sinks.collection import find
from sinks.fold import Folded
from sinks.points import Change, Plan
from sinks.sink import Sink
from tests.sinks.world import PARTITIONS, World, content, embedding, eventually, sha, unit


class CrashError(Exception):
    """What the sinks below end with."""


class BeforeWrite(Sink):
    def write(self, changes: Sequence[Change]) -> list[tuple[Change, PictureError]]:
        raise CrashError


class AfterWrite(Sink):
    def write(self, changes: Sequence[Change]) -> list[tuple[Change, PictureError]]:
        super().write(changes)
        raise CrashError


class AfterLetters(Sink):
    def settle(self, planned: Plan, refused: Sequence[tuple[Change, PictureError]]) -> None:
        super().settle(planned, refused)
        raise CrashError


class BeforeCommit(Sink):
    def commit(self, folded: Folded) -> None:
        self.intake.done(folded)
        raise CrashError


class AfterCommit(Sink):
    def commit(self, folded: Folded) -> None:
        super().commit(folded)
        raise CrashError


def test_a_crash_between_any_two_steps_changes_nothing_in_the_end(world: World) -> None:
    kept, gone, bad = sha("kept"), sha("gone"), sha("bad")
    for step, kind in enumerate((BeforeWrite, AfterWrite, AfterLetters, BeforeCommit, AfterCommit)):
        world.picture("kept", 1, f"photos/{step}.jpg", text=f"at {step}")
        world.picture("gone", 2)
        world.send(world.lanes.contents, gone, None)
        at = world.send(world.lanes.contents, bad, content(bad, "photos/bad.jpg"))
        world.send(world.lanes.embeddings, bad, embedding("?", at))
        world.start(kind)
        eventually(lambda step=step: len(world.failures) == step + 1)  # type: ignore[misc]
    assert {type(failure) for failure in world.failures} == {CrashError}
    world.start()
    eventually(lambda: world.points().get(kept, ({}, None))[0].get("caption") == "at 4")
    eventually(lambda: set(world.letters()) == {bad})
    eventually(lambda: world.points()[kept][0]["paths"] == ["photos/4.jpg"])
    assert set(world.points()) == {kept, bad}
    assert world.complete() == {kept}


class Proxy:
    """A way to a server that can be cut and mended."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = 0
        self._open: list[socket.socket] = []
        self.mend()

    def mend(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        self.port = listener.getsockname()[1]
        self._open.append(listener)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open = []

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                inside, _ = listener.accept()
                outside = socket.create_connection(("127.0.0.1", self._target))
                self._open += [inside, outside]
                for a, b in ((inside, outside), (outside, inside)):
                    threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def test_while_qdrant_is_away_the_sink_waits_and_stays_in_its_group(world: World) -> None:
    proxy = Proxy(world.where.qdrant_grpc_port)
    opened = world.open()
    client = connect(world.settings, msgspec.structs.replace(world.where, qdrant_grpc_port=proxy.port))
    sink, stop = world.start(client=client, opened=opened)
    first = world.picture("first", 1)
    eventually(lambda: first in world.complete())
    owned = sink.intake.owned
    members = _members(world, sink.group)
    proxy.cut()
    keys = {first, *world.many(50)}
    polled = sink.intake.polled
    time.sleep(2)
    assert sink.intake.polled > polled + 1  # it would be put out of the group if it did not
    assert world.complete() == {first}
    proxy.mend()
    began = time.monotonic()
    eventually(lambda: world.complete() == keys)
    assert time.monotonic() - began < 6.5  # the longest pause is five seconds
    assert sink.intake.owned == owned
    assert _members(world, sink.group) == members
    stop()
    proxy.cut()
    client.close()
    assert world.failures == []
    assert world.letters() == {}


def test_a_killed_sink_loses_nothing(world: World) -> None:
    sink, _ = world.start()
    eventually(lambda: len(sink.intake.owned) == 3 * PARTITIONS)
    everything = sink.intake.owned
    with _process(world, "kill") as other:
        eventually(lambda: 0 < len(sink.intake.owned) < len(everything))  # they share the partitions
        share = sink.intake.owned
        assert {p for _, p in share} == {p for topic, p in share if topic == world.lanes.contents}
        keys = set(world.many(300))
        assert other.wait(20) == -signal.SIGKILL
        assert world.complete() != keys
        eventually(lambda: world.complete() == keys)
    assert sink.intake.owned == everything


def test_a_frozen_sink_that_wakes_writes_nothing(world: World) -> None:
    opened = world.open()
    key = sha("brief")
    with _process(world, "freeze") as frozen:
        at = world.send(world.lanes.contents, key, content(key, "photos/brief.jpg"))
        eventually(lambda: _state(frozen.pid) == "T")
        world.start(opened=opened)
        eventually(lambda: key in world.points())  # after the session timeout
        world.send(world.lanes.contents, key, None)
        world.send(world.lanes.embeddings, key, embedding(unit(1), at))
        eventually(lambda: key not in world.points())
        os.kill(frozen.pid, signal.SIGCONT)
        last = world.picture("last", 1)
        # It may freeze once more, on a batch of its own after it came back to the group.
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            assert key not in world.points()
            time.sleep(0.05)
        frozen.kill()
        eventually(lambda: last in world.complete())
        assert set(world.points()) == {last}


def test_the_process_opens_a_lost_collection_anew_and_stops_when_asked(world: World) -> None:
    library, name = f"lib-{world.name}", world.name
    admin = kafka.admin(world.settings, world.bootstrap)
    needed = [*topics.fixed(), *topics.of_models(["builtin"], [])]
    topics.ensure(admin, needed, partitions=world.settings.partitions, replication=1)
    key = sha(name)
    at = world.send(topics.CONTENTS, key, content(key, f"{library}/a.jpg"))
    vector = [1.0] + [0.0] * 383
    world.send(topics.embeddings("builtin"), key, embedding(np.array(vector, np.float32), at))
    with Registry(world.settings, world.bootstrap) as registry:
        collection = records.Collection(name=name, model="builtin", libraries=(library,))
        registry.put(collection)
        code = f"from pixeldetective.settings import load\nfrom sinks.sink import run\nrun(load(), {name!r}, 'sink-1')"
        with _process(world, code=code) as sink:
            eventually(lambda: key in world.complete())
            first = find(world.client, name)
            assert first is not None
            world.client.delete_collection(first.physical)
            eventually(lambda: key in world.complete())
            second = find(world.client, name)
            assert second is not None
            assert second.incarnation != first.incarnation
            sink.send_signal(signal.SIGTERM)
            assert sink.wait(10) == 0
        registry.remove(collection)
    world.send(topics.CONTENTS, key, None)


@contextmanager
def _process(world: World, mode: str = "", code: str = "") -> Iterator[subprocess.Popen[bytes]]:
    arguments = ["-c", code] if code else ["-m", "tests.sinks.one_sink", world.name, mode]
    environment = {**os.environ, "PIXD_HOME": str(world.settings.home)}
    process = subprocess.Popen([sys.executable, *arguments], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def _members(world: World, group: str) -> list[str]:
    admin = kafka.admin(world.settings, world.bootstrap)
    described = admin.describe_consumer_groups([group])[group].result()
    return sorted(member.member_id for member in described.members)


def test_offsets_are_committed_in_all_lanes(world: World) -> None:
    key = world.picture("a", 1, text="a")
    sink, stop = world.start()
    eventually(lambda: key in world.complete() and "caption" in world.points()[key][0])
    stop()
    consumer = kafka.consumer(world.settings, world.bootstrap, sink.group)
    try:
        places = [TopicPartition(topic, p) for topic in world.lanes.by_topic for p in range(PARTITIONS)]
        committed = [place.offset for place in consumer.committed(places, timeout=10) if place.offset >= 0]
    finally:
        consumer.close()
    assert sum(committed) == 3
