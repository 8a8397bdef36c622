from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from pixeldetective.errors import UsageError
from pixeldetective.settings import Settings, load
from pixeldetective.stack import guard, supervisor
from pixeldetective.stack.programs import Program

from .processes import eventually, living, of, supervisor_pid, traces, wait_for_file


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    # A name that a shell, a configuration file and a socket address would all trip over.
    found = load({"PIXD_HOME": str(tmp_path / f'a home %d #1 ;"é {"x" * 100}')})
    yield found
    supervisor.stop(found)


def program(name: str, code: str, *, needs: tuple[str, ...] = (), stop_seconds: int = 5) -> Program:
    return Program(name, (sys.executable, "-c", code), dict(os.environ), needs=needs, stop_seconds=stop_seconds)


def sleeper(name: str, *, needs: tuple[str, ...] = ()) -> Program:
    return Program(name, ("/bin/sleep", "300"), dict(os.environ), needs=needs)


def stubborn(name: str, ready: Path, *, stop_seconds: int = 1) -> Program:
    code = (
        "import signal, time, pathlib; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(ready)!r}).touch(); time.sleep(300)"
    )
    return program(name, code, stop_seconds=stop_seconds)


def test_it_starts_in_order_shows_and_stops(settings: Settings) -> None:
    supervisor.start(settings, [sleeper("b"), sleeper("a", needs=("b",))])
    assert [(p.name, p.state, p.pid) for p in supervisor.processes(settings)] == [
        ("b", "stopped", None),
        ("a", "stopped", None),
    ]
    supervisor.start_one(settings, "b")
    supervisor.start_one(settings, "a")
    eventually(lambda: of(settings, "a").state == "running")
    assert of(settings, "b").pid in living(settings)
    supervisor.stop(settings)
    assert not supervisor.is_running(settings)
    assert supervisor.processes(settings) == []
    assert living(settings) == []
    assert traces(settings) == []
    supervisor.stop(settings)


def test_the_pid_is_that_of_the_program_and_a_killed_one_comes_back(settings: Settings) -> None:
    supervisor.start(settings, [sleeper("w")])
    supervisor.start_one(settings, "w")
    eventually(lambda: of(settings, "w").state == "running")
    pid = of(settings, "w").pid
    assert pid is not None
    eventually(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"/bin/sleep"))
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: of(settings, "w").restarts == 1 and of(settings, "w").state == "running")
    assert of(settings, "w").pid != pid


def test_a_program_that_keeps_ending_waits_longer_each_time(settings: Settings, tmp_path: Path) -> None:
    times = tmp_path / "times"
    code = f"import time; open({str(times)!r}, 'a').write(f'{{time.monotonic()}}\\n'); raise SystemExit(3)"
    supervisor.start(settings, [program("w", code)])
    supervisor.start_one(settings, "w")
    eventually(lambda: of(settings, "w").state == "backoff")
    eventually(lambda: of(settings, "w").restarts >= 3)
    eventually(lambda: len(times.read_text().splitlines()) >= 4)
    at = [float(line) for line in times.read_text().splitlines()]
    gaps = [later - earlier for earlier, later in pairwise(at)]
    assert gaps[0] >= 0.25
    assert gaps[1] >= 0.5
    assert gaps[2] >= 1.0
    started = time.monotonic()
    supervisor.stop_one(settings, "w")
    assert time.monotonic() - started < 3, "a program that waits for its next start does not delay the stop"
    assert of(settings, "w").state == "stopped"


def test_the_delays() -> None:
    assert [guard.delay_before(n) for n in (0, 1, 2, 3, 7, 8, 10_000)] == [0, 0.25, 0.5, 1, 16, 30, 30]


def test_nothing_outlives_a_killed_supervisor(settings: Settings, tmp_path: Path) -> None:
    supervisor.start(settings, [sleeper("w"), stubborn("deaf", tmp_path / "deaf")])
    supervisor.start_one(settings, "w")
    supervisor.start_one(settings, "deaf")
    wait_for_file(tmp_path / "deaf")
    os.kill(supervisor_pid(settings), signal.SIGKILL)
    eventually(lambda: living(settings) == [])
    assert not supervisor.is_running(settings)
    assert supervisor.processes(settings) == []


def test_a_start_over_the_remains_of_a_killed_stack(settings: Settings) -> None:
    supervisor.start(settings, [sleeper("w")])
    supervisor.start_one(settings, "w")
    for pid in [supervisor_pid(settings), *living(settings)]:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: living(settings) == [])
    assert "supervisor.sock" in traces(settings)
    supervisor.start(settings, [sleeper("w")])
    supervisor.start_one(settings, "w")
    eventually(lambda: of(settings, "w").state == "running")
    assert of(settings, "w").restarts == 0


def test_a_frozen_stack_is_replaced(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(supervisor, "LEFT_OVER_SECONDS", 0.5)
    supervisor.start(settings, [sleeper("w")])
    supervisor.start_one(settings, "w")
    eventually(lambda: of(settings, "w").state == "running")
    frozen = of(settings, "w").pid
    assert frozen
    os.kill(supervisor_pid(settings), signal.SIGSTOP)
    os.kill(frozen, signal.SIGSTOP)
    assert not supervisor.is_running(settings)
    monkeypatch.setattr(supervisor, "ANSWER_SECONDS", 5.0)
    supervisor.start(settings, [sleeper("w")])
    supervisor.start_one(settings, "w")
    eventually(lambda: of(settings, "w").state == "running")
    assert frozen not in living(settings)


def test_children_of_a_killed_program_are_gone_before_its_next_start(settings: Settings, tmp_path: Path) -> None:
    child = tmp_path / "child"
    code = (
        "import subprocess, sys, time, pathlib; c = subprocess.Popen(['/bin/sleep', '300'])\n"
        f"open({str(child)!r}, 'a').write(f'{{c.pid}}\\n'); time.sleep(300)"
    )
    supervisor.start(settings, [program("w", code)])
    supervisor.start_one(settings, "w")
    eventually(lambda: child.exists() and child.read_text().endswith("\n"))
    pid = of(settings, "w").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(child.read_text().splitlines()) == 2)
    assert int(child.read_text().splitlines()[0]) not in living(settings)
    assert len(living(settings)) == 3  # supervisord, the program, its new child
    supervisor.stop(settings)
    assert living(settings) == []


def test_a_program_that_ignores_sigterm_is_killed(settings: Settings, tmp_path: Path) -> None:
    supervisor.start(settings, [stubborn("deaf", tmp_path / "deaf")])
    supervisor.start_one(settings, "deaf")
    wait_for_file(tmp_path / "deaf")
    supervisor.stop(settings)
    assert living(settings) == []


def test_those_that_need_others_are_stopped_first(settings: Settings, tmp_path: Path) -> None:
    ends = tmp_path / "ends"

    def noting(name: str, needs: tuple[str, ...] = ()) -> Program:
        code = (
            "import signal, sys, time, pathlib\n"
            f"def end(*_):\n time.sleep(0.2); open({str(ends)!r}, 'a').write('{name} '); sys.exit()\n"
            f"signal.signal(signal.SIGTERM, end); pathlib.Path({str(tmp_path / name)!r}).touch(); time.sleep(300)"
        )
        return program(name, code, needs=needs)

    supervisor.start(settings, [noting("server"), noting("worker", ("server",))])
    for name in ("server", "worker"):
        supervisor.start_one(settings, name)
        wait_for_file(tmp_path / name)
    supervisor.stop(settings)
    assert ends.read_text().split() == ["worker", "server"]


def test_programs_come_and_go_while_it_runs(settings: Settings) -> None:
    supervisor.start(settings, [sleeper("one")])
    supervisor.start_one(settings, "one")
    eventually(lambda: of(settings, "one").state == "running")
    pid = of(settings, "one").pid
    supervisor.add(settings, [sleeper("one"), sleeper("two")])
    supervisor.start_one(settings, "two")
    eventually(lambda: of(settings, "two").state == "running")
    assert of(settings, "one").pid == pid
    supervisor.restart(settings, "one")
    eventually(lambda: of(settings, "one").state == "running")
    assert of(settings, "one").pid != pid
    eventually(lambda: of(settings, "one").restarts == 1)
    supervisor.remove(settings, "two")
    assert [process.name for process in supervisor.processes(settings)] == ["one"]


def test_a_program_that_cannot_be_executed_says_so_in_its_log(settings: Settings) -> None:
    supervisor.start(settings, [Program("w", ("/no/such/program",), {})])
    supervisor.start_one(settings, "w")
    log = supervisor.log_of(settings, "w")
    eventually(lambda: log.exists() and "/no/such/program" in log.read_text())


def test_an_unknown_program_is_named(settings: Settings) -> None:
    supervisor.start(settings, [sleeper("one")])
    with pytest.raises(UsageError, match=r"no program “two” here; there are one\."):
        supervisor.start_one(settings, "two")


def test_nobody_else_can_read_the_environment_of_the_programs(settings: Settings) -> None:
    supervisor.start(settings, [sleeper("one")])
    assert (settings.home / "run" / "one.json").stat().st_mode & 0o077 == 0
