from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pixeldetective.errors import PixdError
from pixeldetective.stack.lock import hold


def test_one_at_a_time_and_no_file_is_left(tmp_path: Path) -> None:
    inside = most = 0
    guard = threading.Lock()

    def enter() -> None:
        nonlocal inside, most
        with hold(tmp_path / "lock", timeout=20, busy="busy"):
            with guard:
                inside += 1
                most = max(most, inside)
            with guard:
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert not (tmp_path / "lock").exists()


def test_whoever_waits_too_long_is_told(tmp_path: Path) -> None:
    waited: list[bool] = []
    with (
        hold(tmp_path / "lock", timeout=1, busy="first"),
        pytest.raises(PixdError, match="second"),
        hold(tmp_path / "lock", timeout=0.1, busy="second", waiting=lambda: waited.append(True)),
    ):
        raise AssertionError("both hold the lock")
    assert waited == [True]


def test_a_holder_that_was_killed_lets_go(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from pixeldetective.stack.lock import hold\n"
        "with hold(pathlib.Path(sys.argv[1]), timeout=1, busy=''):\n print('in', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
    with hold(tmp_path / "lock", timeout=1, busy="still held"):
        pass
