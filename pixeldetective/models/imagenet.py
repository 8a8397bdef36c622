"""The names of ImageNet's 1,000 classes, as open_clip curated them for zero-shot classification."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

from pixeldetective.errors import PixdError


@cache
def class_names() -> tuple[str, ...]:
    """The names in the order of the classifier's outputs. Raises PixdError if the package open-clip-torch is missing.

    Only the one file of open_clip is run: importing the package takes 13 s on two cores, and this 2 ms.
    """
    package = find_spec("open_clip")
    if package is None or package.origin is None:
        raise PixdError("The package open-clip-torch is not installed. Install it: builtin uses its names of classes.")
    path = Path(package.origin).parent / "zero_shot_metadata.py"
    spec = spec_from_file_location("open_clip_zero_shot_metadata", path)
    if spec is None or spec.loader is None:
        raise PixdError(f"{path} is missing: the package open-clip-torch is damaged. Install it again.")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return tuple(module.IMAGENET_CLASSNAMES)
