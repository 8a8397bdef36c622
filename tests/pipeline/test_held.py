"""A library whose folder is away, or is another one, loses nothing until somebody says what is right."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.installation import CAT, Installation

PICTURES = 12


@pytest.fixture
def disk(pixd: Installation, tmp_path: Path) -> Iterator[Path]:
    """Another library, `disk`, with some pictures that have been indexed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    pixd.run("libraries", "add", str(folder))
    yield folder
    if "disk" in {library["name"] for library in pixd.json("libraries", "list")}:
        pixd.run("libraries", "remove", "disk")


def fill(pixd: Installation, folder: Path) -> None:
    for number in range(PICTURES):
        shutil.copyfile(pixd.draw("source.jpg", 5000 + number), folder / f"{number}.jpg")
    (pixd.folder / "source.jpg").unlink()
    pixd.wait()
    assert len(pixd.in_qdrant()) == PICTURES


def is_held(pixd: Installation, folder: Path) -> None:
    """Everything says that the library is held, and why; nothing of it was deleted."""
    pixd.drop(CAT, "cat.png")  # other libraries go on
    done = pixd.run("status", "--wait-idle", code=1)
    assert "The library “disk” is held" in done.stderr
    assert "Held: disk" in done.stdout
    pixd.run("scan", "--wait")
    status = pixd.json("status")
    assert [(held["library"], held["files"]) for held in status["held"]] == [("disk", PICTURES)]
    assert len(pixd.in_qdrant()) == PICTURES + 1
    explained = pixd.json("explain", str(folder / "3.jpg"))
    assert explained["state"] == "held"
    assert status["held"][0]["reason"] in explained["reason"]


def test_a_folder_that_vanished_is_held_until_it_is_back(pixd: Installation, disk: Path, tmp_path: Path) -> None:
    fill(pixd, disk)
    disk.rename(tmp_path / "unplugged")
    is_held(pixd, disk)
    assert "not there" in pixd.run("libraries", "confirm", "disk", code=2).stderr
    (tmp_path / "unplugged" / "3.jpg").unlink()
    (tmp_path / "unplugged").rename(disk)
    pixd.wait()
    assert pixd.json("status")["held"] == []
    assert len(pixd.in_qdrant()) == PICTURES  # one went, the cat came


def test_another_folder_in_its_place_is_held_until_it_is_confirmed(
    pixd: Installation, disk: Path, tmp_path: Path
) -> None:
    fill(pixd, disk)
    disk.rename(tmp_path / "unplugged")
    disk.mkdir()
    shutil.copyfile(tmp_path / "unplugged" / "0.jpg", disk / "0.jpg")
    is_held(pixd, disk)
    pixd.run("libraries", "confirm", "disk")
    pixd.wait()
    assert len(pixd.in_qdrant()) == 2


def test_a_held_library_can_be_given_up(pixd: Installation, disk: Path, tmp_path: Path) -> None:
    fill(pixd, disk)
    assert "is not held" in pixd.run("libraries", "discard", "disk", code=2).stderr
    disk.rename(tmp_path / "unplugged")
    is_held(pixd, disk)
    pixd.run("libraries", "discard", "disk")
    pixd.wait()
    assert len(pixd.in_qdrant()) == 1
    assert [library["name"] for library in pixd.json("libraries", "list")] == ["photos"]


def test_an_unmounted_disk_and_an_emptied_folder_are_held(pixd: Installation, disk: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "file system"
    mounted.mkdir()
    pixd.run("libraries", "remove", "disk")
    if subprocess.run(["mount", "--bind", mounted, disk], capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    share = tmp_path / "share"
    share.mkdir()
    try:
        pixd.run("libraries", "add", str(disk))
        pixd.run("libraries", "add", str(share))
        fill(pixd, disk)

        # While everything runs.
        subprocess.run(["umount", "--lazy", disk], check=True)
        is_held(pixd, disk)
        subprocess.run(["mount", "--bind", mounted, disk], check=True)
        for file in disk.iterdir():
            shutil.copyfile(file, share / file.name)
        pixd.wait()
        assert pixd.json("status")["held"] == []
        assert len(pixd.in_qdrant()) == PICTURES + 1

        # While nothing runs.
        pixd.run("down")
        subprocess.run(["umount", "--lazy", disk], check=True)
        for file in share.iterdir():
            file.unlink()
        pixd.run("up", "--detach")
        pixd.run("scan", "--wait")
        held = pixd.json("status")["held"]
        assert [(library["library"], library["files"]) for library in held] == [("disk", PICTURES), ("share", PICTURES)]
        assert "was empty when everything was started" in held[1]["reason"]
        assert len(pixd.in_qdrant()) == PICTURES + 1
        pixd.run("libraries", "confirm", "share")
        subprocess.run(["mount", "--bind", mounted, disk], check=True)
        pixd.wait()
        assert pixd.json("status")["held"] == []
        assert pixd.json("status")["libraries"] == {"disk": PICTURES, "photos": 1, "share": 0}
    finally:
        subprocess.run(["umount", "--lazy", disk], check=False)
        pixd.run("libraries", "remove", "share")
