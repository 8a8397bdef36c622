"""Under the hammer: files are dropped while every process is killed once; in the end Qdrant must equal the folder.

    .venv/bin/python benchmarks/hammer.py --files 1000 --runs 10

Kills each worker with SIGKILL and restarts Kafka and Qdrant, in a new order each run, spread over the time in which the
files are written. Prints a line per run; ends with 1 if Qdrant ever differed from the disk, a point had no vector, or
there was a failure.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from pixeldetective import kafka
from pixeldetective.errors import PixdError
from pixeldetective.settings import load
from pixeldetective.stack import supervisor
from pixeldetective.stack.addresses import endpoints
from tests.pipeline.installation import Installation

WORKERS = ("watcher", "stream", "embedder", "captioner", "sink", "api")
SERVERS = ("kafka", "qdrant")


def kill(installation: Installation, name: str) -> None:
    """End one process: a worker by SIGKILL, a server by a restart."""
    settings = installation.settings
    if name in SERVERS:
        supervisor.restart(settings, name)
        return
    for process in supervisor.processes(settings):
        if process.name == name and process.pid:
            os.kill(process.pid, signal.SIGKILL)


def wait_for_kafka(installation: Installation) -> None:
    """It may be the one that was restarted last."""
    settings = installation.settings
    while True:
        try:
            return kafka.check(settings, endpoints(settings).kafka_bootstrap)
        except PixdError:
            time.sleep(0.5)


def run(installation: Installation, number: int, files: int, seconds: float) -> bool:
    """One run; whether all was well."""
    dice = random.Random(number)
    victims = [*WORKERS, *SERVERS]
    dice.shuffle(victims)

    def drop() -> None:
        for n in range(files):
            installation.draw(f"run{number}/{n % 10}/{n}.jpg", number * 1_000_000 + n)
            time.sleep(max(0.0, started + seconds * n / files - time.monotonic()))

    started = time.monotonic()
    dropping = threading.Thread(target=drop)
    dropping.start()
    for n, victim in enumerate(victims, start=1):
        time.sleep(max(0.0, started + seconds * n / (len(victims) + 1) - time.monotonic()))
        kill(installation, victim)
    dropping.join()
    wait_for_kafka(installation)
    installation.wait()
    settled = time.monotonic() - started
    qdrant, disk = installation.in_qdrant(), installation.on_disk()
    bare, failures = installation.without_vector(), installation.json("failures")
    good = qdrant == disk and not bare and not failures
    print(
        f"run {number}: {'ok' if good else 'WRONG'}: {len(disk)} on disk, {len(qdrant)} in Qdrant, {len(bare)} without "
        f"vector, {len(failures)} failures, settled after {settled:.0f} s, order {' '.join(victims)}",
        flush=True,
    )
    if not good:
        print("  only on disk:", sorted(str(disk[key]) for key in disk.keys() - qdrant.keys())[:5])
        print("  only in Qdrant:", sorted(str(qdrant[key]) for key in qdrant.keys() - disk.keys())[:5])
        print("  other paths:", [(qdrant[k], disk[k]) for k in disk.keys() & qdrant.keys() if qdrant[k] != disk[k]][:5])
        print("  failures:", failures[:5])
    installation.clear()
    installation.wait()
    empty = installation.in_qdrant() == {}
    if not empty:
        print(f"run {number}: after deletion {len(installation.in_qdrant())} points are left")
    return good and empty


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=45.0, help="over which the files are dropped")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        home, folder = Path(base) / "home", Path(base) / "photos"
        home.mkdir()
        folder.mkdir()
        (home / "software").symlink_to(load().home / "software")
        installation = Installation(home, folder)
        installation.run("up", "--detach", str(folder))
        try:
            good = [run(installation, n, options.files, options.seconds) for n in range(options.runs)]
        finally:
            installation.run("down")
    print(f"{sum(good)} of {len(good)} runs ok")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
