"""Text recall@10 of the model `builtin` on captioned pictures, directly, without the pipeline.

    python benchmarks/builtin_recall.py FOLDER

A picture takes part if a .txt file of its name lies beside it; its first line is the caption, the caption is the query,
and any picture with the same caption is a hit. Debian's package tuxpaint-stamps-default is such a folder (apt-get
download, dpkg -x); as symbols, cartoons and mirrored pictures say nothing about photographs, paths that contain these
words are left out. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pixeldetective.errors import PictureError
from pixeldetective.images.decode import decode
from pixeldetective.models.model import load_for_queries
from pixeldetective.settings import RASTER_EXTENSIONS

LEFT_OUT = ("symbols", "cartoon", "mirror", "flip")
BATCH = 32


def captioned(folder: Path) -> list[tuple[Path, str]]:
    """The pictures below `folder` that have a caption, with it, in the order of their paths."""
    found = []
    for path in sorted(folder.rglob("*")):
        relative = str(path.relative_to(folder)).lower()
        caption = path.with_suffix(".txt")
        if path.suffix.lower().lstrip(".") not in RASTER_EXTENSIONS or any(word in relative for word in LEFT_OUT):
            continue
        if caption.is_file() and (lines := caption.read_text("utf-8", "replace").strip().splitlines()):
            found.append((path, lines[0].strip()))
    return found


def recall(queries: npt.NDArray[np.float32], vectors: npt.NDArray[np.float32], captions: list[str], k: int) -> float:
    """Share of the queries with a picture of their own caption among the k nearest; one query per picture."""
    nearest = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]
    hits = [any(captions[index] == caption for index in row) for caption, row in zip(captions, nearest, strict=True)]
    return float(np.mean(hits))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as cache:
        model = load_for_queries("builtin", arguments.device, cache=Path(cache))
    inputs, captions = [], []
    started = time.perf_counter()
    for path, caption in captioned(arguments.folder):
        try:
            picture = decode(path.read_bytes(), extension=path.suffix, side=model.side, max_pixels=100_000_000)
        except PictureError as error:
            print(f"left out: {path}: {error}", file=sys.stderr)
            continue
        inputs.append(model.preprocess(picture.pixels))
        captions.append(caption)
    if not inputs:
        raise SystemExit(f"No captioned pictures below {arguments.folder}.")
    decoded = time.perf_counter()
    batches = [np.stack(inputs[start : start + BATCH]) for start in range(0, len(inputs), BATCH)]
    vectors = np.concatenate([model.embed_images(batch) for batch in batches])
    embedded = time.perf_counter()
    queries = model.embed_texts(captions)

    shuffled = np.random.default_rng(0).permutation(len(captions))
    report = {
        "pictures": len(captions),
        "captions": len(set(captions)),
        "recall@1": round(recall(queries, vectors, captions, 1), 4),
        "recall@10": round(recall(queries, vectors, captions, 10), 4),
        "recall@10 by chance": round(recall(queries, vectors[shuffled], captions, 10), 4),
        "decode, pictures/s": round(len(captions) / (decoded - started), 1),
        "embed, pictures/s": round(len(captions) / (embedded - decoded), 1),
        "device": model.device,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
