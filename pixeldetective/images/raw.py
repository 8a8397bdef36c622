"""RAW files of cameras, through LibRaw: the embedded preview where it is large enough, else the sensor's data."""

from __future__ import annotations

import io
import struct

import numpy as np
import numpy.typing as npt
import rawpy

from pixeldetective.images import exif, raster

_TIFF = (b"II*\0", b"MM\0*")
_SIGNATURES = (
    b"FUJIFILMCCD-RAW",  # RAF
    *(b"IIRO", b"IIRS", b"MMOR"),  # ORF
    b"IIU\0",  # RW2
    b"\0MRM",  # MRW
    b"FOVb",  # X3F
)
_DNG_VERSION = 50706

# How LibRaw's `flip` turns the sensor's data upright, as np.rot90's count of quarter turns counter-clockwise.
_QUARTER_TURNS = {3: 2, 5: 1, 6: 3}


def begins_like_raw(data: bytes) -> bool:
    """Whether the first bytes leave no doubt that this is a RAW file, whatever it is called."""
    if data.startswith(_SIGNATURES) or data[4:12] == b"ftypcrx " or data[6:14] == b"HEAPCCDR":
        return True
    return data.startswith(_TIFF) and (data[8:10] == b"CR" or _first_directory_has(data, _DNG_VERSION))


def format_name(data: bytes) -> str:
    """What to call a RAW file whose extension does not say it."""
    return "DNG" if _first_directory_has(data, _DNG_VERSION) else "RAW"


def open_raw(data: bytes) -> rawpy.RawPy | None:
    """Read the header. None if LibRaw does not take it for a RAW file; raises other errors of LibRaw."""
    file = rawpy.RawPy()
    try:
        file.open_buffer(io.BytesIO(data))
    except (rawpy.LibRawFileUnsupportedError, rawpy.LibRawIOError):
        file.close()
        return None
    except rawpy.LibRawError:
        file.close()
        raise
    return file


def pixels(
    file: rawpy.RawPy, *, side: int, max_pixels: int
) -> tuple[npt.NDArray[np.uint8], tuple[int, int], exif.Facts]:
    """Decode an opened RAW file: pixels (h, w, 3), (width, height), both right side up, and what the preview says.

    The preview is enough from 2 × `side` pixels on its shorter side, as for JPEGs: it is the camera's own rendering,
    and 10 to 100 times faster than developing the sensor's data. Raises PictureError, and what the decoders raise.
    """
    sizes = file.sizes
    raster.require(sizes.raw_width, sizes.raw_height, max_pixels)
    width, height = sizes.width, sizes.height
    upright = (height, width) if sizes.flip in {5, 6} else (width, height)
    preview, facts = _preview(file, width, height, side=side, max_pixels=max_pixels)
    if preview is not None and min(preview.shape[:2]) >= min(2 * side, *upright):
        return preview, upright, facts
    # Turned upright by LibRaw itself. Half size makes one pixel of each 2 × 2 cell of the colour filter.
    half = min(width, height) // 2 >= 2 * side
    developed = file.postprocess(use_camera_wb=True, half_size=half, output_color=rawpy.ColorSpace.sRGB, output_bps=8)
    return np.ascontiguousarray(developed[:, :, :3]), upright, facts


def _preview(
    file: rawpy.RawPy, width: int, height: int, *, side: int, max_pixels: int
) -> tuple[npt.NDArray[np.uint8] | None, exif.Facts]:
    """The preview, right side up, or None if there is none to be read; `width` and `height` are the sensor's."""
    try:
        thumbnail = file.extract_thumb()
    except rawpy.LibRawError:
        return None, exif.Facts()
    flip = file.sizes.flip
    if thumbnail.format == rawpy.ThumbFormat.BITMAP:
        bitmap = np.asarray(thumbnail.data)
        if bitmap.ndim != 3 or bitmap.shape[2] != 3 or bitmap.dtype != np.uint8:
            return None, exif.Facts()
        return _upright(bitmap, flip, width, height), exif.Facts()
    if thumbnail.format != rawpy.ThumbFormat.JPEG:
        return None, exif.Facts()
    try:
        opened = raster.open_raster(thumbnail.data)
        if opened is None:
            return None, exif.Facts()
        with opened as image:
            facts = exif.of_raster(image)
            own, orientation, _ = raster.decoded(image, side=side, max_pixels=max_pixels)
    except (OSError, ValueError, SyntaxError, struct.error):
        return None, exif.Facts()
    # LibRaw writes `flip` into a preview that has no EXIF of its own, upright or not: there the shape decides.
    if orientation == 1 or (flip in {5, 6} and _turned(own, width, height)):
        return _upright(own, flip, width, height), facts
    return raster.upright(own, orientation), facts


def _turned(preview: npt.NDArray[np.uint8], width: int, height: int) -> bool:
    """Whether a preview is upright where the sensor lies on its side, or the other way round."""
    rows, columns = preview.shape[:2]
    return bool(rows != columns and (columns > rows) != (width > height))


def _upright(preview: npt.NDArray[np.uint8], flip: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    if flip not in _QUARTER_TURNS or (flip in {5, 6} and _turned(preview, width, height)):
        return np.ascontiguousarray(preview)
    return np.ascontiguousarray(np.rot90(preview, _QUARTER_TURNS[flip]))


def _first_directory_has(data: bytes, tag: int) -> bool:
    """Whether the first directory of a TIFF file has the tag."""
    if not data.startswith(_TIFF):
        return False
    order = "<" if data[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        entries = (struct.unpack_from(f"{order}H", data, start + 2 + 12 * index)[0] for index in range(count))
        return tag in entries
    except struct.error:
        return False
