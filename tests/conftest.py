"""What several packages of tests share: the servers' programs, and one running Kafka and Qdrant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pixeldetective.settings import Settings, load
from pixeldetective.stack import install, local
from pixeldetective.stack.addresses import endpoints


@pytest.fixture(scope="session")
def software() -> Path:
    """The folder with Kafka and Qdrant: that of PIXD_HOME (or the default home), filled by the first test run."""
    settings = load({"PIXD_HOME": os.environ.get("PIXD_HOME", "")})
    install.kafka(settings)
    install.qdrant(settings)
    install.prepare_fast_starts(settings)
    return install.software(settings)


def home_in(folder: Path, software: Path) -> Settings:
    """Settings of a new home that uses the software of another."""
    home = folder / "home"
    home.mkdir(parents=True)
    (home / "software").symlink_to(software)
    return load({"PIXD_HOME": str(home)})


@pytest.fixture
def home(tmp_path: Path, software: Path) -> Iterator[Settings]:
    """A home of its own for one test; whatever runs there afterwards is stopped."""
    settings = home_in(tmp_path, software)
    yield settings
    local.down(settings)


@pytest.fixture(scope="session")
def local_stack(software: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Kafka and Qdrant for the whole session, without workers; the settings name their addresses."""
    settings = home_in(tmp_path_factory.mktemp("stack"), software)
    local.up(settings, prepare=lambda: None, workers=lambda _: [])
    found = endpoints(settings)
    yield msgspec.structs.replace(
        settings,
        kafka_bootstrap=found.kafka_bootstrap,
        qdrant_url=found.qdrant_url,
        qdrant_grpc_port=found.qdrant_grpc_port,
    )
    local.down(settings)
