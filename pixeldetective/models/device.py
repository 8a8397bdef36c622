"""Which device a network runs on."""

from __future__ import annotations

import torch

from pixeldetective.errors import UsageError


def resolve(name: str) -> str:
    """Return the device that PIXD_DEVICE means, as torch names it; "" means CUDA where there is one, else the CPU.

    Raises UsageError for a device that this machine does not have: nothing falls back silently.
    """
    if not name:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in {"cpu", "cuda"}:
        raise UsageError(f"PIXD_DEVICE is set to “{name}”. Valid are cpu, cuda and cuda:0, cuda:1, … .")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"PIXD_DEVICE is set to “{name}”, but torch finds {torch.cuda.device_count()} CUDA devices here. "
            "Leave it empty to use what there is."
        )
    return str(device)
