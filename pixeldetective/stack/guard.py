"""What supervisord starts in place of each program: `python -I -S guard.py NAME`, in the folder `run` of a home.

Standard library only, and quick: this runs before every start of every program. It

1. has the kernel end the program when supervisord dies, so that nothing runs on unsupervised;
2. ends what an earlier start of the same program left behind (a decoder process whose parent was killed);
3. waits a while if the program keeps ending quickly: 0.25 s at first, then doubling, at most 30 s;
4. counts the start in `NAME.starts`;
5. becomes the program that `NAME.json` describes: same process, same pid.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time

if False:  # what only type checkers need; `typing` takes longer to import than all the rest
    from collections.abc import Callable

# Every process of a home carries this name, with the value `<home>:<program>`, and its children inherit it. That is how
# what a killed stack left behind is found: a pid may belong to a stranger by now, an environment cannot.
MARK = "PIXELDETECTIVE_PROCESS"

HEALTHY_SECONDS = 60.0
FIRST_DELAY = 0.25
LONGEST_DELAY = 30.0
ENOUGH_FILES = 65536

_PR_SET_PDEATHSIG = 1


def main(name: str) -> None:
    """Become the program `name`. Returns only by exception."""
    with open(f"{name}.json", encoding="utf-8") as file:
        program = json.load(file)
    end_with_parent(program["death_signal"])
    with open("supervisord.pid", encoding="ascii") as file:
        if os.getppid() != int(file.read()):
            sys.exit(f"{name} is not started: supervisord has just ended.")
    mark = program["env"][MARK]
    for pid in marked(lambda value: value == mark):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    _count_and_wait(name)
    _raise_file_limit()
    os.chdir(program["cwd"])
    os.execvpe(program["argv"][0], program["argv"], program["env"])  # noqa: S606


def end_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the thread that started it ends. Holds across exec, not fork.

    Also for pools of processes: `ProcessPoolExecutor(…, initializer=end_with_parent)`.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def marked(matches: Callable[[str], bool]) -> list[int]:
    """The pids of living processes whose mark satisfies `matches`, this one and its parents left out."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in (os.getpid(), os.getppid()):
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                environ = file.read()
        except OSError:
            continue  # it ended, or belongs to somebody else; a zombie has nothing to read
        for line in environ.split(b"\0"):
            if line.startswith(MARK.encode() + b"=") and matches(os.fsdecode(line.split(b"=", 1)[1])):
                found.append(int(entry))
                break
    return found


def delay_before(quick_ends: int) -> float:
    """Seconds to wait before the next start of a program that ended quickly so many times in a row."""
    return 0.0 if quick_ends == 0 else min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(quick_ends - 1, 30))


def _raise_file_limit() -> None:
    # Kafka and Qdrant keep a file open per segment; the usual soft limit of 1024 is meant for users of select().
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _count_and_wait(name: str) -> None:
    # Starts so far, quick ends in a row, when it started last, until when it waits now (seconds of the monotonic clock,
    # which all processes of a machine share).
    starts, quick, last = 0, 0, 0.0
    now = time.monotonic()
    try:
        with open(f"{name}.starts", encoding="ascii") as file:
            fields = file.read().split()
        starts, quick, last = int(fields[0]), int(fields[1]), float(fields[2])
    except (OSError, ValueError, IndexError):
        pass
    if starts:
        quick = quick + 1 if 0 <= now - last < HEALTHY_SECONDS else 0
        until = now + delay_before(quick)
        _write(name, starts, quick, last, until)
        time.sleep(until - now)
    _write(name, starts + 1, quick, time.monotonic(), 0.0)


def _write(name: str, starts: int, quick: int, last: float, until: float) -> None:
    with open(f"{name}.starts.new", "w", encoding="ascii") as file:
        file.write(f"{starts} {quick} {last} {until}")
    os.replace(f"{name}.starts.new", f"{name}.starts")


if __name__ == "__main__":
    main(sys.argv[1])
