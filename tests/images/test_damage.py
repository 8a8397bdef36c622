"""Whatever the bytes, decoding ends in a picture or in a PictureError."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixeldetective.errors import PictureError
from pixeldetective.images.decode import Picture, decode
from pixeldetective.images.kinds import is_picture
from pixeldetective.settings import RASTER_EXTENSIONS, RAW_EXTENSIONS
from tests.images.pictures import dng, exif, motif, saved, with_preview

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

EXTENSIONS = st.sampled_from(["jpg", "tif", "dng", "cr3", "raw", ""])
KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "PSD", "ICO", "DNG", "DNG with a preview")

# Pillow's own test pictures, where somebody has unpacked its source distribution: many were found by fuzzing.
PILLOW_IMAGES = Path(os.environ.get("PILLOW_TEST_IMAGES", "/tmp/pilsrc/pillow-13.0.0/Tests/images"))


@cache
def valid(kind: str) -> bytes:
    if kind == "DNG":
        return dng(64, 48)
    if kind == "DNG with a preview":
        return with_preview(dng(64, 48), motif(64, 48))
    if kind == "PSD":  # Pillow cannot write it; the header is what most damage hits anyway
        return b"8BPS\0\1" + b"\0" * 6 + b"\0\3\0\0\0\x08\0\0\0\x08\0\x08\0\3" + b"\0" * 14 + b"\x7f" * 192
    return saved(motif(), kind, **({} if kind in {"GIF", "BMP", "ICO"} else {"exif": exif(6).tobytes()}))


def survives(data: bytes, extension: str) -> None:
    try:
        picture = decode(data, extension=extension, side=32, max_pixels=1_000_000)
    except PictureError:
        return
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.shape[2:] == (3,)
    assert min(picture.pixels.shape) > 0
    assert picture.metadata.width * picture.metadata.height <= 1_000_000


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000), EXTENSIONS)
def test_random_bytes(data: bytes, extension: str) -> None:
    survives(data, extension)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS), st.floats(0, 1), EXTENSIONS)
def test_random_truncation(kind: str, part: float, extension: str) -> None:
    data = valid(kind)
    survives(data[: int(len(data) * part)], extension)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=6),
    EXTENSIONS,
)
def test_random_damage(kind: str, changes: list[tuple[float, bytes]], extension: str) -> None:
    data = bytearray(valid(kind))
    for place, value in changes:
        # Squared: headers are near the beginning, and what is in them matters most.
        start = int(place * place * (len(data) - len(value)))
        data[start : start + len(value)] = value
    survives(bytes(data), extension)


def test_many_threads_decode_at_once() -> None:
    def one(number: int) -> list[tuple[int, ...]]:
        kind = KINDS[number % len(KINDS)]
        try:
            return [decode(valid(kind), extension="jpg", side=32, max_pixels=1_000_000).pixels.shape]
        except PictureError:
            return []

    alone = [one(number) for number in range(len(KINDS))]
    before = threading.active_count()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(one, range(8 * len(KINDS))))
    assert together == alone * 8
    assert threading.active_count() == before


def _pillow_images() -> list[Path]:
    names = RASTER_EXTENSIONS + RAW_EXTENSIONS
    return sorted(path for path in PILLOW_IMAGES.rglob("*") if path.is_file() and is_picture(os.fsencode(path), names))


@pytest.mark.skipif(
    not PILLOW_IMAGES.is_dir(), reason="PILLOW_TEST_IMAGES names no unpacked Pillow source distribution"
)
@pytest.mark.timeout(10)
@pytest.mark.parametrize("path", _pillow_images(), ids=lambda path: str(path.relative_to(PILLOW_IMAGES)))
def test_pillows_own_test_pictures(path: Path) -> None:
    try:
        picture = decode(path.read_bytes(), extension=path.suffix, side=224, max_pixels=500_000_000)
    except PictureError:
        return
    assert isinstance(picture, Picture)
    height, width = picture.pixels.shape[:2]
    assert min(height, width) >= min(224, picture.metadata.width, picture.metadata.height)
