"""Makes real picture files in memory: a motif whose corners tell how it is turned, in every format the tests need."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from pidng.core import RAW2DNG, DNGTags, Tag
from pidng.defs import CalibrationIlluminant, CFAPattern, PhotometricInterpretation
from PIL import Image

Pixels = npt.NDArray[np.uint8]

RED, GREEN, BLUE, GREY = (220, 30, 30), (30, 200, 40), (30, 40, 220), (128, 128, 128)


def motif(width: int = 96, height: int = 64) -> Image.Image:
    """Red at the top left, green at the top right, blue at the bottom left, grey at the bottom right."""
    pixels = np.empty((height, width, 3), np.uint8)
    middle, centre = height // 2, width // 2
    pixels[:middle, :centre], pixels[:middle, centre:] = RED, GREEN
    pixels[middle:, :centre], pixels[middle:, centre:] = BLUE, GREY
    return Image.fromarray(pixels)


def corners(pixels: Pixels) -> list[tuple[int, int, int]]:
    """The mean colours of the quarters' middles: top left, top right, bottom left, bottom right."""
    height, width = pixels.shape[:2]
    places = [(height // 4, width // 4), (height // 4, 3 * width // 4)]
    places += [(3 * height // 4, width // 4), (3 * height // 4, 3 * width // 4)]
    means = (pixels[y - 2 : y + 2, x - 2 : x + 2].reshape(-1, 3).mean(0) for y, x in places)
    return [(round(mean[0]), round(mean[1]), round(mean[2])) for mean in means]


def is_motif(pixels: Pixels, *, tolerance: int = 12) -> bool:
    """Whether the corners are where and what they should be."""
    return bool(np.abs(np.subtract(corners(pixels), (RED, GREEN, BLUE, GREY))).max() <= tolerance)


def lying(image: Image.Image, orientation: int) -> Image.Image:
    """The image as a camera stores it that writes this EXIF orientation."""
    stored = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    for method in stored.get(orientation, []):
        image = image.transpose(method)
    return image


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    """The bytes of the image in a format of Pillow's."""
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def exif(orientation: int = 1) -> Image.Exif:
    """An EXIF block that says only how the picture lies."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def dng(width: int = 1200, height: int = 800, *, orientation: int = 1) -> bytes:
    """A real DNG: an RGGB mosaic, black but for its stored top left quarter, which is white. Offsets from byte 0."""
    tags = DNGTags()
    for tag, value in (
        (Tag.ImageWidth, width),
        (Tag.ImageLength, height),
        (Tag.TileWidth, width),
        (Tag.TileLength, height),
        (Tag.Orientation, orientation),
        (Tag.PhotometricInterpretation, PhotometricInterpretation.Color_Filter_Array),
        (Tag.SamplesPerPixel, 1),
        (Tag.BitsPerSample, 16),
        (Tag.CFARepeatPatternDim, [2, 2]),
        (Tag.CFAPattern, CFAPattern.RGGB),
        (Tag.BlackLevel, 0),
        (Tag.WhiteLevel, 65535),
        (Tag.ColorMatrix1, [[1, 1], [0, 1], [0, 1], [0, 1], [1, 1], [0, 1], [0, 1], [0, 1], [1, 1]]),
        (Tag.CalibrationIlluminant1, CalibrationIlluminant.D65),
        (Tag.AsShotNeutral, [[1, 1], [1, 1], [1, 1]]),
        (Tag.Make, "Maker"),
        (Tag.Model, "Model One"),
        (Tag.DateTime, "2024:05:17 10:31:02"),
    ):
        tags.set(tag, value)
    mosaic = np.full((height, width), 600, np.uint16)
    mosaic[: height // 2, : width // 2] = 60000
    writer = RAW2DNG()
    writer.options(tags, path="", compress=False)
    return bytes(writer.convert(mosaic))


def with_preview(raw: bytes, preview: Image.Image, **options: Any) -> bytes:
    """The DNG with a JPEG preview in a second directory, as cameras write it. Only for little-endian files."""
    jpeg = saved(preview, "JPEG", quality=95, **options)
    raw += b"\0" * (len(raw) % 2)
    entries = (
        (254, 4, 1),  # NewSubfileType: a smaller version
        (256, 4, preview.width),
        (257, 4, preview.height),
        (259, 3, 7),  # Compression: JPEG
        (262, 3, 6),  # PhotometricInterpretation: YCbCr
        (273, 4, len(raw)),  # StripOffsets
        (277, 3, 3),  # SamplesPerPixel
        (279, 4, len(jpeg)),  # StripByteCounts
    )
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries) + b"\0" * 4
    jpeg += b"\0" * (len(jpeg) % 2)
    (first,) = struct.unpack_from("<I", raw, 4)
    (count,) = struct.unpack_from("<H", raw, first)
    link = first + 2 + 12 * count
    return raw[:link] + struct.pack("<I", len(raw) + len(jpeg)) + raw[link + 4 :] + jpeg + directory
