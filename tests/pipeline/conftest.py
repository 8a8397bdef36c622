"""One installation for all tests of the whole pipeline, with an empty folder for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.installation import Installation


@pytest.fixture(scope="session")
def running(software: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The whole local stack, watching one folder."""
    base = tmp_path_factory.mktemp("pipeline")
    home, folder = base / "home", base / "photos"
    home.mkdir()
    folder.mkdir()
    (home / "software").symlink_to(software)
    installation = Installation(home, folder)
    try:
        installation.run("up", "--detach", str(folder))
        yield installation
    finally:
        installation.run("down")


@pytest.fixture
def pixd(running: Installation) -> Installation:
    """The running installation, its folder empty and Qdrant, too."""
    running.clear()
    running.wait()
    assert running.in_qdrant() == {}
    return running
