"""A whole installation, used as a person would: through the command line, with files in a folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import skimage.data
from PIL import Image

from pixeldetective import paths
from pixeldetective.cache import Cache
from pixeldetective.operations.connections import Connections
from pixeldetective.operations.lag import lags
from pixeldetective.operations.status import status
from pixeldetective.operations.waiting import wait_idle
from pixeldetective.settings import Settings, load
from pixeldetective.stack import supervisor
from producers.selection import Selection

CAT = Path(skimage.data.__file__).parent / "chelsea.png"
ROCKET = Path(skimage.data.__file__).parent / "rocket.jpg"
TIMEOUT = 240  # seconds until a test gives up waiting; nothing here should take a quarter of it


class Installation:
    """A home of its own, and a folder of its own that is watched as the library `photos`."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home = home
        self.folder = folder
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("PIXD_")}
        self.environ["PIXD_HOME"] = str(home)
        # A second look and a deletion happen as ever, only sooner.
        self.environ |= {"PIXD_RECHECK": "0.5", "PIXD_GRACE": "0.7", "PIXD_QUIET": "0.3"}

    @property
    def settings(self) -> Settings:
        return load(self.environ)

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """`pixd ARGUMENTS`, which must end with the exit code `code`."""
        done = subprocess.run(
            [sys.executable, "-m", "pixeldetective.cli", *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=TIMEOUT + 60,
        )
        assert done.returncode == code, f"pixd {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str) -> Any:
        """The JSON document that `pixd ARGUMENTS --json` prints."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def wait(self) -> dict[str, Any]:
        """`pixd status --wait-idle --json`, without a process of its own for each of hundreds of times."""
        with Connections(self.settings) as connections:
            wait_idle(connections, TIMEOUT)
            found: dict[str, Any] = msgspec.to_builtins(status(connections, sample=0))
        return found

    def in_qdrant(self) -> dict[str, set[str]]:
        """What Qdrant says: sha256 → path ids."""
        with Connections(self.settings) as connections:
            points = connections.qdrant.scroll("photos")
            return {point["payload"]["sha256"]: set(point["payload"]["paths"]) for point in points}

    def without_vector(self) -> set[str]:
        """The contents that are listed and not found."""
        with Connections(self.settings) as connections:
            points = connections.qdrant.scroll("photos", vectors=True)
            return {point["payload"]["sha256"] for point in points if not point.get("vector")}

    def on_disk(self) -> dict[str, set[str]]:
        """What the disk says: sha256 → path ids of the files that count as pictures and are not empty."""
        root = os.fsencode(self.folder)
        selection = Selection(self.settings)
        found: dict[str, set[str]] = {}
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if selection.folder(name)]
            for name in names:
                file = os.path.join(folder, name)
                if selection.picture(name) and os.path.isfile(file) and os.path.getsize(file):
                    with open(file, "rb") as opened:
                        sha256 = hashlib.sha256(opened.read()).hexdigest()
                    found.setdefault(sha256, set()).add(paths.path_id("photos", root, file))
        return found

    def computed(self) -> int:
        """How many results were ever computed and kept on this machine, once the captioner is done, too."""
        self.wait_for_captions()
        cache = Cache(self.settings.cache_folder / "results", self.settings.cache_size)
        try:
            return len(cache)
        finally:
            cache.close()

    def wait_for_captions(self) -> None:
        """Wait for what `--wait-idle` does not wait for."""
        deadline = time.monotonic() + TIMEOUT
        with Connections(self.settings) as connections:
            while any(row.lag for row in lags(connections)):
                assert time.monotonic() < deadline, "captions do not come to an end"
                time.sleep(0.1)

    def drop(self, source: Path, name: str) -> Path:
        """Copy a file into the folder."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return target

    def draw(self, name: str, seed: int) -> Path:
        """Write a small picture that no other seed has."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((160, 120)).save(target, quality=80)
        return target

    def clear(self) -> None:
        """Delete every file in the folder."""
        for entry in self.folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def pid(self, name: str) -> int:
        """The process of a worker."""
        return next(p.pid for p in supervisor.processes(self.settings) if p.name == name and p.pid)
