"""Stopped between any two steps of “send, confirm, remember, acknowledge”, the stages lose nothing."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pixeldetective import topics
from pixeldetective.records import Look
from stream_processors.deciding import decide
from stream_processors.observing import Gone
from stream_processors.rows import PathRow
from tests.stream_processors.world import World


def oracle(root: Path) -> dict[str, tuple[str, ...]]:
    """Contents computed from the disk alone."""
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.stat().st_size:
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            found.setdefault(sha256, []).append(f"lib/{path.relative_to(root)}")
    return {sha256: tuple(sorted(names)) for sha256, names in found.items()}


def move(world: World, old: str, new: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # it may have been changed between a crash and the restart
        (world.root / old).rename(world.root / new)


def drop(world: World) -> None:
    (world.root / "a.jpg").write_bytes(b"cat")
    world.look("a.jpg")


def drop_two_copies(world: World) -> None:
    (world.root / "a.jpg").write_bytes(b"cat")
    (world.root / "b.jpg").write_bytes(b"cat")
    world.look("a.jpg", "b.jpg")


def drop_and_overwrite(world: World) -> None:
    drop(world)
    world.run()
    (world.root / "a.jpg").write_bytes(b"a dog")
    world.look("a.jpg")


def drop_and_rename(world: World) -> None:
    drop(world)
    world.run()
    move(world, "a.jpg", "b.jpg")
    world.look("a.jpg", "b.jpg")


def drop_and_delete(world: World) -> None:
    drop(world)
    world.run()
    (world.root / "a.jpg").unlink(missing_ok=True)
    world.look("a.jpg")


def drop_delete_and_restore(world: World) -> None:
    drop_and_delete(world)
    world.run()
    drop(world)


def delete_while_nothing_ran(world: World) -> None:
    drop_two_copies(world)
    world.run()
    (world.root / "a.jpg").unlink(missing_ok=True)
    (world.root / "c.jpg").write_bytes(b"mouse")
    world.scan("1")


def swap_two_files(world: World) -> None:
    (world.root / "a.jpg").write_bytes(b"cat")
    (world.root / "b.jpg").write_bytes(b"dog")
    world.look("a.jpg", "b.jpg")
    world.run()
    move(world, "a.jpg", "c.jpg")
    move(world, "b.jpg", "a.jpg")
    move(world, "c.jpg", "b.jpg")
    world.look("a.jpg", "c.jpg", "b.jpg", "a.jpg")


def empty_then_filled(world: World) -> None:
    (world.root / "a.jpg").write_bytes(b"")
    world.look("a.jpg")
    world.run()
    drop(world)


SCENARIOS: list[Callable[[World], None]] = [
    drop,
    drop_two_copies,
    drop_and_overwrite,
    drop_and_rename,
    drop_and_delete,
    drop_delete_and_restore,
    delete_while_nothing_ran,
    swap_two_files,
    empty_then_filled,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_crash_between_any_two_steps_loses_nothing(scenario: Callable[[World], None], tmp_path: Path) -> None:
    step, crashed = 0, True
    while crashed:
        step += 1
        root = tmp_path / f"library-{step}"
        root.mkdir()
        world = World(root, tmp_path / f"cache-{step}", crash_at=step)
        scenario(world)
        world.run()
        assert world.contents() == oracle(root), f"after a crash at step {step}"
        assert world.known() == {path for paths in oracle(root).values() for path in paths}
        assert not world.mailbox.letters
        crashed = world.crashes > 0
    assert step > 5, "the scenario has no steps to crash at"


def vanish(world: World) -> None:
    for path in world.root.iterdir():
        path.unlink()
        world.look(path.name)


def become_something_else(world: World) -> None:
    (world.root / "a.jpg").write_bytes(b"quite another cat")
    world.look("a.jpg")


def become_what_it_was(world: World) -> None:
    (world.root / "a.jpg").unlink(missing_ok=True)
    (world.root / "a.jpg").write_bytes(b"cat")
    world.look("a.jpg")


@pytest.mark.parametrize("meanwhile", [vanish, become_something_else, become_what_it_was], ids=lambda f: f.__name__)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_what_changes_between_a_crash_and_the_restart_leaves_no_ghost(
    scenario: Callable[[World], None], meanwhile: Callable[[World], None], tmp_path: Path
) -> None:
    step, crashed = 0, True
    while crashed:
        step += 1
        root = tmp_path / f"library-{step}"
        root.mkdir()
        world = World(root, tmp_path / f"cache-{step}", crash_at=step)
        world.meanwhile = partial(meanwhile, world)
        scenario(world)
        world.run()
        assert world.contents() == oracle(root), f"after a crash at step {step}"
        assert world.known() == {path for paths in oracle(root).values() for path in paths}
        crashed = world.crashes > 0


def test_a_repeated_history_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "library"
    root.mkdir()
    world = World(root, tmp_path / "cache")
    drop_and_rename(world)
    world.run()
    before = world.contents()
    world.events += list(world.events)
    world.run()
    assert world.contents() == before == oracle(root)


def test_a_library_whose_folder_is_away_loses_nothing(tmp_path: Path) -> None:
    root = tmp_path / "library"
    root.mkdir()
    world = World(root, tmp_path / "cache")
    drop(world)
    world.run()
    before = world.contents()
    root.rename(tmp_path / "elsewhere")
    world.scan("1")
    world.run()
    assert world.contents() == before
    root.mkdir()  # another folder at the same place, as an empty mount point is
    world.scan("2")
    world.run()
    assert world.contents() == before


def test_removing_a_library_lets_its_files_go(tmp_path: Path) -> None:
    root = tmp_path / "library"
    root.mkdir()
    world = World(root, tmp_path / "cache")
    drop(world)
    world.run()
    world.libraries.registered = None
    world.scan("1")
    world.run()
    assert world.contents() == {}


def test_a_file_that_cannot_be_read_becomes_a_letter_and_keeps_what_was_known(tmp_path: Path) -> None:
    root = tmp_path / "library"
    (root / "folder").mkdir(parents=True)
    world = World(root, tmp_path / "cache")
    (root / "folder" / "a.jpg").write_bytes(b"cat")
    world.look("folder/a.jpg")
    world.run()
    before = world.contents()
    (root / "folder").rename(tmp_path / "moved")
    (root / "folder").symlink_to("folder")  # a loop: an error that is not “no such file”, for root too
    world.look("folder/a.jpg")
    world.run()
    assert world.contents() == before
    assert "cannot be read" in str(world.mailbox.letters["lib/folder/a.jpg"])


def test_an_empty_file_is_a_letter_until_it_is_filled(tmp_path: Path) -> None:
    root = tmp_path / "library"
    root.mkdir()
    world = World(root, tmp_path / "cache")
    (root / "a.jpg").write_bytes(b"")
    world.look("a.jpg")
    world.run()
    assert str(world.mailbox.letters["lib/a.jpg"]) == "The file is empty (0 bytes)."
    drop(world)
    world.run()
    assert world.contents() == oracle(root)
    assert not world.mailbox.letters


def test_a_second_look_never_goes_back_behind_what_happened_meanwhile(tmp_path: Path) -> None:
    root = tmp_path / "library"
    root.mkdir()
    world = World(root, tmp_path / "cache")
    (root / "a.jpg").write_bytes(b"cat")
    world.look("a.jpg")
    asyncio.run(world.work_on(0, attempt=1))
    (root / "a.jpg").unlink()
    world.look("a.jpg")
    asyncio.run(world.work_on(1))
    (root / "a.jpg").write_bytes(b"cat")
    asyncio.run(world.work_on(0, attempt=2))
    world.committed[topics.FILE_EVENTS] = 2
    world.look("a.jpg")
    world.run()
    assert world.contents() == oracle(root)


def test_an_event_repeated_after_a_later_deletion_finds_the_file_again(tmp_path: Path) -> None:
    root = tmp_path / "library"
    root.mkdir()
    world = World(root, tmp_path / "cache")
    (root / "a.jpg").write_bytes(b"cat")
    world.look("a.jpg")
    asyncio.run(world.work_on(0))
    (root / "a.jpg").unlink()
    world.look("a.jpg")
    asyncio.run(world.work_on(1))
    (root / "a.jpg").write_bytes(b"cat")
    world.run()  # nothing was committed: both events again
    assert world.contents() == oracle(root)


def test_a_file_that_no_longer_counts_leaves(tmp_path: Path) -> None:
    root = tmp_path / "library"
    root.mkdir()
    world = World(root, tmp_path / "cache")
    drop(world)
    world.run()
    world.restart(selected=lambda _relative: False)
    world.scan("1")
    world.run()
    assert world.contents() == {}


def test_a_row_without_a_content_is_forgotten_after_an_hour() -> None:
    hour = 3600 * 10**9
    row = PathRow("", 7, mtime_ns=1)
    assert decide(Look("lib/a.jpg"), 8, row, Gone(), 1 + hour - 1).row == row
    assert decide(Look("lib/a.jpg"), 8, row, Gone(), 1 + hour).row is None
