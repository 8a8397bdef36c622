"""A folder of strange files dropped at once: each is indexed, or a failure with a reason.

    .venv/bin/python benchmarks/poison.py pillow-13.0.0/Tests/images

Made for the test images of Pillow's source distribution. Ends with 1 if a file with a picture's extension is neither,
or if anything else happened: a worker that had to be restarted, or a point that no file stands for.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from pathlib import Path

from benchmarks.installed import installed


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    with installed() as installation:
        installation.wait()
        shutil.copytree(options.folder, installation.folder / "images")
        counts = installation.wait()["counts"]
        disk, qdrant, bare = installation.on_disk(), installation.in_qdrant(), installation.without_vector()
        failures = installation.json("failures")
        failed = {path for failure in failures for path in failure["paths"]}
        found = {path for sha256, paths in qdrant.items() if sha256 not in bare for path in paths}
        empty = {path for failure in failures if failure["error"] == "empty" for path in failure["paths"]}
        files = {path for paths in disk.values() for path in paths} | empty
        restarts = {p["name"]: p["restarts"] for p in installation.json("ps") if p["restarts"]}
    neither, both = files - found - failed, found & failed
    print(f"{len(files)} files, {len(found)} indexed, {len(failed)} failed: {counts}")
    print("failures by kind:", dict(Counter(failure["error"] for failure in failures)))
    print(f"neither: {sorted(neither)}; both: {sorted(both)}; restarted: {restarts}; points match: {disk == qdrant}")
    return 1 if neither or both or restarts or disk != qdrant else 0


if __name__ == "__main__":
    sys.exit(main())
