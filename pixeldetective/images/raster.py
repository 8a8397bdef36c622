"""Pictures that Pillow reads: JPEG, PNG, WebP, GIF, BMP, TIFF, HEIF, AVIF and a few more."""

from __future__ import annotations

import io
import warnings

import numpy as np
import numpy.typing as npt
import pillow_heif
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from pixeldetective.errors import PictureError, Reason
from pixeldetective.images import exif

# What Pillow may try. Left out are formats that start other programs (EPS), formats without a signature, which would
# claim files that are something else (TGA), and those that hold no pictures.
FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "HEIF", "AVIF", "TIFF", "BMP", "DIB"),
    *("JPEG2000", "PPM", "PSD", "QOI", "ICO"),
)
NAMES = {"MPO": "JPEG", "DIB": "BMP"}  # where Pillow's name is not what people call it

SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")

# Pillow's global settings, here and nowhere else. A truncated file is an error, not a picture with a grey part. The
# limit of pixels is PIXD_MAX_PIXELS, checked by `pixels`.
ImageFile.LOAD_TRUNCATED_IMAGES = False
Image.MAX_IMAGE_PIXELS = None
# One thread per picture: the pictures beside it use the other cores.
pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
# Registers every format now: it is not for many threads to do at once.
Image.init()
# Warnings about odd but readable files. `catch_warnings` is not thread-safe, so they are ignored for good.
warnings.filterwarnings("ignore", module=r"PIL\.")

SRGB_RED = (0.436, 0.222, 0.014)  # XYZ of sRGB's red adapted to D50, as its ICC profiles have it

_REDUCED_IMAGE = 1  # TIFF NewSubfileType: this is a smaller version of another image in the file
_SUB_IFDS = 330
_NEW_SUBFILE_TYPE = 254


def begins_like_raster(data: bytes) -> bool:
    """Whether the first bytes are those of a format that no camera's RAW format begins with."""
    return data.startswith(SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def open_raster(data: bytes) -> Image.Image | None:
    """Read the header. None if it is none of FORMATS; raises what Pillow raises for a header with absurd values."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        return None


def format_name(image: Image.Image) -> str:
    """The format's usual name: "JPEG" also for the kind that carries several (MPO)."""
    name = image.format or "?"
    return NAMES.get(name, name)


def is_thumbnail_of_raw(image: Image.Image) -> bool:
    """Whether Pillow opened what is only the small first image of a camera's RAW file (they look like TIFF)."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(_NEW_SUBFILE_TYPE) == _REDUCED_IMAGE and _SUB_IFDS in tags


def require(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture of more than `max_pixels`. Raises PictureError."""
    if width * height > max_pixels:
        raise PictureError(
            Reason.TOO_LARGE,
            f"{width:,} × {height:,} pixels are more than the {max_pixels:,} that PIXD_MAX_PIXELS allows.",
        )


def upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn and mirror pixels, (h, w, 3), as EXIF's orientation (1 to 8) asks; the result is C-contiguous."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def decoded(image: Image.Image, *, side: int, max_pixels: int) -> tuple[npt.NDArray[np.uint8], int, tuple[int, int]]:
    """Decode an opened image: pixels (h, w, 3) in sRGB, EXIF's orientation to apply to them, (width, height) before.

    Of an animation, the first frame. Transparency becomes white. Raises PictureError, and what Pillow raises.
    """
    width, height = image.size
    require(width, height, max_pixels)
    if image.format in {"JPEG", "MPO"}:
        # Asks for at least so many pixels; libjpeg can halve up to three times while decoding.
        scale = min(1.0, 2 * side / min(width, height))
        image.draft(None, (max(1, round(width * scale)), max(1, round(height * scale))))
    image.load()
    orientation = exif.orientation(image)  # after loading: a TIFF is turned while it loads, and no longer says so
    converted = _to_srgb(_reduced(_plain(image), side), image.info.get("icc_profile"))
    return np.array(converted, np.uint8), orientation, (width, height)


def _plain(image: Image.Image) -> Image.Image:
    """Convert to 8 bits a channel without transparency: grey, RGB, CMYK or LAB."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    if image.mode in {"L", "RGB", "CMYK", "LAB"}:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _eight_bits(grey: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Scale grey values (h, w) of any type to 8 bits: 16-bit ones by their range, others by what they hold."""
    if grey.dtype.itemsize == 2:
        return (grey.astype(np.uint16) >> 8).astype(np.uint8)
    values = np.nan_to_num(grey.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = min(0.0, float(values.min())), float(values.max())
    # Integers up to 255 or 65535 are 8- or 16-bit pictures in a wide type, fractions up to 1 likewise.
    limits = (255.0, 65535.0) if grey.dtype.kind in "iu" else (1.0, 255.0, 65535.0)
    high = next((limit for limit in limits if high <= limit), high)
    return np.asarray((values - low) * (255.0 / (high - low)) + 0.5).astype(np.uint8)


def _reduced(image: Image.Image, side: int) -> Image.Image:
    """Average whole blocks of pixels while 2 × `side` remain: all later steps cost by the pixel."""
    factor = min(image.size) // (2 * side)
    return image.reduce(factor) if factor > 1 and image.mode != "LAB" else image


def _to_srgb(image: Image.Image, profile: object) -> Image.Image:
    """Convert to RGB by the picture's own colour profile; a broken profile is as good as none."""
    try:
        if image.mode == "LAB":
            return _managed(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
        if isinstance(profile, bytes) and profile:
            return _managed(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        pass
    return image if image.mode == "RGB" else image.convert("RGB")


def _managed(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    if image.mode == "RGB" and _is_srgb(profile):
        return image
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    if converted is None:  # only ever with inPlace
        raise ValueError
    return converted


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether the profile is one of the many of sRGB itself: converting would cost 15 ms and change nothing."""
    red = profile.profile.red_colorant
    return (
        "srgb" in (profile.profile.profile_description or "").lower()
        and red is not None
        and all(abs(value - known) < 0.01 for value, known in zip(red[0], SRGB_RED, strict=True))
    )
