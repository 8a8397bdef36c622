"""The stack of containers, from the first picture to `docker compose down -v`."""

from __future__ import annotations

import shutil
import time

import pytest

from tests.containers.stack import WORKERS, Stack, volumes
from tests.pipeline.installation import CAT, ROCKET

# The first of these waits for the image: 6 GB are downloaded and unpacked where that has never been done.
pytestmark = pytest.mark.timeout(3600)


@pytest.fixture
def cat(stack: Stack) -> None:
    """The folder holds one picture, of a cat, and that is all that is known."""
    for file in stack.pictures.iterdir():
        file.unlink()
    shutil.copyfile(CAT, stack.pictures / "cat.png")
    assert stack.wait()["counts"] == {"files": 1, "contents": 1, "points": 1, "failures": 0}


def test_every_container_is_healthy_and_none_runs_as_root(stack: Stack) -> None:
    for service in ("kafka", "qdrant", *WORKERS):
        container = stack.containers(service)[0]
        assert container["State"]["Status"] == "running"
        health = container["State"].get("Health", {"Status": "healthy"} if service == "qdrant" else {})
        assert health["Status"] == "healthy"
        assert stack.compose("exec", "-T", service, "id", "-u").strip() != "0"
    (setup,) = stack.containers("setup")
    assert (setup["State"]["Status"], setup["State"]["ExitCode"]) == ("exited", 0)


def test_a_dropped_picture_is_found_renamed_and_deleted(stack: Stack, cat: None) -> None:
    shutil.copyfile(ROCKET, stack.pictures / "rocket.jpg")
    stack.wait()
    assert stack.search("a cat") == [["pictures/cat.png"], ["pictures/rocket.jpg"]]
    assert [hit["paths"] for hit in stack.pixd("search", "a rocket", "-n", "1")] == [["pictures/rocket.jpg"]]
    (stack.pictures / "cat.png").rename(stack.pictures / "pet.png")
    stack.wait()
    assert stack.search("a cat") == [["pictures/pet.png"], ["pictures/rocket.jpg"]]
    (stack.pictures / "rocket.jpg").unlink()
    status = stack.wait()
    assert stack.search("a rocket") == [["pictures/pet.png"]]
    assert status["held"] == []


def test_a_killed_worker_is_started_again(stack: Stack, cat: None) -> None:
    for service in ("stream", "sink"):
        (before,) = stack.containers(service)
        stack.kill_worker(service)
        shutil.copyfile(ROCKET, stack.pictures / f"{service}.jpg")
        stack.wait()
        assert stack.search("a rocket")[0] == [f"pictures/{service}.jpg"]
        (after,) = stack.containers(service)
        assert after["Id"] == before["Id"]
        assert after["RestartCount"] == before["RestartCount"] + 1
        (stack.pictures / f"{service}.jpg").unlink()
        stack.wait()


def test_workers_scale_and_none_shares_its_folder(stack: Stack, cat: None) -> None:
    stack.compose("up", "--detach", "--wait", "--scale", "stream=2", "--scale", "embedder=2")
    assert len(stack.containers("stream")) == len(stack.containers("embedder")) == 2
    listed = stack.compose("exec", "-T", "stream", "ls", "/var/lib/pixd/workers").split()
    assert listed == ["captioner-1", "embedder-1", "embedder-2", "sink-1", "stream-1", "stream-2"]
    shutil.copyfile(ROCKET, stack.pictures / "rocket.jpg")
    stack.wait()
    _until_shared(stack)
    (stack.pictures / "rocket.jpg").unlink()
    stack.wait()
    assert stack.search("a cat") == [["pictures/cat.png"]]


def test_down_keeps_everything_and_down_v_leaves_nothing(stack: Stack, cat: None) -> None:
    before = volumes()
    stack.compose("down")
    (stack.pictures / "cat.png").rename(stack.pictures / "meanwhile.png")
    stack.compose("up", "--detach", "--wait")
    assert len(stack.containers("stream")) == 1
    stack.wait()
    assert stack.search("a cat") == [["pictures/meanwhile.png"]]
    assert volumes() == before
    ours = {name for name in before if name.startswith(stack.project)}
    assert {name.removeprefix(stack.project) for name in ours} == {"_kafka", "_qdrant", "_pixd"}
    stack.compose("down", "--volumes")
    assert stack.left() == []
    assert volumes() == before - ours


def _until_shared(stack: Stack) -> None:
    """Wait until both workers of the stream have partitions."""
    deadline = time.monotonic() + 60
    tool = "/opt/kafka/bin/kafka-consumer-groups.sh"
    while True:
        printed = stack.compose(
            "exec", "-T", "kafka", tool, "--bootstrap-server", "localhost:9092", "--describe", "--group", "stream"
        )
        members = {line.split()[6] for line in printed.splitlines() if line.startswith("stream ")}
        if len(members - {"-"}) == 2:
            return
        assert time.monotonic() < deadline, printed
        time.sleep(1)
