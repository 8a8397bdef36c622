"""Bytes to pixels: one read gives the picture, right side up in sRGB, and its metadata.

The content decides what a file is, never its name. Whatever the bytes, `decode` returns a `Picture` or raises
`PictureError`; it may be called from many threads at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pixeldetective.errors import PictureError, Reason
from pixeldetective.images import exif, raster, raw
from pixeldetective.images.metadata import Metadata
from pixeldetective.settings import RAW_EXTENSIONS


@dataclass(frozen=True)
class Picture:
    """A decoded picture: `pixels` (h, w, 3) uint8, sRGB, right side up, C-contiguous; `metadata` of the original."""

    pixels: npt.NDArray[np.uint8]
    metadata: Metadata


def decode(data: bytes, *, extension: str, side: int, max_pixels: int) -> Picture:
    """Decode a picture far enough that its shorter side has at least `side` pixels, if the original has them.

    Large originals come scaled down by a whole number, but to no less than 2 × `side`, so that the final scaling has
    something to average: JPEGs already while decoding, RAW files from their embedded preview where that is large
    enough. `extension` (with or without a dot) only decides which of the readers tries first, and what a RAW format
    is called.

    Raises PictureError: EMPTY, TOO_LARGE (more than `max_pixels`, judged from the header before any pixel is
    decoded) or UNDECODABLE.
    """
    extension = extension.lower().lstrip(".")
    if not data:
        raise PictureError(Reason.EMPTY, "The file is empty.")
    try:
        return _decode(data, extension, side, max_pixels)
    except PictureError:
        raise
    except MemoryError:
        raise PictureError(Reason.UNDECODABLE, "Decoding it needs more memory than there is.") from None
    except Exception as error:  # noqa: BLE001 (decoders of forty formats, fed with damage, raise anything)
        raise PictureError(Reason.UNDECODABLE, _sentence(error, data)) from None


def _decode(data: bytes, extension: str, side: int, max_pixels: int) -> Picture:
    if raw.begins_like_raw(data) or (extension in RAW_EXTENSIONS and not raster.begins_like_raster(data)):
        picture = _from_raw(data, extension, side, max_pixels)
        if picture is not None:
            return picture
        opened = raster.open_raster(data)
    else:
        opened = raster.open_raster(data)
        if opened is None or raster.is_thumbnail_of_raw(opened):
            picture = _from_raw(data, extension, side, max_pixels)
            if picture is not None:
                return picture
    if opened is None:
        raise PictureError(
            Reason.UNDECODABLE, f"This is not a picture that can be read; it begins with {_beginning(data)}."
        )
    with opened as image:
        pixels, orientation, (width, height) = raster.decoded(image, side=side, max_pixels=max_pixels)
        if orientation >= 5:
            width, height = height, width
        facts = exif.of_raster(image)
        return Picture(raster.upright(pixels, orientation), _metadata(width, height, raster.format_name(image), facts))


def _from_raw(data: bytes, extension: str, side: int, max_pixels: int) -> Picture | None:
    opened = raw.open_raw(data)
    if opened is None:
        return None
    with opened as file:
        pixels, (width, height), preview_facts = raw.pixels(file, side=side, max_pixels=max_pixels)
    facts = exif.of_raw(data)
    if facts.camera is None and facts.taken_at is None:
        facts = preview_facts
    name = extension.upper() if extension in RAW_EXTENSIONS else raw.format_name(data)
    return Picture(pixels, _metadata(width, height, name, facts))


def _metadata(width: int, height: int, name: str, facts: exif.Facts) -> Metadata:
    return Metadata(
        width=width,
        height=height,
        format=name,
        taken_at=facts.taken_at,
        camera=facts.camera,
        lens=facts.lens,
        gps=facts.gps,
        tags=facts.tags,
    )


def _beginning(data: bytes) -> str:
    start = data[:16]
    words = " ".join(start.decode("latin-1").split())
    if words.isascii() and words.isprintable():
        return f"the text “{words}”"
    return f"the bytes {start[:8].hex(' ')}"


def _sentence(error: Exception, data: bytes) -> str:
    what = " ".join(str(error).split())[:200] or type(error).__name__
    early = ("truncated", "end of file", "premature", "not enough", "buffer is not large enough", "eof")
    if isinstance(error, EOFError) or any(word in what.lower() for word in early):
        return f"The file ends early: {len(data):,} bytes are not all of it ({what})."
    return f"The picture is damaged, or of a kind that no decoder here knows ({what})."
