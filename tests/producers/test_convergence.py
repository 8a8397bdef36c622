"""Whoever looks at what is announced, when it is announced, knows in the end what is on the disk."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from pixeldetective.settings import Settings
from producers.scanner import ScanStoppedError
from producers.selection import Selection
from producers.walk import walk
from producers.watcher import Watcher
from tests.producers.watching import PATIENCE, until


class Looker:
    """What hashing does, without Kafka: looks at each announced path, and after a scan at all that it did not see."""

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root)
        self._lock = threading.Lock()
        self.known: dict[str, bytes] = {}
        self.scans = 0

    def announce(self, path_ids: Sequence[str]) -> None:
        for path_id in path_ids:
            self._look(path_id.partition("/")[2])

    def scan(self, library: str, root: bytes, *, entering: Callable[[bytes], None], stopping: threading.Event) -> None:
        seen = set()
        for entry in walk(root, Selection(Settings()), lambda *_: None, entering):
            name = os.fsdecode(entry.path[len(root) + 1 :])
            seen.add(name)
            self._look(name)
        if stopping.is_set():
            raise ScanStoppedError
        for name in set(self.known) - seen:
            self._look(name)
        self.scans += 1

    def _look(self, name: str) -> None:
        with self._lock:  # as one partition's events are handled one after the other
            try:
                self.known[name] = Path(os.fsdecode(self._root), name).read_bytes()
            except OSError:
                self.known.pop(name, None)


def on_disk(root: Path) -> dict[str, bytes]:
    names = {str(path.relative_to(root)): path for path in root.rglob("*.jpg")}
    return {name: path.read_bytes() for name, path in names.items() if "/." not in f"/{name}"}


class Vandal:
    """Does to a folder whatever can be done to it, as fast as it can."""

    def __init__(self, root: Path, outside: Path, seed: int) -> None:
        self.root = root
        self.outside = outside
        self.choose = random.Random(seed)
        self.counter = 0

    def act(self) -> None:
        folders = [path for path in self.root.rglob("*") if path.is_dir()] or [self.root]
        files = [path for path in self.root.rglob("*.jpg") if path.is_file()]
        away = list(self.outside.iterdir())
        self.counter += 1
        new = f"{self.choose.randrange(8)}"
        folder = self.choose.choice([*folders, self.root])
        action = self.choose.randrange(10)
        try:
            if action <= 2:
                (folder / f"{new}.jpg").write_bytes(b"%d" % self.counter)
            elif action == 3:
                made = folder / new / f"{self.choose.randrange(3)}"
                made.mkdir(parents=True)
                (made / "a.jpg").write_bytes(b"%d" % self.counter)
            elif action == 4 and files:
                self.choose.choice(files).rename(folder / f"{new}.jpg")
            elif action == 5 and files:
                self.choose.choice(files).unlink()
            elif action == 6 and folder != self.root:
                folder.rename(self.choose.choice([*folders, self.root]) / self.choose.choice([new, ".x", f"{new}b"]))
            elif action == 7 and folder != self.root:
                folder.rename(self.outside / f"{self.counter}")
            elif action == 8 and away:
                self.choose.choice(away).rename(folder / new)
            elif action == 9 and folder != self.root and self.choose.random() < 0.3:
                shutil.rmtree(folder)
        except OSError:
            pass  # a folder into itself, onto one that is not empty, below one that is gone


@pytest.mark.parametrize("seed", range(12))
def test_in_the_end_everything_is_known(tmp_path: Path, seed: int) -> None:
    root, outside = tmp_path / "photos", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    looker = Looker(root)
    settings = msgspec.structs.replace(Settings(), quiet=0.1)
    watcher = Watcher(settings, lambda: {"p": os.fsencode(root)}, looker, looker.scan)
    stopping = threading.Event()
    thread = threading.Thread(target=watcher.run, args=(stopping,))
    thread.start()
    try:
        until(lambda: looker.scans > 0)
        vandal = Vandal(root, outside, seed)
        for _ in range(400):
            vandal.act()
            time.sleep(vandal.choose.choice([0, 0, 0, 0, 0.0005, 0.002]))
        deadline = time.monotonic() + 5.0
        while looker.known != on_disk(root) and time.monotonic() < deadline:
            time.sleep(0.05)
        found = on_disk(root)
        assert looker.known.keys() - found.keys() == set()
        assert found.keys() - looker.known.keys() == set()
        assert looker.known == found
    finally:
        stopping.set()
        thread.join(PATIENCE)
