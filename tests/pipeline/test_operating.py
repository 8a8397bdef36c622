"""Operating it: lag, Kafka's own tools, killed workers, mistakes at the command line."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.pipeline.installation import CAT, Installation

WORKERS = ("watcher", "stream", "embedder", "captioner", "sink", "api")


def test_lag_agrees_with_kafkas_own_tool_and_is_zero_at_idle(pixd: Installation) -> None:
    pixd.drop(CAT, "cat.png")
    pixd.wait()
    pixd.wait_for_captions()
    ours = {(row["group"], row["topic"], str(row["partition"])): row for row in pixd.json("lag")}
    groups = {group for group, _, _ in ours}
    assert {"stream", "embedder.builtin", "captioner.builtin"} < groups
    assert any(group.startswith("sink.photos.") for group in groups)
    assert all(row["lag"] == 0 for row in ours.values())
    printed = pixd.run("kafka", "kafka-consumer-groups", "--describe", "--all-groups").stdout
    theirs = {}
    for line in printed.splitlines():
        columns = line.split()
        if len(columns) > 5 and columns[2].isdigit():
            theirs[columns[0], columns[1], columns[2]] = columns[3:6]
    assert set(ours) <= set(theirs)
    for key, row in ours.items():
        assert theirs[key] == [str(row["committed"]), str(row["end"]), str(row["lag"])], key


@pytest.mark.parametrize("worker", WORKERS)
def test_a_killed_worker_is_restarted_and_nothing_is_lost(worker: str, pixd: Installation) -> None:
    for number in range(20):
        pixd.draw(f"{worker}/{number}.jpg", hash(worker) % 10_000 + number)
        if number == 10:
            os.kill(pixd.pid(worker), signal.SIGKILL)
    pixd.wait()
    assert pixd.in_qdrant() == pixd.on_disk()
    assert not pixd.without_vector()
    deadline = time.monotonic() + 60
    while (state := {p["name"]: p for p in pixd.json("ps")}[worker])["state"] != "running":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert state["restarts"] >= 1
    assert pixd.json("failures") == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("up", "/no/such/folder"), "There is no folder /no/such/folder."),
        (("up", ""), "The folder's name is empty"),
        (("search",), "Say what to look for"),
        (("search", "cat", "--image", "x.jpg"), "not for both"),
        (("search", "long " * 500), "at most 2,000 characters"),
        (("failures", "--stage", "embedder"), "There is no stage “embedder”. There are: captioner.builtin, dedup"),
        (("explain", ""), "Say which file"),
        (("search", "  "), "The query is empty"),
        (("search", "--image", "/no/such.jpg"), "cannot be read"),
        (("search", "x", "--collection", "other"), "There is no collection “other”. There are: photos."),
        (("libraries", "remove", "nothing"), "There is no library “nothing”. There are: photos."),
        (("kafka", "kafka-topic"), "kafka-topics"),
        (("worker", "smith"), "There is no worker “smith”"),
    ],
)
def test_a_mistake_gets_a_sentence(arguments: tuple[str, ...], says: str, running: Installation) -> None:
    done = running.run(*arguments, code=2)
    assert says in done.stderr
    assert done.stdout == ""


def test_the_same_folder_again_changes_nothing_and_a_nested_one_is_refused(pixd: Installation) -> None:
    before = pixd.json("libraries", "list")
    pixd.run("up", "--detach", str(pixd.folder))
    assert pixd.json("libraries", "list") == before
    nested = pixd.folder / "nested"
    nested.mkdir()
    assert "photos" in pixd.run("up", "--detach", str(nested), code=2).stderr


def test_a_library_added_and_removed_while_running(pixd: Installation) -> None:
    pixd.drop(CAT, "cat.png")
    other = pixd.home.parent / "other folder"
    other.mkdir()
    (other / "copy.png").write_bytes(CAT.read_bytes())
    pixd.run("libraries", "add", str(other))
    pixd.wait()
    assert list(pixd.in_qdrant().values()) == [{"photos/cat.png", "other-folder/copy.png"}]
    pixd.run("libraries", "remove", "other-folder")
    pixd.wait()
    assert list(pixd.in_qdrant().values()) == [{"photos/cat.png"}]
    assert (other / "copy.png").exists()
