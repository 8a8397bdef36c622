"""The batch worker against a real Kafka: every record answered, whatever fails, wherever it is stopped."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path
from typing import Any

import pytest

from gpu_consumers.batch_worker import BatchWorker
from pixeldetective.errors import Reason
from pixeldetective.settings import Settings
from tests.gpu_consumers.world import Crash, World


@pytest.fixture
def world(local_stack: Settings, tmp_path: Path) -> World:
    return World(local_stack, tmp_path)


def test_every_record_is_answered_by_a_result_a_tombstone_or_a_letter(world: World) -> None:
    good = {world.put(f"{n}.jpg", b"picture %d" % n): b"PICTURE %d" % n for n in range(30)}
    bad = world.put("bad.jpg", b"undecodable")
    poison = world.put("poison.jpg", b"poison")
    gone = world.put("gone.jpg", b"deleted")
    world.catalogue(b"deleted")
    task = world.task()
    world.run(world.worker(task))
    answered = world.answered()
    assert answered.pop(gone) is None
    assert answered == good
    letters = world.letters()
    assert {key: letter.error for key, letter in letters.items()} == {
        bad: Reason.UNDECODABLE,
        poison: Reason.MODEL_FAILED,
    }
    assert "poison" in letters[poison].reason
    assert max(task.batches) <= 4, "no picture may fail because its batch was too large"


def test_what_was_computed_once_is_answered_from_the_cache(world: World) -> None:
    sha256 = world.put("a.jpg", b"picture")
    first, second = world.task(), world.task()
    world.run(world.worker(first))
    (world.root / "a.jpg").rename(world.root / "b.jpg")
    world.catalogue(b"picture", "b.jpg")
    world.run(world.worker(second))
    assert (sum(first.batches), sum(second.batches)) == (1, 0)
    assert [key for key, _ in world.history()] == [sha256, sha256]


def test_any_path_of_the_content_will_do(world: World) -> None:
    world.file("there.jpg", b"picture")
    sha256 = world.catalogue(b"picture", "missing.jpg", "there.jpg")
    world.run(world.worker(world.task()))
    assert world.answered() == {sha256: b"PICTURE"}


def test_a_newer_record_with_other_paths_saves_a_content_that_moved_meanwhile(world: World) -> None:
    world.file("new.jpg", b"picture")
    sha256 = world.catalogue(b"picture", "old.jpg")
    world.catalogue(b"picture", "new.jpg")
    world.run(world.worker(world.task()))
    assert world.answered() == {sha256: b"PICTURE"}
    assert world.letters() == {}


def test_bytes_that_changed_are_a_letter_until_the_catalogue_is_right_again(world: World) -> None:
    world.file("a.jpg", b"something else")
    sha256 = world.catalogue(b"picture", "a.jpg")
    world.run(world.worker(world.task()))
    assert world.letters()[sha256].error is Reason.CHANGED
    assert world.answered() == {}
    world.catalogue(b"picture")
    world.run(world.worker(world.task()))
    assert world.letters() == {}
    assert world.answered() == {sha256: None}


def test_a_content_that_goes_while_it_is_computed_ends_as_a_tombstone(world: World) -> None:
    task = world.task()
    task.gate.clear()

    class Slow(BatchWorker[bytes, bytes]):
        def _take(self, timeout: float) -> None:
            super()._take(timeout)
            if len(self._window) == 0:
                task.gate.set()

    sha256 = world.put("a.jpg", b"picture")
    world.catalogue(b"picture")
    world.run(world.worker(task, Slow))
    assert world.answered() == {sha256: None}


STEPS = ("_accept", "_prepare", "_computed", "_hand_on", "_send", "_write_letter", "_commit")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_stopped_before_or_after_any_step_it_loses_nothing(step: str, after: bool, world: World) -> None:
    good = {world.put(f"{n}.jpg", b"picture %d" % n): b"PICTURE %d" % n for n in range(6)}
    bad = world.put("bad.jpg", b"undecodable")
    gone = world.put("gone.jpg", b"deleted")
    world.catalogue(b"deleted")

    def stopped(self: Any, *arguments: Any, **options: Any) -> Any:
        self.countdown -= 1
        if self.countdown == 0 and not after:
            self.crash()
        result = getattr(BatchWorker, step)(self, *arguments, **options)
        if self.countdown == 0 and after:
            self.crash()
        return result

    class Stopped(BatchWorker[bytes, bytes]):
        countdown = 3
        crashed = False

        def crash(self) -> None:
            Stopped.crashed = True
            raise Crash(step)

        def step(self) -> None:
            if Stopped.crashed:  # it happened in another thread: the process would be gone
                raise Crash(step)
            super().step()

        def _revoked(self, consumer: Any, partitions: Any) -> None:
            """A killed process hands nothing over."""

    if step == "_write_letter":
        Stopped.countdown = 1
    setattr(Stopped, step, stopped)
    with pytest.raises(Crash):
        world.run(world.worker(world.task(), Stopped))
    assert Stopped.crashed
    world.run(world.worker(world.task()))
    answered = world.answered()
    assert answered.pop(gone) is None
    assert answered == good
    assert set(world.letters()) == {bad}


def test_a_picture_that_crashes_its_decoder_costs_only_itself(world: World) -> None:
    good = {world.put(f"{n}.jpg", b"picture %d" % n): b"PICTURE %d" % n for n in range(6)}
    crasher = world.put("crash.jpg", b"crash")
    crashes = 0
    while not world.caught_up():
        process = multiprocessing.get_context("fork").Process(target=world.run_in_child)
        process.start()
        process.join(60)
        if process.exitcode:
            assert process.exitcode == -signal.SIGSEGV
            crashes += 1
        assert crashes <= 1
    assert crashes == 1
    assert world.answered() == good
    assert {key: letter.error for key, letter in world.letters().items()} == {crasher: Reason.DECODER_CRASHED}
