"""A whole installation in a temporary home, for a benchmark."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixeldetective.settings import load
from pixeldetective.stack import install
from tests.pipeline.installation import Installation


@contextmanager
def installed(**settings: str) -> Iterator[Installation]:
    """A running installation with an empty folder; `settings` are PIXD_ settings by their lower-case names.

    Its timing is the default one, not that of the tests.
    """
    here = load()
    install.kafka(here)
    install.qdrant(here)
    with tempfile.TemporaryDirectory(prefix="pixd-benchmark-") as base:
        home, folder = Path(base) / "home", Path(base) / "photos"
        home.mkdir()
        folder.mkdir()
        (home / "software").symlink_to(install.software(here))
        installation = Installation(home, folder)
        for name in ("PIXD_RECHECK", "PIXD_GRACE", "PIXD_QUIET"):
            del installation.environ[name]
        installation.environ |= {f"PIXD_{name.upper()}": value for name, value in settings.items()}
        installation.run("up", "--detach", str(folder))
        try:
            installation.json("search", "warm up")
            yield installation
        finally:
            installation.run("down")
