"""What open_clip can run, read from its package without importing it: that takes 13 to 25 s on two cores."""

from __future__ import annotations

import json
import sys
from functools import cache as remembered
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import msgspec

from pixeldetective.errors import PixdError, UsageError
from pixeldetective.models.weights import OPEN_CLIP_CONFIG, write

QUICK_GELU = "-quickgelu"

# For each architecture its tags, for each tag whether the network was trained with the activation QuickGELU.
Tags = dict[str, dict[str, bool]]


@remembered
def names() -> tuple[str, ...]:
    """The architectures that open_clip knows by name. Raises PixdError if the package is missing."""
    return tuple(sorted(path.stem for path in (_package() / "model_configs").glob("*.json")))


def dimension_of_architecture(architecture: str) -> int | None:
    """Length of the vectors of an architecture, or None if open_clip knows none of that name."""
    return int(_named(architecture)["embed_dim"]) if architecture in names() else None


def uses_quick_gelu(architecture: str) -> bool:
    """Whether a known architecture has the activation QuickGELU."""
    return bool(_named(architecture).get("quick_gelu", False))


def dimension_in(directory: Path) -> int | None:
    """Length of the vectors that a directory's own configuration states, or None if it has no configuration.

    Raises UsageError if the configuration is damaged.
    """
    path = directory / OPEN_CLIP_CONFIG
    try:
        return int(json.loads(path.read_bytes())["model_cfg"]["embed_dim"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PixdError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"{path} does not describe a model. As open_clip writes it, it is a JSON object whose “model_cfg” holds "
            "“embed_dim”, “vision_cfg” and “text_cfg”."
        ) from None


def tags(*, cache: Path) -> Tags:
    """All weights that open_clip can download. Read once per version of open_clip (4 s); `cache` keeps them."""
    file = cache / f"open_clip-{version('open-clip-torch')}-tags.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=Tags)
    except (OSError, msgspec.DecodeError):
        found = _read_tags()
    write(file, msgspec.json.encode(found))
    return found


def _read_tags() -> Tags:
    """Run open_clip's one file that lists them, in a package of another name whose __init__ does not run."""
    alias = "_pixd_open_clip"
    package = module_from_spec(ModuleSpec(alias, None, is_package=True))
    package.__path__ = [str(_package())]
    sys.modules[alias] = package
    name = f"{alias}.pretrained"
    spec = spec_from_file_location(name, _package() / "pretrained.py")
    if spec is None or spec.loader is None:
        raise PixdError(f"{_package()} is damaged: pretrained.py is missing. Install open-clip-torch again.")
    try:
        module = module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        known: Tags = {}
        for architecture, tag in module.list_pretrained():
            settings = module.get_pretrained_cfg(architecture, tag)
            known.setdefault(architecture, {})[tag] = bool(settings.get("quick_gelu", False))
        return known
    finally:
        for loaded in [one for one in sys.modules if one == alias or one.startswith(f"{alias}.")]:
            del sys.modules[loaded]


@remembered
def _package() -> Path:
    spec = find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise PixdError("The package open-clip-torch is not installed. Install it, or choose another PIXD_MODEL.")
    return Path(spec.origin).parent


@remembered
def _named(architecture: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((_package() / "model_configs" / f"{architecture}.json").read_bytes())
    return loaded
