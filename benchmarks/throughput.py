"""Pictures per second through the pipeline, against a bare loop on the same files; known files rescanned per second.

    .venv/bin/python benchmarks/throughput.py --pictures 400 --files 20000

The bare loop reads, decodes and embeds in batches with the same code and no pipeline, on one thread. The pipeline runs
without captions, which nobody waits for. The rescan is `scan` of files that are all known: a stat and two records each.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.installed import installed
from pixeldetective.images.decode import decode
from pixeldetective.models.model import load_for_images
from pixeldetective.operations.connections import Connections
from pixeldetective.operations.waiting import scan_all, wait_through


def photograph(path: Path, seed: int) -> None:
    """Write a JPEG of 2 megapixels that is unlike the others."""
    noise = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((1600, 1200), Image.Resampling.BICUBIC).save(path, quality=85)


def bare(folder: Path, batch: int) -> float:
    """Pictures per second of a plain loop."""
    with tempfile.TemporaryDirectory() as cache:
        model = load_for_images("builtin", "", cache=Path(cache))
        files = sorted(folder.iterdir())
        started = time.monotonic()
        for begin in range(0, len(files), batch):
            pictures = [
                decode(file.read_bytes(), extension="jpg", side=model.side, max_pixels=10**9)
                for file in files[begin : begin + batch]
            ]
            model.embed_images(np.stack([model.preprocess(picture.pixels) for picture in pictures]))
        return len(files) / (time.monotonic() - started)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--files", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        prepared = Path(base) / "prepared"
        prepared.mkdir()
        for number in range(options.pictures):
            photograph(prepared / f"{number}.jpg", number)
        alone = bare(prepared, 32)
        with installed(caption_model="") as installation, Connections(installation.settings) as connections:
            installation.wait()
            folder = installation.folder / "pictures"
            folder.mkdir()
            started = time.monotonic()
            for file in sorted(prepared.iterdir()):
                os.link(file, folder / file.name)
            scan_all(connections)
            wait_through(connections, 900)
            piped = options.pictures / (time.monotonic() - started)
            print(f"pictures/s: bare loop {alone:.1f}, pipeline {piped:.1f}, ratio {piped / alone:.2f}")
            known = installation.folder / "known"
            known.mkdir()
            for number in range(options.files):
                os.link(prepared / f"{number % options.pictures}.jpg", known / f"{number}.jpg")
            scan_all(connections)
            started = time.monotonic()
            wait_through(connections, 900)
            print(f"links to known pictures added: {options.files / (time.monotonic() - started):.0f} files/s")
            started = time.monotonic()
            files = scan_all(connections)
            wait_through(connections, 900)
            print(f"known files rescanned: {files / (time.monotonic() - started):.0f} files/s")


if __name__ == "__main__":
    main()
