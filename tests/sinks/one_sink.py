"""A sink in a process of its own, to be killed or frozen: python -m tests.sinks.one_sink WORLD run|freeze|kill."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence

from pixeldetective.errors import PictureError
from pixeldetective.settings import load
from sinks.points import Change
from sinks.sink import Sink
from tests.sinks.world import World


class Freezes(Sink):
    """Is frozen between reading a batch and writing it."""

    def write(self, changes: Sequence[Change]) -> list[tuple[Change, PictureError]]:
        os.kill(os.getpid(), signal.SIGSTOP)
        return super().write(changes)


class Dies(Sink):
    """Is killed after a batch was written, before it is committed."""

    def write(self, changes: Sequence[Change]) -> list[tuple[Change, PictureError]]:
        super().write(changes)
        os.kill(os.getpid(), signal.SIGKILL)
        return []


if __name__ == "__main__":
    name, mode = sys.argv[1:]
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    world = World(load(), name=name, joined=True)
    world.sink({"freeze": Freezes, "kill": Dies, "run": Sink}[mode], stopping=stopping).run()
