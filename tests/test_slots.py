"""Workers that share a folder, each in a home of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pixeldetective.errors import PixdError
from pixeldetective.settings import load
from pixeldetective.slots import slot

HOLDER = """
import sys, time
from pixeldetective.settings import load
from pixeldetective.slots import slot
with slot(load({"PIXD_HOME": sys.argv[1]}), "stream") as (_, number):
    print(number, flush=True)
    time.sleep(60)
"""


def test_each_worker_of_a_kind_has_a_number_and_a_home_of_its_own(tmp_path: Path) -> None:
    settings = load({"PIXD_HOME": str(tmp_path)})
    with slot(settings, "stream") as (first, one), slot(settings, "stream") as (second, two):
        assert (one, two) == ("1", "2")
        assert first.home == tmp_path / "workers" / "stream-1"
        assert second.home == tmp_path / "workers" / "stream-2"
        with slot(settings, "embedder") as (_, other):
            assert other == "1"
    with slot(settings, "stream") as (_, again):
        assert again == "1"


def test_a_killed_worker_leaves_its_home_to_the_next(tmp_path: Path) -> None:
    settings = load({"PIXD_HOME": str(tmp_path)})
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "1\n"
        with slot(settings, "stream") as (_, number):
            assert number == "2"
        worker.kill()
        worker.wait()
    with slot(settings, "stream") as (own, number):
        assert number == "1"
        assert own.home.is_dir()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "workers").write_text("in the way")
    with (
        pytest.raises(PixdError, match="workers/stream-1 cannot be used"),
        slot(load({"PIXD_HOME": str(tmp_path)}), "stream"),
    ):
        pass
