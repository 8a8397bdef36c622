"""What `pixd up` shows while it stays in the foreground."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from pixeldetective.cli.output import failed, note
from pixeldetective.errors import PixdError
from pixeldetective.operations.connections import Connections
from pixeldetective.operations.status import Status, status
from pixeldetective.settings import Settings
from pixeldetective.stack import supervisor

PERIOD = 2.0  # seconds between two lines


def follow(settings: Settings) -> None:
    """Show progress until SIGINT, SIGTERM or SIGHUP; returns then."""
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    note("Running; Ctrl-C stops everything. In another terminal: pixd search TEXT")
    last = ""
    with Connections(settings) as connections:
        while not ended.is_set():
            if not supervisor.is_running(settings):
                raise PixdError("The local stack was stopped, or its supervisor ended. `pixd up` starts it again.")
            try:
                line = describe(status(connections))
            except PixdError as error:
                line = str(error)
            if sys.stderr.isatty():
                width = os.get_terminal_size(sys.stderr.fileno()).columns
                sys.stderr.write(f"\r\x1b[K{line if len(line) < width else line[: width - 2] + '…'}")
                sys.stderr.flush()
            elif line != last:
                note(line)
            last = line
            ended.wait(PERIOD)
    if sys.stderr.isatty():
        sys.stderr.write("\n")


def describe(found: Status) -> str:
    """The state of everything in one line."""
    counts = found.counts
    files = "?" if counts.files is None else f"{counts.files:,}"
    parts = [f"{files} files", f"{counts.searchable or 0:,} found by search", failed(counts.failures)]
    waiting = [f"{name} {stage.lag:,}" for name, stage in found.stages.items() if stage.lag]
    parts.append("waiting: " + ", ".join(waiting) if waiting else "idle" if found.idle else "starting")
    parts += [f"{library.library} is held" for library in found.held]
    return " · ".join(parts)
