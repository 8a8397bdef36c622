"""Text recall@10 through the whole pipeline, on captioned pictures.

    .venv/bin/python benchmarks/pipeline_recall.py FOLDER

FOLDER is that of Debian's tuxpaint-stamps-default (…/share/tuxpaint/stamps): PNGs, each with a .txt whose first line is
its caption. Symbols, cartoons and mirrored or flipped ones are left out. Every caption is a query; any picture with the
same caption is a hit. Also prints the time from the first file to an idle pipeline.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import httpx

from benchmarks.builtin_recall import captioned
from benchmarks.installed import installed
from pixeldetective.stack.addresses import endpoints


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    pictures = captioned(options.folder)
    with installed() as installation:
        installation.wait()
        captions = {}
        started = time.monotonic()
        for number, (path, caption) in enumerate(pictures):
            name = f"{number}{path.suffix}"
            shutil.copyfile(path, installation.folder / name)
            captions[f"photos/{name}"] = caption
        status = installation.wait()
        seconds = time.monotonic() - started
        hits = 0
        with httpx.Client(base_url=endpoints(installation.settings).api_url, trust_env=False) as client:
            for caption in captions.values():
                found = client.get("/search", params={"q": caption, "n": 10}).json()
                hits += any(captions[path] == caption for hit in found for path in hit["paths"])
    print(f"{len(captions)} pictures, {status['counts']}, idle after {seconds:.1f} s")
    print(f"text recall@10 {hits / len(captions):.3f}")


if __name__ == "__main__":
    main()
