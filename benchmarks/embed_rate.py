"""Pictures per second from files to vectors, beside a bare loop of open_clip over the same files in the same run.

    python benchmarks/embed_rate.py MODEL FOLDER [--device DEVICE] [--batch N] [--threads N] [--rounds N]

MODEL is an id as PIXD_MODEL takes it, of open_clip's family. "Ours" decodes and prepares in a pool of threads while the
device embeds, as the embedder does, without Kafka. "Bare" is what the first page of open_clip's manual says: open, its
own transform, encode_image, in batches of the same size, in float32 as open_clip loads it, one picture after another.
Both read every file once before the clock starts, and take turns for `--rounds` rounds; the best round of each counts.
Processor time is for machines that are busy otherwise, where the clock says little. The cosines say that both computed
the same. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from PIL import Image

from pixeldetective.images.decode import decode
from pixeldetective.models.model import EmbeddingModel, load_for_images, resolve
from pixeldetective.models.open_clip import open_clip_arguments
from pixeldetective.settings import RASTER_EXTENSIONS

Floats = npt.NDArray[np.float32]


def ours(model: EmbeddingModel, files: list[Path], batch: int, threads: int) -> Floats:
    """Vectors as the embedder makes them."""

    def prepare(path: Path) -> Floats:
        picture = decode(path.read_bytes(), extension=path.suffix, side=model.side, max_pixels=10**9)
        return model.preprocess(picture.pixels)

    with ThreadPoolExecutor(threads) as pool:
        prepared = pool.map(prepare, files)
        batches = ([*islice(prepared, batch)] for _ in range(0, len(files), batch))
        return np.concatenate([model.embed_images(np.stack(one)) for one in batches])


@torch.inference_mode()
def bare(network: Any, transform: Any, device: str, files: list[Path], batch: int) -> Floats:
    """Vectors as open_clip's manual makes them."""
    vectors = []
    for start in range(0, len(files), batch):
        images = []
        for path in files[start : start + batch]:
            with Image.open(path) as image:
                images.append(transform(image.convert("RGB")))
        vectors.append(network.encode_image(torch.stack(images).to(device), normalize=True).cpu().numpy())
    return np.concatenate(vectors)


def timed(compute: Callable[[], Floats]) -> tuple[float, float, Floats]:
    """Seconds by the clock, seconds of all processors, and the result."""
    started, used = time.perf_counter(), time.process_time()
    result = compute()
    return time.perf_counter() - started, time.process_time() - used, result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    files = [one for one in sorted(arguments.folder.rglob("*")) if one.suffix.lower().lstrip(".") in RASTER_EXTENSIONS]
    if not files:
        raise SystemExit(f"No pictures below {arguments.folder}.")
    with tempfile.TemporaryDirectory() as cache:
        resolved = resolve(arguments.model, cache=Path(cache))
        model = load_for_images(arguments.model, arguments.device, cache=Path(cache))
    network, transform = open_clip.create_model_from_pretrained(*open_clip_arguments(resolved), device=model.device)
    network.eval()

    size = sum(len(path.read_bytes()) for path in files)
    for warm_up in (files[: arguments.batch], files[: len(files) % arguments.batch]):
        if warm_up:
            ours(model, warm_up, arguments.batch, arguments.threads)
            bare(network, transform, model.device, warm_up, arguments.batch)
    our_seconds, their_seconds, our_work, their_work = [], [], [], []
    for _ in range(arguments.rounds):
        seconds, work, our_vectors = timed(lambda: ours(model, files, arguments.batch, arguments.threads))
        our_seconds.append(seconds)
        our_work.append(work)
        seconds, work, their_vectors = timed(lambda: bare(network, transform, model.device, files, arguments.batch))
        their_seconds.append(seconds)
        their_work.append(work)
    cosines = (our_vectors * their_vectors).sum(axis=1)
    report = {
        "model": model.id,
        "device": model.device,
        "pictures": len(files),
        "megabytes": round(size / 10**6, 1),
        "batch": arguments.batch,
        "threads": arguments.threads,
        "ours, pictures/s": round(len(files) / min(our_seconds), 1),
        "bare open_clip, pictures/s": round(len(files) / min(their_seconds), 1),
        "ratio": round(min(their_seconds) / min(our_seconds), 2),
        "ours, processor ms/picture": round(1000 * min(our_work) / len(files), 1),
        "bare open_clip, processor ms/picture": round(1000 * min(their_work) / len(files), 1),
        "cosine, least": round(float(cosines.min()), 4),
        "cosine, mean": round(float(cosines.mean()), 4),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
