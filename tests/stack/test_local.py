from __future__ import annotations

import os
import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, VectorParams

from pixeldetective.errors import PixdError
from pixeldetective.settings import Settings
from pixeldetective.stack import kafka_server, local, qdrant_server, supervisor
from pixeldetective.stack.addresses import Addresses, choose, endpoints, release
from pixeldetective.stack.programs import Program, workers

from .processes import eventually, living, of, supervisor_pid, traces


def nothing() -> None:
    pass


def no_workers(_: Addresses) -> list[Program]:
    return []


def one_worker(_: Addresses) -> list[Program]:
    return [Program("worker", ("/bin/sleep", "300"), dict(os.environ), needs=("kafka", "qdrant"))]


def test_data_survives_down_and_even_sigkill(home: Settings) -> None:
    def fill() -> None:
        at = endpoints(home)
        admin = AdminClient({"bootstrap.servers": at.kafka_bootstrap})
        admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(20)
        producer = Producer({"bootstrap.servers": at.kafka_bootstrap})
        producer.produce("kept", b"a record")
        assert producer.flush(20) == 0
        client = QdrantClient(at.qdrant_url, grpc_port=at.qdrant_grpc_port, prefer_grpc=True, check_compatibility=False)
        client.create_collection("kept", VectorParams(size=2, distance=Distance.COSINE))
        client.close()

    def check() -> None:
        at = endpoints(home)
        consumer = Consumer({"bootstrap.servers": at.kafka_bootstrap, "group.id": "g"})
        consumer.assign([TopicPartition("kept", 0, 0)])
        message = consumer.poll(20)
        assert message is not None
        assert message.value() == b"a record"
        consumer.close()
        client = QdrantClient(at.qdrant_url, check_compatibility=False)
        assert client.collection_exists("kept")
        client.close()

    first = local.up(home, prepare=fill, workers=one_worker)
    assert [process.name for process in supervisor.processes(home)] == ["kafka", "qdrant", "worker"]
    assert local.down(home)
    assert living(home) == []
    assert traces(home) == []
    assert not kafka_server.answers(first.kafka, timeout=0.2)
    assert not qdrant_server.answers(first.qdrant_http, timeout=0.2)
    assert not local.down(home)

    assert local.up(home, prepare=check, workers=no_workers) == first
    for pid in [supervisor_pid(home), *living(home)]:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: living(home) == [])
    local.up(home, prepare=check, workers=no_workers)


def test_up_while_it_runs_only_starts_what_is_stopped(home: Settings) -> None:
    prepared: list[int] = []
    here = local.up(home, prepare=lambda: prepared.append(1), workers=one_worker)
    eventually(lambda: all(process.state == "running" for process in supervisor.processes(home)))
    before = supervisor.processes(home)
    assert local.up(home, prepare=lambda: prepared.append(2), workers=one_worker) == here
    assert supervisor.processes(home) == before
    assert prepared == [1, 2]
    supervisor.stop_one(home, "worker")
    supervisor.stop_one(home, "qdrant")
    local.up(home, prepare=lambda: prepared.append(3), workers=one_worker)
    assert qdrant_server.answers(here.qdrant_http)
    eventually(lambda: of(home, "worker").state == "running")
    assert of(home, "kafka") == before[0]


def test_two_ups_at_once_start_one_stack(home: Settings) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: local.up(home, prepare=nothing, workers=one_worker), range(2))
    assert one == two
    assert len(living(home)) == 4
    assert traces(home).count("lock") == 0


def test_a_port_that_a_stranger_took_is_replaced(home: Settings) -> None:
    before = choose(home)
    release(home)
    with socket.create_server(("127.0.0.1", before.kafka)), socket.create_server(("127.0.0.1", before.qdrant_grpc)):
        after = local.up(home, prepare=nothing, workers=no_workers)
    assert after.kafka != before.kafka
    assert after.qdrant_grpc != before.qdrant_grpc
    assert after.qdrant_http == before.qdrant_http


def test_a_port_stolen_between_choice_and_start_is_replaced(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    thieves: list[socket.socket] = []
    original = kafka_server.format_storage

    def steal(*arguments: object) -> None:
        original(*arguments)  # type: ignore[arg-type]
        if not thieves:
            thieves.append(socket.create_server(("127.0.0.1", endpoints_port(home))))

    monkeypatch.setattr(kafka_server, "format_storage", steal)
    here = local.up(home, prepare=nothing, workers=no_workers)
    assert here.kafka != thieves[0].getsockname()[1]
    assert kafka_server.answers(here.kafka)
    thieves[0].close()


def endpoints_port(home: Settings) -> int:
    return int(endpoints(home).kafka_bootstrap.rpartition(":")[2])


def test_a_kafka_that_does_not_start_gives_its_reason_and_leaves_nothing(home: Settings) -> None:
    data = kafka_server.folder(home) / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\nnode.id=77\ncluster.id=x\n")
    with pytest.raises(PixdError, match=r"(?s)Kafka ended while it was starting: .*77.*kafka\.log"):
        local.up(home, prepare=nothing, workers=no_workers)
    assert living(home) == []
    assert traces(home) == []
    shutil.rmtree(data)
    local.up(home, prepare=nothing, workers=no_workers)


def test_what_goes_wrong_in_between_leaves_nothing(home: Settings) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.up(home, prepare=interrupted, workers=no_workers)
    assert living(home) == []
    assert traces(home) == []


def test_servers_that_are_configured_elsewhere_are_not_started(home: Settings, local_stack: Settings) -> None:
    elsewhere = msgspec.structs.replace(
        home, kafka_bootstrap=local_stack.kafka_bootstrap, qdrant_url=local_stack.qdrant_url
    )
    local.up(elsewhere, prepare=nothing, workers=lambda _: [Program("w", ("/bin/sleep", "300"), dict(os.environ))])
    assert [process.name for process in supervisor.processes(elsewhere)] == ["w"]


def test_workers_get_names_ids_and_the_api_its_port(home: Settings) -> None:
    here = Addresses(api=1234)
    found = workers(home, here, {"stream": 2, "captioner": 0})
    assert [program.name for program in found] == ["watcher", "stream", "stream-2", "embedder", "sink", "api"]
    assert found[2].argv[-3:] == ("stream", "--id", "2")
    assert found[-1].env["PIXD_API_PORT"] == "1234"
    assert found[0].needs == ("kafka", "qdrant")
    with pytest.raises(PixdError, match="no worker “steam”"):
        workers(home, here, {"steam": 1})
