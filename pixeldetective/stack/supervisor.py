"""Keeps the programs of one home running, by a `supervisord` of its own that `guard` completes.

supervisord restarts what ends; the guard counts, waits and sees to it that nothing outlives its supervisor. Below the
home: `run/` (configuration, pid, socket; empty when nothing runs) and `logs/NAME.log`, each at most 3 x 10 MB.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, cast
from xml.parsers.expat import ExpatError

import msgspec

from pixeldetective.errors import PixdError, UsageError
from pixeldetective.settings import Settings
from pixeldetective.stack import guard
from pixeldetective.stack.programs import Program

State = Literal["running", "starting", "backoff", "stopping", "stopped", "exited", "failed"]
STATES: dict[str, State] = {
    "STOPPED": "stopped",
    "STARTING": "starting",
    "RUNNING": "running",
    "BACKOFF": "backoff",
    "STOPPING": "stopping",
    "EXITED": "exited",
    "FATAL": "failed",
    "UNKNOWN": "failed",
}

ANSWER_SECONDS = 5.0  # how long supervisord may take; it never works for long
LEFT_OVER_SECONDS = 10.0  # from SIGTERM to SIGKILL for what a killed stack left behind

_BAD_NAME, _ALREADY_STARTED, _NOT_RUNNING = 10, 60, 70  # supervisor.xmlrpc.Faults

# Every path is relative to `run`, where supervisord is started: what a home's path may contain, this format may not (a
# comment begins with " #", a percent sign is expanded twice). /proc/self/cwd stands for `run`, too: supervisord makes
# the path of its socket absolute, and no such path may have more than 107 bytes.
_HEAD = """\
[unix_http_server]
file=/proc/self/cwd/supervisor.sock
chmod=0600

[supervisord]
logfile=../logs/supervisord.log
logfile_maxbytes=1MB
logfile_backups=1
pidfile=supervisord.pid
childlogdir=../logs
nocleanup=true
umask=022

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
# startsecs and startretries: whether a start succeeded, and how long to wait, is the guard's to judge.
_PROGRAM = """
[program:{name}]
command=./python -I -S ./guard.py {name}
autostart=false
autorestart=true
startsecs=0
startretries=1000000000
stopwaitsecs={stop_seconds}
killasgroup=true
redirect_stderr=true
stdout_logfile=../logs/{name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=2
"""


class NoAnswer(PixdError):
    """This home's supervisord is not there, or is frozen."""


class ProcessInfo(msgspec.Struct, frozen=True):
    """One program as `pixd ps` shows it."""

    name: str
    pid: int | None
    state: State
    restarts: int  # since `pixd up`


def start(settings: Settings, programs: Sequence[Program]) -> None:
    """Start supervisord with these programs, none of them running yet; `start_one` starts them.

    Ends first whatever an earlier stack of this home left behind, so that nothing ever runs twice. Call it only while
    `is_running` is false. Raises PixdError with supervisord's reason.
    """
    end_left_overs(settings)
    run, logs = _run(settings), log_of(settings, "x").parent
    run.mkdir(parents=True, exist_ok=True, mode=0o700)
    logs.mkdir(parents=True, exist_ok=True)
    # The interpreter itself and not its environment's: the guard needs the standard library alone.
    (run / "python").symlink_to(os.path.realpath(sys.executable))
    (run / "guard.py").symlink_to(guard.__file__)
    _configure(settings, programs)
    started = subprocess.run(
        [sys.executable, "-I", "-m", "supervisor.supervisord", "-c", "supervisord.conf"],
        cwd=run,
        env={**os.environ, guard.MARK: f"{_home_key(settings)}:supervisord"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    deadline = time.monotonic() + ANSWER_SECONDS
    while started.returncode == 0 and time.monotonic() < deadline:
        if is_running(settings):
            return
        time.sleep(0.02)
    said = [line for line in f"{started.stderr}\n{started.stdout}".splitlines() if line and "For help" not in line]
    _clean(settings)
    raise PixdError(f"The supervisor of the local stack did not start: {' '.join(said) or 'it gave no reason'}")


def stop(settings: Settings) -> None:
    """Stop all programs, those first that need others, then supervisord; leaves no process and no file in `run`.

    Returns when all of them have ended, those that do not listen by SIGKILL. May be called when nothing runs.
    """
    if is_running(settings):
        remaining = _specs(settings)
        try:
            while remaining:
                needed = {need for needs, _ in remaining.values() for need in needs}
                leaves = {name: limits for name, limits in remaining.items() if name not in needed} or remaining
                _stop_programs(settings, set(leaves), max(seconds for _, seconds in leaves.values()))
                remaining = {name: value for name, value in remaining.items() if name not in leaves}
            pid = _call(settings, "getPID")
            _call(settings, "shutdown")
            deadline = time.monotonic() + ANSWER_SECONDS
            while _alive(pid) and time.monotonic() < deadline:
                time.sleep(0.02)
        except (NoAnswer, xmlrpc.client.Fault):
            pass  # it died on the way: what is left is ended below
    end_left_overs(settings)


def end_left_overs(settings: Settings) -> list[int]:
    """End every process that belongs to this home's stack, whoever started it; the pids of those there were.

    SIGTERM, and SIGKILL after ten seconds. A process is recognised by its environment, so it is never a stranger's.
    Raises PixdError if one does not end even so (its disk does not answer).
    """
    prefix = f"{_home_key(settings)}:"

    def still_there() -> list[int]:
        return guard.marked(lambda mark: mark.startswith(prefix))

    pids = still_there()
    _signal(pids, signal.SIGTERM)
    patience = time.monotonic() + LEFT_OVER_SECONDS
    while remaining := still_there():
        if time.monotonic() > patience + LEFT_OVER_SECONDS:
            raise PixdError(f"The process {remaining[0]} of an earlier start cannot be ended, not even by SIGKILL.")
        if time.monotonic() > patience:
            _signal(remaining, signal.SIGKILL)
        time.sleep(0.05)
    _clean(settings)
    return pids


def is_running(settings: Settings) -> bool:
    """Whether this home's supervisord answers. One that is frozen or was killed does not."""
    try:
        return bool(_call(settings, "getState")["statename"] == "RUNNING")
    except (NoAnswer, xmlrpc.client.Fault):
        return False


def processes(settings: Settings) -> list[ProcessInfo]:
    """The programs of this home in the order of the data, nothing if its stack does not run."""
    try:
        found = _call(settings, "getAllProcessInfo")
    except (NoAnswer, xmlrpc.client.Fault):
        return []
    order = list(_specs(settings))
    shown = [_info(settings, entry) for entry in found]
    return sorted(shown, key=lambda process: order.index(process.name) if process.name in order else len(order))


def start_one(settings: Settings, name: str) -> None:
    """Start a program and count its restarts from here; nothing happens if it runs. Raises PixdError if unknown."""
    if not _is_idle(settings, name):
        return
    (_run(settings) / f"{name}.starts").unlink(missing_ok=True)
    _ask(settings, name, "startProcess", ignore={_ALREADY_STARTED})


def stop_one(settings: Settings, name: str) -> None:
    """Stop a program and wait until it has ended; it stays stopped until `start_one`. Raises PixdError if unknown."""
    _is_idle(settings, name)
    _stop_programs(settings, {name}, _specs(settings)[name][1])


def restart(settings: Settings, name: str) -> None:
    """Stop a program, then start it; it counts as a restart. Raises PixdError if unknown."""
    stop_one(settings, name)
    _ask(settings, name, "startProcess", ignore={_ALREADY_STARTED})


def add(settings: Settings, programs: Sequence[Program]) -> None:
    """Make more programs known to a running supervisord; those it knows stay as they are. `start_one` starts them."""
    known = _specs(settings)
    new = [program for program in programs if program.name not in known]
    if new:
        _configure(settings, new, keep=True)
        _call(settings, "reloadConfig")
        for program in new:
            _call(settings, "addProcessGroup", program.name)


def remove(settings: Settings, name: str) -> None:
    """Stop a program and forget it. Raises PixdError if unknown."""
    stop_one(settings, name)
    _call(settings, "removeProcessGroup", name)
    (_run(settings) / f"{name}.json").unlink(missing_ok=True)
    (_run(settings) / f"{name}.starts").unlink(missing_ok=True)
    _configure(settings, [], keep=True)


def log_of(settings: Settings, name: str) -> Path:
    """Where the output of a program goes."""
    return settings.home / "logs" / f"{name}.log"


def _info(settings: Settings, entry: dict[str, Any]) -> ProcessInfo:
    name = str(entry["name"])
    starts, waits_until = 0, 0.0
    try:
        fields = (_run(settings) / f"{name}.starts").read_text(encoding="ascii").split()
        starts, waits_until = int(fields[0]), float(fields[3])
    except (OSError, ValueError, IndexError):
        pass
    state: State = STATES.get(str(entry["statename"]), "failed")
    if state == "running" and not starts:
        state = "starting"  # in its place runs the guard,
    elif state == "running" and waits_until:
        state = "backoff"  # which here waits
    pid = int(entry["pid"]) or None
    return ProcessInfo(name=name, pid=pid, state=state, restarts=max(0, starts - 1))


def _is_idle(settings: Settings, name: str) -> bool:
    for process in processes(settings):
        if process.name == name:
            return process.state in {"stopped", "exited", "failed"}
    known = ", ".join(_specs(settings)) or "none: `pixd up` starts them"
    raise UsageError(f"There is no program “{name}” here; there are {known}.")


def _stop_programs(settings: Settings, names: Collection[str], seconds: int) -> None:
    deadline = time.monotonic() + seconds + 10  # supervisord sends SIGKILL after `seconds`
    while time.monotonic() < deadline:
        states = {str(entry["name"]): entry["statename"] for entry in _call(settings, "getAllProcessInfo")}
        # EXITED is no end: supervisord is about to start it again.
        left = [name for name in names if states.get(name, "STOPPED") not in {"STOPPED", "FATAL", "UNKNOWN"}]
        if not left:
            return
        for name in left:
            if states[name] != "STOPPING":
                _ask(settings, name, "stopProcess", ignore={_NOT_RUNNING, _BAD_NAME})
        time.sleep(0.05)


def _ask(settings: Settings, name: str, method: str, *, ignore: set[int]) -> None:
    try:
        _call(settings, method, name, False)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode not in ignore:
            log = log_of(settings, name)
            raise PixdError(f"{name}: supervisord says {fault.faultString}. Its log is {log}.") from None


class _Connection(http.client.HTTPConnection):
    # supervisor's own transport has no time limit, so a frozen supervisord would freeze us, too.
    def __init__(self, run: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self._run = run

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_SECONDS)
        folder = os.open(self._run, os.O_PATH)
        try:
            # By way of the open folder, as the path itself may be longer than a socket's may.
            self.sock.connect(f"/proc/self/fd/{folder}/supervisor.sock")
        finally:
            os.close(folder)


def _call(settings: Settings, method: str, *arguments: Any) -> Any:
    request = xmlrpc.client.dumps(arguments, f"supervisor.{method}").encode()
    connection = _Connection(_run(settings))
    try:
        connection.request("POST", "/RPC2", request, {"Content-Type": "text/xml"})
        answer = connection.getresponse()
        return xmlrpc.client.loads(answer.read())[0][0]
    except (OSError, http.client.HTTPException, ExpatError):
        raise NoAnswer(
            f"The supervisor of the local stack below {settings.home} does not answer. "
            "`pixd down` ends what is left of it, `pixd up` starts it again."
        ) from None
    finally:
        connection.close()


def _configure(settings: Settings, programs: Sequence[Program], *, keep: bool = False) -> None:
    run = _run(settings)
    for number, program in enumerate(programs, start=len(_specs(settings)) if keep else 0):
        spec = msgspec.structs.asdict(program)
        spec["env"] = {**program.env, guard.MARK: f"{_home_key(settings)}:{program.name}"}
        spec["order"] = number
        _write(run / f"{program.name}.json", msgspec.json.encode(spec))
        (run / f"{program.name}.starts").unlink(missing_ok=True)
    sections = [_PROGRAM.format(name=name, stop_seconds=seconds) for name, (_, seconds) in _specs(settings).items()]
    _write(run / "supervisord.conf", (_HEAD + "".join(sections)).encode())


def _specs(settings: Settings) -> dict[str, tuple[tuple[str, ...], int]]:
    """What each program needs and how many seconds it may take to stop, in their order."""
    specs = [msgspec.json.decode(file.read_bytes()) for file in _run(settings).glob("*.json")]
    specs.sort(key=lambda spec: cast(int, spec["order"]))
    return {spec["name"]: (tuple(spec["needs"]), spec["stop_seconds"]) for spec in specs}


def _home_key(settings: Settings) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(settings.home))).hexdigest()[:16]


def _run(settings: Settings) -> Path:
    return settings.home / "run"


def _clean(settings: Settings) -> None:
    for pattern in ("python", "guard.py", "supervisor.sock*", "supervisord.*", "*.json", "*.starts", "*.new"):
        for file in _run(settings).glob(pattern):
            file.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    # Only this user may read it: the environment of the programs holds passwords.
    new = path.with_name(f"{path.name}.new")
    new.touch(mode=0o600)
    new.write_bytes(data)
    new.replace(path)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
