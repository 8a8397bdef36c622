"""What was being read when a process died is known to the next one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import skimage.data

from gpu_consumers import trial
from gpu_consumers.hazards import Hazards
from pixeldetective.errors import PictureError, Reason

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


DIES = """
import os, sys
from pathlib import Path
from gpu_consumers.hazards import Hazards
path, before, *contents = sys.argv[1:]
hazards = Hazards(Path(path), 4)
with hazards.reading(before):
    pass
held = [hazards.reading(sha256) for sha256 in contents]
for reading in held:
    reading.__enter__()
os._exit(1)
"""


def died_reading(path: Path, *contents: str) -> None:
    """A process that dies while it reads these, and has read another before."""
    subprocess.run([sys.executable, "-c", DIES, str(path), C, *contents], check=False)


def test_only_what_was_being_read_is_suspected(tmp_path: Path) -> None:
    died_reading(tmp_path / "notes", A, B)
    assert Hazards(tmp_path / "notes", 4).suspects == {A, B}


def test_a_suspect_stays_one_until_it_was_tried(tmp_path: Path) -> None:
    died_reading(tmp_path / "notes", A, B)
    second = Hazards(tmp_path / "notes", 2)  # fewer threads than before
    second.acquit(A)
    second.close()
    third = Hazards(tmp_path / "notes", 4)
    assert third.suspects == {B}
    third.acquit(B)
    assert Hazards(tmp_path / "notes", 4).suspects == frozenset()


def test_a_good_and_a_broken_picture_survive_their_trial() -> None:
    photo = (Path(skimage.data.__file__).parent / "coffee.png").read_bytes()
    trial.survive(photo, "png", 224, 10**8)
    trial.survive(b"no picture", "jpg", 224, 10**8)


def test_a_process_that_dies_convicts_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    run = subprocess.run

    def crash(_command: object, **options: object) -> object:
        return run([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", crash)
    with pytest.raises(PictureError, match=signal.SIGSEGV.name) as caught:
        trial.survive(b"", "raw", 224, 10**8)
    assert caught.value.reason is Reason.DECODER_CRASHED
