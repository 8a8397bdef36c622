"""Looking at processes from outside, as the tests of supervision need it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from pixeldetective.settings import Settings
from pixeldetective.stack import guard, supervisor
from pixeldetective.stack.supervisor import ProcessInfo, _home_key


def eventually(what: Callable[[], bool], *, seconds: float = 15.0) -> None:
    """Wait until `what` is true; fails after some seconds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.02)


def living(settings: Settings) -> list[int]:
    """Every process of this home, children of its programs included."""
    return guard.marked(lambda mark: mark.startswith(_home_key(settings) + ":"))


def of(settings: Settings, name: str) -> ProcessInfo:
    """What `pixd ps` would say about one program."""
    return next(process for process in supervisor.processes(settings) if process.name == name)


def supervisor_pid(settings: Settings) -> int:
    return int((settings.home / "run" / "supervisord.pid").read_text())


def traces(settings: Settings) -> list[str]:
    """What is left in `run`."""
    run = settings.home / "run"
    return sorted(os.listdir(run)) if run.exists() else []


def wait_for_file(path: Path) -> None:
    eventually(path.exists)
