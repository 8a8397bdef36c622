"""How long from closing a new file until a search finds it, on an idle stack.

    .venv/bin/python benchmarks/latency.py --count 20

Writes a photograph with a few bytes behind it that make it unique, closes it, and asks Qdrant every 5 ms for its point
and vector. Prints each time and the median, in seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time

from benchmarks.installed import installed
from pixeldetective.operations.connections import Connections
from tests.pipeline.installation import CAT, ROCKET


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20)
    options = parser.parse_args()
    with installed() as installation, Connections(installation.settings) as connections:
        installation.wait()
        times = []
        for number in range(options.count + 1):
            source = (CAT, ROCKET)[number % 2]
            data = source.read_bytes() + b"%d" % number
            sha256 = hashlib.sha256(data).hexdigest()
            target = installation.folder / f"{number}{source.suffix}"
            with target.open("wb") as file:
                file.write(data)
            closed = time.monotonic()
            while not connections.qdrant.points("photos", [sha256], vectors=True).get(sha256, {}).get("vector"):
                if time.monotonic() - closed > 60:
                    raise SystemExit(f"{target.name} was not found within 60 s")
                time.sleep(0.005)
            times.append(time.monotonic() - closed)
            installation.wait_for_captions()
            time.sleep(1.0)
    first, *rest = times  # the first one warms up
    print("seconds:", " ".join(f"{seconds:.2f}" for seconds in rest))
    print(f"median {statistics.median(rest):.2f} s, worst {max(rest):.2f} s, warm-up {first:.2f} s")


if __name__ == "__main__":
    main()
