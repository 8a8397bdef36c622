"""What runs in a local stack: the servers that are not configured elsewhere, then the workers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from pixeldetective.errors import UsageError
from pixeldetective.settings import Settings
from pixeldetective.stack import java, kafka_server, qdrant_server
from pixeldetective.stack.addresses import Addresses

WORKERS = ("watcher", "stream", "embedder", "captioner", "sink", "api")


class Program(msgspec.Struct, frozen=True):
    """One program that is kept running. Its name is also that of its log."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    needs: tuple[str, ...] = ()  # programs that are started before it and stopped after it
    cwd: str = "/"
    stop_seconds: int = 20  # from SIGTERM to SIGKILL
    # What it gets when supervisord dies. A worker may be killed at any time by design, and a killed one cannot hang; a
    # server ends cleanly, and would be kept from running twice by the lock on its data.
    death_signal: int = int(signal.SIGKILL)


def servers(settings: Settings, *, kafka: Path | None, qdrant: Path | None) -> list[Program]:
    """Kafka from the folder `kafka` and the executable `qdrant`, each left out where it is None."""
    found = []
    if kafka:
        found.append(
            Program(
                name="kafka",
                argv=tuple(kafka_server.command(kafka)),
                env=java.environment(kafka, os.environ),
                cwd=str(kafka_server.folder(settings)),
                stop_seconds=60,
                death_signal=int(signal.SIGTERM),
            )
        )
    if qdrant:
        found.append(
            Program(
                name="qdrant",
                argv=tuple(qdrant_server.command(qdrant)),
                env=qdrant_server.environment(os.environ),
                cwd=str(qdrant_server.folder(settings)),
                stop_seconds=30,
                death_signal=int(signal.SIGTERM),
            )
        )
    return found


def workers(settings: Settings, addresses: Addresses, counts: Mapping[str, int] | None = None) -> list[Program]:
    """One program for each worker, or `counts[kind]` of them: `stream`, `stream-2` (which gets `--id 2`), …

    Raises UsageError for a kind that does not exist.
    """
    counts = dict(counts or {})
    unknown = set(counts) - set(WORKERS)
    if unknown:
        raise UsageError(f"There is no worker “{sorted(unknown)[0]}”; there are {', '.join(WORKERS)}.")
    needs = tuple(
        name
        for name, elsewhere in (("kafka", settings.kafka_bootstrap), ("qdrant", settings.qdrant_url))
        if not elsewhere
    )
    env = {**os.environ, "PIXD_HOME": str(settings.home), "PYTHONUNBUFFERED": "1"}
    return [
        Program(
            name=kind if number == 1 else f"{kind}-{number}",
            argv=(
                *(sys.executable, "-m", "pixeldetective.cli", "worker", kind),
                *(() if number == 1 else ("--id", str(number))),
            ),
            env={**env, "PIXD_API_PORT": str(addresses.api)} if kind == "api" else env,
            needs=needs,
            cwd=str(settings.home),
        )
        for kind in WORKERS
        if kind != "captioner" or settings.caption_model
        for number in range(1, counts.get(kind, 1) + 1)
    ]
