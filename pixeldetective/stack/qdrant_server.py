"""Qdrant on 127.0.0.1: its configuration, and how to tell that it answers.

Everything lies in the folder `qdrant` of a home, in which the server is started.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path

from pixeldetective.settings import Settings
from pixeldetective.stack.addresses import LOCALHOST


def folder(settings: Settings) -> Path:
    """Where this home's Qdrant keeps `config.yaml`, `storage` and `snapshots`."""
    return settings.home / "qdrant"


def configure(where: Path, http_port: int, grpc_port: int, *, api_key: str = "") -> None:
    """Write `config.yaml` into the folder `where`. The ports may differ from those of the last start."""
    config = {
        "log_level": "WARN",
        "telemetry_disabled": True,
        "storage": {"storage_path": "./storage", "snapshots_path": "./snapshots"},
        "service": {
            "host": LOCALHOST,
            "http_port": http_port,
            "grpc_port": grpc_port,
            **({"api_key": api_key} if api_key else {}),
        },
    }
    where.mkdir(parents=True, exist_ok=True)
    new = where / "config.yaml.new"
    new.touch(mode=0o600)
    new.write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")  # JSON is YAML
    new.replace(where / "config.yaml")


def command(program: Path) -> list[str]:
    """The argument list of the server; it is started in the folder that was given to `configure`."""
    return [str(program), "--config-path", "config.yaml"]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what would overrule `config.yaml`."""
    return {name: value for name, value in environ.items() if not name.startswith("QDRANT__") and name != "RUN_MODE"}


def answers(port: int, *, timeout: float = 2.0) -> bool:
    """Whether the server on this port has loaded its collections and serves requests."""
    connection = http.client.HTTPConnection(LOCALHOST, port, timeout=timeout)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
