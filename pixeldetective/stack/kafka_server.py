"""Kafka as one small broker on 127.0.0.1: its configuration, its storage, and how to tell that it answers.

Everything lies in the folder `kafka` of a home; the broker is started in that folder, so that no path of the person's
is ever read by Kafka's parsers.
"""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import uuid
from pathlib import Path

from pixeldetective.errors import PixdError
from pixeldetective.settings import Settings
from pixeldetective.stack import java
from pixeldetective.stack.addresses import LOCALHOST

HEAP = ("-Xms128m", "-Xmx512m")
YEAR_IN_MINUTES = 366 * 24 * 60


def folder(settings: Settings) -> Path:
    """Where this home's broker keeps `server.properties` and `data`."""
    return settings.home / "kafka"


def configure(where: Path, port: int, controller_port: int) -> None:
    """Write `server.properties` into the folder `where`. The ports may differ from those of the last start."""
    listeners = f"PLAINTEXT://{LOCALHOST}:{port}"
    single = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
    values: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        # Voters named here and not in the storage, so that another port is only another line in this file.
        "controller.quorum.voters": f"1@{LOCALHOST}:{controller_port}",
        "listeners": f"{listeners},CONTROLLER://{LOCALHOST}:{controller_port}",
        "advertised.listeners": listeners,
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": "data",
        **{f"{topic}.replication.factor": 1 for topic in single},
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        # Few partitions of Kafka's own: each costs two files and some milliseconds at every start.
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        # After SIGKILL a broker is let in only when its former self counts as dead: 9 s by default, each time.
        "broker.heartbeat.interval.ms": 500,
        "broker.session.timeout.ms": 3000,
        "auto.create.topics.enable": "false",
        # A stack that was down for months goes on where it stopped.
        "offsets.retention.minutes": YEAR_IN_MINUTES,
        "log.segment.bytes": 128 * 1024**2,
        # The default, 128 MB, is a quarter of this heap; 32 MB clean 1.4 million keys in one pass.
        "log.cleaner.dedupe.buffer.size": 32 * 1024**2,
        "num.recovery.threads.per.data.dir": 2,
    }
    where.mkdir(parents=True, exist_ok=True)
    new = where / "server.properties.new"
    new.write_bytes(java.properties(values))
    new.replace(where / "server.properties")


def format_storage(kafka: Path, where: Path) -> None:
    """Format `data` in the folder `where`, which is configured already; changes nothing if it is formatted.

    Raises PixdError with Kafka's reason.
    """
    if (where / "data" / "meta.properties").exists():
        return
    done = subprocess.run(
        java.command(
            kafka,
            "kafka.tools.StorageTool",
            ["format", f"--cluster-id={_new_cluster_id()}", "--config=server.properties", "--ignore-formatted"],
            options=["-XX:TieredStopAtLevel=1"],
        ),
        cwd=where,
        env=java.environment(kafka, os.environ),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it gave no reason"]
        raise PixdError(f"Kafka's storage {where / 'data'} could not be formatted: {said[-1]}")


def command(kafka: Path) -> list[str]:
    """The argument list of the broker; it is started in the folder that was given to `configure`."""
    return java.command(kafka, "kafka.Kafka", ["server.properties"], options=[*HEAP, "-XX:+ExitOnOutOfMemoryError"])


def answers(port: int, *, timeout: float = 2.0) -> bool:
    """Whether the broker on this port serves clients: it answers a metadata request with a broker in it."""
    with socket.socket() as sock:
        sock.settimeout(timeout)
        # librdkafka reports a refused connection on stderr; so it is only asked when somebody listens.
        if sock.connect_ex((LOCALHOST, port)):
            return False

    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient({"bootstrap.servers": f"{LOCALHOST}:{port}", "log_level": 0, "socket.timeout.ms": 5000})
    try:
        return bool(client.list_topics(timeout=timeout).brokers)
    except KafkaException:
        return False


def _new_cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
