"""Polling: what is told of a share that other machines write to."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixeldetective.settings import Settings
from producers import polling
from producers.debouncer import What
from producers.polling import PollingTree
from producers.selection import Selection
from tests.producers.watching import until


class Told:
    """A `Sink` that keeps what it is told."""

    def __init__(self, root: Path) -> None:
        self.changes: list[tuple[str, What]] = []
        self._start = len(os.fsencode(root)) + 1

    def changed(self, path: bytes, what: What) -> None:
        self.changes.append((os.fsdecode(path[self._start :]), what))

    def folder_left(self, move: int) -> None: ...
    def folder_arrived(self, move: int) -> None: ...
    def events_lost(self) -> None: ...
    def watches_exhausted(self) -> None: ...


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    monkeypatch.setattr(polling, "INTERVAL", 0.1)
    (tmp_path / "d").mkdir()
    (tmp_path / "d/old.jpg").write_bytes(b"1")
    sink = Told(tmp_path)
    tree = PollingTree(os.fsencode(tmp_path), Selection(Settings()), sink)
    tree.start()
    time.sleep(0.15)
    yield sink
    assert tree.is_alive()
    tree.stop()
    assert not tree.is_alive()


def test_new_changed_and_deleted_files_are_told(told: Told, tmp_path: Path) -> None:
    (tmp_path / "new.jpg").write_bytes(b"1")
    until(lambda: told.changes == [("new.jpg", "closed")])
    (tmp_path / "new.jpg").write_bytes(b"22")
    until(lambda: told.changes[1:] == [("new.jpg", "closed")])
    (tmp_path / "new.jpg").unlink()
    until(lambda: told.changes[2:] == [("new.jpg", "gone")])


def test_a_renamed_folder_is_told_under_both_names(told: Told, tmp_path: Path) -> None:
    (tmp_path / "d").rename(tmp_path / "e")
    until(lambda: sorted(told.changes) == [("d/old.jpg", "gone"), ("e/old.jpg", "closed")])


def test_a_long_copy_is_told_once_when_it_is_over(told: Told, tmp_path: Path) -> None:
    with (tmp_path / "new.jpg").open("wb", buffering=0) as file:
        for _ in range(30):
            file.write(b"x" * 1000)
            time.sleep(0.02)
            assert told.changes == []
    until(lambda: told.changes == [("new.jpg", "closed")])


def test_a_share_that_goes_away_has_no_deleted_files(told: Told, tmp_path: Path) -> None:
    elsewhere = tmp_path.with_name(tmp_path.name + "-elsewhere")
    tmp_path.rename(elsewhere)
    time.sleep(0.4)
    assert told.changes == []
    elsewhere.rename(tmp_path)
    time.sleep(0.4)
    assert told.changes == []
    (tmp_path / "d/old.jpg").unlink()
    until(lambda: told.changes == [("d/old.jpg", "gone")])


def test_symbolic_links_are_not_followed(told: Told, tmp_path: Path) -> None:
    (tmp_path / "d/loop").symlink_to(tmp_path)
    (tmp_path / "new.jpg").write_bytes(b"1")
    until(lambda: told.changes == [("new.jpg", "closed")])
