"""Decoding one picture in a process of its own, whose death proves that the picture is to blame.

`python -m gpu_consumers.trial EXTENSION SIDE MAX_PIXELS` reads the picture from stdin. It ends with 0 if a decoder came
back, whatever it said; a decoder that crashes ends it by a signal.
"""

from __future__ import annotations

import signal
import subprocess
import sys

from pixeldetective.errors import PictureError, Reason

PATIENCE = 120.0  # seconds; what takes longer hangs


def survive(data: bytes, extension: str, side: int, max_pixels: int) -> None:
    """Return if decoding the picture leaves a process alive. Raises PictureError if it does not, or never ends."""
    command = [sys.executable, "-m", "gpu_consumers.trial", extension or "-", str(side), str(max_pixels)]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        text = f"Its decoder did not end within {PATIENCE:.0f} seconds."
        raise PictureError(Reason.DECODER_CRASHED, text) from None
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise PictureError(Reason.DECODER_CRASHED, f"Its decoder crashed ({name}). The file is damaged or malicious.")


def main() -> None:
    """Decode what comes on stdin."""
    from pixeldetective.images.decode import decode

    extension, side, max_pixels = sys.argv[1:]
    try:
        decode(sys.stdin.buffer.read(), extension=extension.strip("-"), side=int(side), max_pixels=int(max_pixels))
    except PictureError:
        return  # an error that was caught does no harm; the worker will meet and report it itself


if __name__ == "__main__":
    main()
