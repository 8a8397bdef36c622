"""The demo: sample photographs through the whole pipeline, in a home of its own.

The photographs come inside the wheels of scikit-image and scikit-learn, so nothing is downloaded for them.
"""

from __future__ import annotations

import importlib.resources
import os
import shutil
import time
from collections.abc import Callable

import msgspec

from pixeldetective.cli.asking import show_hits
from pixeldetective.errors import PixdError
from pixeldetective.operations import libraries, setup
from pixeldetective.operations.connections import Connections
from pixeldetective.operations.failures import failures
from pixeldetective.operations.search import search
from pixeldetective.operations.status import status
from pixeldetective.operations.waiting import wait_idle
from pixeldetective.process import log_problems_only
from pixeldetective.settings import Settings
from pixeldetective.stack import local

PHOTOS = (
    *("skimage.data/" + name for name in ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png")),
    *("skimage.data/" + name for name in ("horse.png", "hubble_deep_field.jpg", "moon.png", "motorcycle_left.png")),
    *("skimage.data/" + name for name in ("page.png", "rocket.jpg", "brick.png", "grass.png", "text.png")),
    *("sklearn.datasets.images/" + name for name in ("china.jpg", "flower.jpg")),
)
SEARCHES = {  # query: the photograph that must come first
    "a cat": "chelsea.png",
    "a cup of coffee": "coffee.png",
    "a motorcycle": "motorcycle_left.png",
    "a flower": "flower.jpg",
}
SHOWN = 3
TIMEOUT = 240.0  # seconds
CLUSTER = (
    "KAFKA_BOOTSTRAP",
    "QDRANT_URL",
    "QDRANT_API_KEY",
    "KAFKA_SECURITY_PROTOCOL",
    "COLLECTION",
    "MODEL",
    "MOUNTS",
)


def run(settings: Settings, *, say: Callable[[str], None], note: Callable[[str], None]) -> int:
    """Index the sample photographs, search them, stop; returns 0 only if every search found what it must.

    The demo's home is `demo` below PIXD_HOME; its software is that of PIXD_HOME. Raises PixdError if the stack does not
    start.
    """
    log_problems_only()
    started = time.monotonic()
    mine = _own_home(settings)
    note("This demo uses the model “builtin”: good enough to see how it works, no match for a CLIP model.")

    def prepare() -> None:
        with Connections(mine) as connections:
            setup.prepare(connections)
            libraries.add(connections, f"photos={mine.home / 'photos'}")

    local.up(mine, prepare=prepare, progress=note)
    try:
        note(f"Indexing {len(PHOTOS)} photographs …")
        with Connections(mine) as connections:
            wait_idle(connections, TIMEOUT)
            counts = status(connections, sample=0).counts
            for failure in failures(connections):
                note(f"Not indexed: {failure.files[0] if failure.files else failure.key}: {failure.reason}")
        say(f"{counts.points} photographs indexed.")
        missed = [query for query, expected in SEARCHES.items() if not _found(mine, query, expected, say)]
    finally:
        note("Stopping …")
        local.down(mine)
    if missed:
        note(f"Not found where expected: {', '.join(missed)}.")
        return 1
    say(f"All found, in {time.monotonic() - started:.0f} seconds. Now your own: ./pixd up FOLDER")
    return 0


def _found(settings: Settings, query: str, expected: str, say: Callable[[str], None]) -> bool:
    hits = search(settings, text=query, count=SHOWN, starting=True)
    say(f"\n“{query}”")
    show_hits(hits)
    return bool(hits) and hits[0].paths[0] == f"photos/{expected}"


def _own_home(settings: Settings) -> Settings:
    home = settings.home / "demo"
    photos = home / "photos"
    try:
        photos.mkdir(parents=True, exist_ok=True)
        software = settings.home / "software"
        software.mkdir(exist_ok=True)
        link = home / "software"
        if not link.is_symlink():
            link.symlink_to("../software")
        for photo in PHOTOS:
            package, _, name = photo.partition("/")
            with importlib.resources.as_file(importlib.resources.files(package) / name) as source:
                if not (photos / name).exists():
                    partial = photos / f".{name}.partial"
                    shutil.copyfile(source, partial)
                    partial.rename(photos / name)
    except OSError as error:
        raise PixdError(f"The demo cannot use {home}: {error}.") from None
    # A demo that wrote into somebody's cluster would be none. The workers inherit the environment.
    for name in CLUSTER:
        os.environ.pop(f"PIXD_{name}", None)
    return msgspec.structs.replace(Settings(), home=home)
