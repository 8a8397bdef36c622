"""Weights that lie on this machine: which files decide what a model computes, and one digest over them.

A model's id must change when its files do: topics, caches and collections are named for the id, and two generations of
vectors must never meet in one collection. So a local model's id ends in a digest, and hashing gigabytes at every start
is spared by remembering each file's digest together with its size, inode and time of change.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from pixeldetective.errors import PixdError, UsageError

log = structlog.get_logger(__name__)

T = TypeVar("T")

DIGITS = 16  # hex digits of a model's digest: 64 bits tell apart all the weights that anyone will ever have

OPEN_CLIP_CONFIG = "open_clip_config.json"
BLIP_CONFIG = "config.json"

# The order in which open_clip chooses among the weights in a directory (tests/models hold this against open_clip's own
# choice). Only the chosen file is hashed: a directory may hold the same weights in two formats.
PREFERRED = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"),
    *("open_clip_pytorch_model.pth", "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth"),
)
# Beside the weights, what configures network, preprocessing and tokenizer.
SETTLING = (".json", ".txt", ".model")


class Hashed(msgspec.Struct, frozen=True):
    """What the cache remembers of one file."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    sha256: str


class Place(msgspec.Struct, frozen=True):
    """Where a resolved model was found on this machine: the id as it was set."""

    id: str
    setting: str


def local_path(text: str) -> Path:
    """The path that a setting names. Raises UsageError if it is relative or nothing is there."""
    path = Path(text).expanduser()
    if not path.is_absolute():
        # Workers run in folders of their own: a relative path would mean another file in each.
        raise UsageError(
            f"The path “{text}” is relative. Write it in full, from its first slash on: "
            "open_clip:<architecture>//path/to/weights, blip:/path/to/directory."
        )
    try:
        path.stat()
    except OSError as error:
        raise UsageError(f"There are no weights at {path}: {error.strerror}.") from None
    return path


def open_clip_checkpoint(path: Path) -> Path:
    """The file that open_clip takes the weights from: `path` itself, or its choice in the directory `path`.

    Raises UsageError if the directory holds none.
    """
    if not path.is_dir():
        return path
    found = [one for one in _files(path) if one.suffix in {".safetensors", ".bin", ".pth"}]
    if not found:
        raise UsageError(f"The directory {path} holds no weights: no .safetensors, .bin or .pth file lies in it.")
    return min(found, key=_preference)


def open_clip_files(path: Path) -> list[Path]:
    """The files that decide the vectors of an open_clip model: the weights and, where it is configured, all of that."""
    checkpoint = open_clip_checkpoint(path)
    if not (path / OPEN_CLIP_CONFIG).is_file():
        return [checkpoint]
    return [checkpoint, *(one for one in _files(path) if one.suffix in SETTLING)]


def blip_files(path: Path) -> list[Path]:
    """The files that decide the captions of a BLIP model. Raises UsageError if `path` is no directory of such."""
    if not (path / BLIP_CONFIG).is_file():
        raise UsageError(f"{path} is no directory that transformers saved a model to: it holds no {BLIP_CONFIG}.")
    files = _files(path)
    # As transformers chooses: .bin only where there are no .safetensors.
    weights = [one for one in files if one.suffix == ".safetensors"] or [one for one in files if one.suffix == ".bin"]
    if not weights:
        raise UsageError(f"The directory {path} holds no weights: no .safetensors or .bin file lies in it.")
    return [*weights, *(one for one in files if one.suffix in SETTLING)]


def digest(files: Sequence[Path], *, cache: Path) -> str:
    """16 hex digits of SHA-256 over the names and contents of the files, whatever their order.

    A file is read once; from then on `cache` answers until its size, inode or time of change differs. Raises PixdError
    for a file that cannot be read.
    """
    lines = sorted(f"{path.name}\0{_sha256(path, cache)}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:DIGITS]


def remember(model_id: str, setting: str, *, cache: Path) -> None:
    """Note on this machine where the weights of a resolved id lie."""
    place = Place(model_id, setting)
    file = _place(model_id, cache)
    if _read(file, Place) != place:
        write(file, msgspec.json.encode(place))


def remembered(model_id: str, *, cache: Path) -> str | None:
    """The setting under which this machine knew a resolved id; what lies there now may be something else."""
    place = _read(_place(model_id, cache), Place)
    return place.setting if place is not None and place.id == model_id else None


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise PixdError(f"The directory {folder} cannot be read: {error.strerror}.") from None


def _preference(path: Path) -> tuple[int, bool, str]:
    known = PREFERRED.index(path.name) if path.name in PREFERRED else len(PREFERRED)
    return known, path.suffix != ".safetensors", str(path)


def _sha256(path: Path, cache: Path) -> str:
    remembered_as = cache / "digests" / f"{_name(str(path))}.json"
    try:
        status = path.stat()
        known = _read(remembered_as, Hashed)
        now = (str(path), status.st_size, status.st_mtime_ns, status.st_ino)
        if known is not None and (known.path, known.size, known.mtime_ns, known.inode) == now:
            return known.sha256
        log.info("hashing weights", path=str(path), megabytes=status.st_size // 10**6)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PixdError(f"The file {path} cannot be read: {error.strerror}.") from None
    write(remembered_as, msgspec.json.encode(Hashed(*now, sha256)))
    return sha256


def _place(model_id: str, cache: Path) -> Path:
    return cache / "places" / f"{_name(model_id)}.json"


def _name(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:32]


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def write(path: Path, data: bytes) -> None:
    """Write so that another process sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
