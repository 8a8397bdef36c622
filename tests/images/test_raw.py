"""RAW files: a real DNG, with previews and without."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pixeldetective.errors import PictureError, Reason
from pixeldetective.images.decode import Picture, decode
from tests.images.pictures import dng, exif, is_motif, lying, motif, with_preview

# EXIF's orientation, and the corner (top, left) where the mosaic's white stored top left quarter ends upright.
TURNS = [(1, "top left"), (3, "bottom right"), (6, "top right"), (8, "bottom left")]


def decoded(data: bytes, extension: str = "dng", *, side: int = 224, max_pixels: int = 10_000_000) -> Picture:
    return decode(data, extension=extension, side=side, max_pixels=max_pixels)


def white_corner(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    height, width = pixels.shape[:2]
    rows = {"top": slice(0, height // 4), "bottom": slice(-height // 4, None)}
    columns = {"left": slice(0, width // 4), "right": slice(-width // 4, None)}
    means = {f"{r} {c}": pixels[rows[r], columns[c]].mean() for r in rows for c in columns}
    return max(means, key=lambda name: means[name])


@pytest.mark.parametrize(("orientation", "corner"), TURNS)
def test_a_raw_file_without_a_preview_is_developed_upright(orientation: int, corner: str) -> None:
    picture = decoded(dng(1200, 800, orientation=orientation))
    size = (1200, 800) if orientation < 5 else (800, 1200)
    assert (picture.metadata.width, picture.metadata.height) == size
    assert picture.pixels.shape == (size[1], size[0], 3)
    assert white_corner(picture.pixels) == corner


def test_half_size_is_developed_where_that_is_enough() -> None:
    assert decoded(dng(1200, 800), side=100).pixels.shape == (400, 600, 3)


def test_metadata_comes_from_the_raw_file() -> None:
    metadata = decoded(dng()).metadata
    assert metadata.format == "DNG"
    assert metadata.camera == "Maker Model One"
    assert metadata.taken_at == "2024-05-17T10:31:02"


@pytest.mark.parametrize("extension", ["jpg", "tif", "DNG", ".dng", ""])
def test_a_dng_is_a_dng_whatever_it_is_called(extension: str) -> None:
    picture = decoded(dng(), extension)
    assert picture.metadata.format == "DNG"
    assert (picture.metadata.width, picture.metadata.height) == (1200, 800)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_large_preview_is_taken_and_turned_as_the_raw_file_says(orientation: int) -> None:
    size = (900, 600) if orientation < 5 else (600, 900)
    picture = decoded(with_preview(dng(orientation=orientation), lying(motif(*size), orientation)))
    assert picture.pixels.shape == (size[1], size[0], 3)
    assert is_motif(picture.pixels)
    assert picture.metadata.width == (1200 if orientation < 5 else 800)


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_preview_that_says_itself_how_it_lies_is_turned_once(orientation: int) -> None:
    preview = lying(motif(600, 900), orientation)
    picture = decoded(with_preview(dng(orientation=orientation), preview, exif=exif(orientation).tobytes()))
    assert picture.pixels.shape == (900, 600, 3)
    assert is_motif(picture.pixels)


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_preview_that_is_already_upright_is_not_turned(orientation: int) -> None:
    picture = decoded(with_preview(dng(orientation=orientation), motif(600, 900)))
    assert picture.pixels.shape == (900, 600, 3)
    assert is_motif(picture.pixels)


def test_a_small_preview_is_not_enough() -> None:
    picture = decoded(with_preview(dng(), motif(160, 120)))
    assert picture.pixels.shape == (800, 1200, 3)
    assert white_corner(picture.pixels) == "top left"


def test_a_damaged_preview_is_not_used() -> None:
    data = bytearray(with_preview(dng(), motif(900, 600)))
    start = data.rindex(b"\xff\xd8\xff")
    data[start + 200 : start + 3000] = b"\xff\xd9" * 1400
    picture = decoded(bytes(data))
    assert white_corner(picture.pixels) == "top left"


def test_a_sensor_of_too_many_pixels_is_refused() -> None:
    with pytest.raises(PictureError, match="1,200 × 800") as caught:
        decoded(dng(), max_pixels=900_000)
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_truncated_raw_file_is_refused() -> None:
    data = dng()
    with pytest.raises(PictureError) as caught:
        decoded(data[: len(data) // 2])
    assert caught.value.reason is Reason.UNDECODABLE


def test_a_small_raw_file_keeps_its_size() -> None:
    picture = decoded(with_preview(dng(64, 48), Image.new("RGB", (64, 48), (9, 9, 9))))
    assert picture.pixels.shape == (48, 64, 3)
