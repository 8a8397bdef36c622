"""The watcher on real folders: what people and programs do to files, and what is announced then."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyFD

from pixeldetective.errors import PixdError
from producers import inbox, inotify, polling, watched_library
from tests.producers.watching import Running, until, watching


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def watcher(root: Path) -> Iterator[Running]:
    with watching({"p": root}) as running:
        running.settled()
        yield running
        assert running.failure is None


def announced(watcher: Running, *path_ids: str) -> None:
    until(lambda: set(path_ids) <= set(watcher.seen.paths()))


def test_a_dropped_file_is_announced_within_milliseconds(watcher: Running, root: Path) -> None:
    delays = []
    for i in range(20):
        (root / f"{i}.jpg").write_bytes(b"x" * 100_000)
        closed = time.monotonic()
        announced(watcher, f"p/{i}.jpg")
        delays.append(watcher.seen.at(f"p/{i}.jpg") - closed)
    assert sorted(delays)[10] < 0.02
    assert watcher.seen.scans == []


def test_an_overwritten_file_is_announced_again(watcher: Running, root: Path) -> None:
    (root / "a.jpg").write_bytes(b"1")
    announced(watcher, "p/a.jpg")
    before = time.monotonic()
    (root / "a.jpg").write_bytes(b"2")
    until(lambda: watcher.seen.at("p/a.jpg") >= before)


def test_a_file_that_grows_is_announced_when_it_is_quiet_though_nobody_closes_it(watcher: Running, root: Path) -> None:
    with (root / "a.jpg").open("wb", buffering=0) as file:
        for _ in range(10):
            file.write(b"x" * 1000)
            time.sleep(0.05)
            assert watcher.seen.announced == []
        last = time.monotonic()
        announced(watcher, "p/a.jpg")
        assert watcher.seen.at("p/a.jpg") >= last + 0.2


def test_a_renamed_file_is_announced_under_both_names(watcher: Running, root: Path) -> None:
    (root / "a.jpg").write_bytes(b"1")
    announced(watcher, "p/a.jpg")
    watcher.seen.clear()
    (root / "a.jpg").rename(root / "b.jpg")
    announced(watcher, "p/a.jpg", "p/b.jpg")


def test_a_download_is_announced_when_it_gets_its_name(watcher: Running, root: Path) -> None:
    (root / "a.jpg.part").write_bytes(b"1")
    (root / ".b.jpg.x7").write_bytes(b"1")
    time.sleep(0.5)
    assert watcher.seen.announced == []
    (root / "a.jpg.part").rename(root / "a.jpg")
    (root / ".b.jpg.x7").rename(root / "b.jpg")
    announced(watcher, "p/a.jpg", "p/b.jpg")


def test_a_deleted_file_is_announced(watcher: Running, root: Path) -> None:
    (root / "a.jpg").write_bytes(b"1")
    announced(watcher, "p/a.jpg")
    watcher.seen.clear()
    (root / "a.jpg").unlink()
    announced(watcher, "p/a.jpg")


def test_moving_a_file_out_does_not_hold_back_the_next(watcher: Running, root: Path, tmp_path: Path) -> None:
    (root / "a.jpg").write_bytes(b"1")
    announced(watcher, "p/a.jpg")
    watcher.seen.clear()
    before = time.monotonic()
    (root / "a.jpg").rename(tmp_path / "a.jpg")
    (root / "b.jpg").write_bytes(b"2")
    announced(watcher, "p/a.jpg", "p/b.jpg")
    assert watcher.seen.at("p/b.jpg") - before < 0.3


def test_a_hard_link_is_announced(watcher: Running, root: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"1")
    (root / "a.jpg").hardlink_to(tmp_path / "a.jpg")
    announced(watcher, "p/a.jpg")


def test_a_file_that_may_be_read_again_is_announced(watcher: Running, root: Path) -> None:
    (root / "a.jpg").write_bytes(b"1")
    announced(watcher, "p/a.jpg")
    watcher.seen.clear()
    (root / "a.jpg").chmod(0o600)
    announced(watcher, "p/a.jpg")


def test_reading_announces_nothing(watcher: Running, root: Path) -> None:
    (root / "a.jpg").write_bytes(b"1")
    announced(watcher, "p/a.jpg")
    time.sleep(0.5)
    watcher.seen.clear()
    (root / "a.jpg").read_bytes()
    time.sleep(0.5)
    assert watcher.seen.announced == []


def test_any_name_is_announced_as_its_path_id(watcher: Running, root: Path) -> None:
    base = os.fsencode(root)
    os.mkdir(base + b"/\xff")
    for name in (b"caf\xe9.jpg", b"two\nlines.jpg", b"50%.jpg", b"\xff/\xfe.jpg"):
        with open(base + b"/" + name, "wb") as file:
            file.write(b"1")
    announced(watcher, "p/caf%E9.jpg", "p/two\nlines.jpg", "p/50%25.jpg", "p/%FF/%FE.jpg")


def test_what_does_not_count_is_not_announced(watcher: Running, root: Path) -> None:
    (root / "@eaDir").mkdir()
    (root / ".trash").mkdir()
    time.sleep(0.1)
    for name in ("a.txt", ".a.jpg", "@eaDir/a.jpg", ".trash/a.jpg"):
        (root / name).write_bytes(b"1")
    (root / "last.jpg").write_bytes(b"1")
    announced(watcher, "p/last.jpg")
    assert set(watcher.seen.paths()) == {"p/last.jpg"}


def test_files_that_are_quicker_than_the_watch_on_their_new_folder_are_announced(watcher: Running, root: Path) -> None:
    expected = set()
    for i in range(50):
        (root / f"{i}/a/b").mkdir(parents=True)
        for name in (f"{i}/1.jpg", f"{i}/a/2.jpg", f"{i}/a/b/3.jpg"):
            (root / name).write_bytes(b"1")
            expected.add(f"p/{name}")
    announced(watcher, *expected)


def test_a_folder_moved_in_is_announced_at_once_and_watched(watcher: Running, root: Path, tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/deep/a.jpg").write_bytes(b"1")
    before = time.monotonic()
    (tmp_path / "in").rename(root / "in")
    announced(watcher, "p/in/deep/a.jpg")
    assert watcher.seen.at("p/in/deep/a.jpg") - before < 0.2
    (root / "in/deep/b.jpg").write_bytes(b"2")
    announced(watcher, "p/in/deep/b.jpg")


def test_a_renamed_folder_announces_its_files_under_both_names_and_stays_watched(watcher: Running, root: Path) -> None:
    (root / "d/e").mkdir(parents=True)
    (root / "d/e/a.jpg").write_bytes(b"1")
    announced(watcher, "p/d/e/a.jpg")
    watcher.seen.clear()
    (root / "d").rename(root / "f")
    announced(watcher, "p/d/e/a.jpg", "p/f/e/a.jpg")
    (root / "f/e/b.jpg").write_bytes(b"2")
    announced(watcher, "p/f/e/b.jpg")
    time.sleep(2 * watched_library.ARRIVAL)
    assert watcher.seen.scans == []


def test_a_folder_moved_out_causes_a_scan_within_a_second_and_is_forgotten(
    watcher: Running, root: Path, tmp_path: Path
) -> None:
    (root / "d/e").mkdir(parents=True)
    (root / "d/e/a.jpg").write_bytes(b"1")
    announced(watcher, "p/d/e/a.jpg")
    before = time.monotonic()
    (root / "d").rename(tmp_path / "out")
    until(lambda: watcher.seen.scans == [("p", [])])
    assert time.monotonic() - before < 1.0
    watcher.seen.clear()
    (tmp_path / "out/e/ghost.jpg").write_bytes(b"2")
    (root / "b.jpg").write_bytes(b"3")
    announced(watcher, "p/b.jpg")
    assert set(watcher.seen.paths()) == {"p/b.jpg"}


def test_a_folder_that_hides_causes_a_scan(watcher: Running, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d/a.jpg").write_bytes(b"1")
    announced(watcher, "p/d/a.jpg")
    (root / "d").rename(root / ".d")
    until(lambda: watcher.seen.scans == [("p", [])])
    watcher.seen.clear()
    (root / ".d").rename(root / "d")
    announced(watcher, "p/d/a.jpg")


def test_a_deleted_folder_announces_its_files(watcher: Running, root: Path) -> None:
    (root / "d/e").mkdir(parents=True)
    (root / "d/e/a.jpg").write_bytes(b"1")
    announced(watcher, "p/d/e/a.jpg")
    watcher.seen.clear()
    shutil.rmtree(root / "d")
    announced(watcher, "p/d/e/a.jpg")


def test_watching_survives_what_kills_watchdogs_observer(watcher: Running, root: Path, tmp_path: Path) -> None:
    """Folder moved out, another made in its place and deleted, the first deleted: see producers/inotify.py."""
    for again in range(3):
        (root / "d").mkdir()
        time.sleep(0.1)
        (root / "d").rename(tmp_path / "d")
        time.sleep(0.1 * again)
        (root / "d").mkdir()
        time.sleep(0.1)
        (root / "d").rmdir()
        time.sleep(0.1)
        (tmp_path / "d").rmdir()
    (root / "a.jpg").write_bytes(b"1")
    announced(watcher, "p/a.jpg")


def test_folders_that_come_and_go_leave_no_watches_behind(watcher: Running, root: Path, tmp_path: Path) -> None:
    for i in range(30):
        (root / f"{i}/x").mkdir(parents=True)
        (root / str(i)).rename(root / f"{i}b")
    for i in range(30):
        if i % 2:
            shutil.rmtree(root / f"{i}b")
        else:
            (root / f"{i}b").rename(tmp_path / f"{i}b")
    until(lambda: watcher.seen.scans != [])
    (library,) = watcher.watcher._libraries.values()
    tree = library._source
    assert isinstance(tree, inotify.InotifyTree)
    until(lambda: len(tree._watches) == len(tree._folders) == 1)
    assert watcher.watcher._fd is not None
    until(lambda: len(watcher.watcher._fd._watch_for_wd) == 1)  # type: ignore[union-attr]


def test_a_library_added_while_running_is_watched_and_scanned_within_a_second(watcher: Running, tmp_path: Path) -> None:
    (tmp_path / "q").mkdir()
    (tmp_path / "q/old.jpg").write_bytes(b"1")
    before = time.monotonic()
    watcher.roots["q"] = os.fsencode(tmp_path / "q")
    until(lambda: ("q", ["old.jpg"]) in watcher.seen.scans)
    assert time.monotonic() - before < 1.0
    (tmp_path / "q/new.jpg").write_bytes(b"1")
    announced(watcher, "q/new.jpg")


def test_a_removed_library_is_no_longer_announced(watcher: Running, root: Path, tmp_path: Path) -> None:
    (tmp_path / "q").mkdir()
    watcher.roots["q"] = os.fsencode(tmp_path / "q")
    until(lambda: ("q", []) in watcher.seen.scans)
    del watcher.roots["q"]
    until(lambda: "q" not in watcher.watcher._libraries)
    (tmp_path / "q/a.jpg").write_bytes(b"1")
    (root / "a.jpg").write_bytes(b"1")
    announced(watcher, "p/a.jpg")
    assert set(watcher.seen.paths()) == {"p/a.jpg"}


def test_a_root_that_vanishes_is_waited_for_and_scanned_when_it_is_back(
    watcher: Running, root: Path, tmp_path: Path
) -> None:
    (root / "a.jpg").write_bytes(b"1")
    announced(watcher, "p/a.jpg")
    root.rename(tmp_path / "elsewhere")
    until(lambda: watcher.seen.scans == [("p", [])])
    (tmp_path / "elsewhere").rename(root)
    until(lambda: watcher.seen.scans[-1] == ("p", ["a.jpg"]))
    (root / "b.jpg").write_bytes(b"1")
    announced(watcher, "p/b.jpg")


def test_another_folder_in_the_roots_place_is_watched(watcher: Running, root: Path, tmp_path: Path) -> None:
    root.rename(tmp_path / "elsewhere")
    root.mkdir()
    (root / "other.jpg").write_bytes(b"1")
    until(lambda: ("p", ["other.jpg"]) in watcher.seen.scans)
    (root / "b.jpg").write_bytes(b"1")
    announced(watcher, "p/b.jpg")


def test_a_root_that_is_missing_at_start_is_scanned_then_and_when_it_comes(tmp_path: Path) -> None:
    with watching({"p": tmp_path / "later"}) as watcher:
        until(lambda: watcher.seen.scans == [("p", [])])
        (tmp_path / "later").mkdir()
        (tmp_path / "later/a.jpg").write_bytes(b"1")
        until(lambda: watcher.seen.scans[-1] == ("p", ["a.jpg"]))
        assert watcher.failure is None


def test_every_start_scans_and_then_the_timer_does(root: Path) -> None:
    (root / "a.jpg").write_bytes(b"1")
    with watching({"p": root}, scan_interval=0.2) as watcher:
        until(lambda: watcher.seen.scans[:4] == [("p", ["a.jpg"])] * 4)


def test_watching_goes_on_while_a_scan_takes_long(root: Path) -> None:
    with watching({"p": root}) as watcher:
        watcher.settled()
        scanning = threading.Event()
        finish = threading.Event()
        original = watcher.seen.scan

        def slow(*args: object, **kwargs: object) -> object:
            scanning.set()
            assert finish.wait(10)
            return original(*args, **kwargs)  # type: ignore[arg-type]

        (library,) = watcher.watcher._libraries.values()
        library._scan_with = slow
        library.request_scan()
        assert scanning.wait(10)
        (root / "a.jpg").write_bytes(b"1")
        announced(watcher, "p/a.jpg")
        for _ in range(5):
            library.request_scan()
        finish.set()
        until(lambda: len(watcher.seen.scans) == 2)  # the slow one, and one for the five requests
        time.sleep(0.2)
        assert len(watcher.seen.scans) == 2


def test_more_events_than_the_kernel_keeps_cause_a_scan(root: Path) -> None:
    with watching({"p": root}) as watcher:
        watcher.settled()
        (library,) = watcher.watcher._libraries.values()
        tree = library._source
        assert isinstance(tree, inotify.InotifyTree)
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        with tree._lock:  # the reader stands still, as on a machine under load
            (root / "first.jpg").write_bytes(b"1")
            time.sleep(0.1)
            for i in range(limit // 2 + 5000):
                (root / "a.jpg").touch()
                (root / "b.jpg").touch()
                if i == limit // 2 + 4000:
                    (root / "d").mkdir()
        until(lambda: watcher.seen.scans != [])
        assert watcher.seen.scans[-1] == ("p", ["a.jpg", "b.jpg", "first.jpg"])
        (root / "d/in-a-folder-whose-creation-went-unseen.jpg").write_bytes(b"1")
        announced(watcher, "p/d/in-a-folder-whose-creation-went-unseen.jpg")


def test_more_changes_than_memory_may_hold_cause_a_scan(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "LIMIT", 100)
    with watching({"p": root}) as watcher:
        watcher.settled()
        watcher.seen.blocked.set()  # as if Kafka were away
        for i in range(400):
            (root / f"{i}.jpg").write_bytes(b"1")
        time.sleep(0.3)
        watcher.seen.blocked.clear()
        until(lambda: any(len(seen) == 400 for _, seen in watcher.seen.scans))


@pytest.fixture
def polled_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "INTERVAL", 0.05)


@pytest.mark.usefixtures("polled_often")
def test_a_library_is_polled_when_the_watches_run_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> int:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(InotifyFD, "add_callback", exhausted)
    (root / "a.jpg").write_bytes(b"1")
    with watching({"p": root}) as watcher:
        until(lambda: watcher.seen.scans != [])
        time.sleep(0.2)
        (root / "b.jpg").write_bytes(b"1")
        announced(watcher, "p/b.jpg")
        (root / "a.jpg").unlink()
        announced(watcher, "p/a.jpg")


@pytest.mark.usefixtures("polled_often")
def test_a_library_whose_new_folder_gets_no_watch_is_polled_from_then_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = InotifyFD.add_callback

    def exhausted(self: InotifyFD, path: bytes, *args: object) -> object:
        if path.endswith(b"/new"):
            raise OSError(28, "inotify watch limit reached")
        return add(self, path, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(InotifyFD, "add_callback", exhausted)
    with watching({"p": root}) as watcher:
        watcher.settled()
        (root / "new").mkdir()
        until(lambda: watcher.seen.scans != [])
        time.sleep(0.2)
        (root / "new/a.jpg").write_bytes(b"1")
        announced(watcher, "p/new/a.jpg")


def test_the_watcher_ends_with_an_error_when_the_thread_that_reads_inotify_dies(root: Path) -> None:
    with watching({"p": root}) as watcher:
        watcher.settled()
        assert watcher.watcher._fd is not None
        watcher.watcher._fd.stop()
        until(lambda: isinstance(watcher.failure, PixdError))
