"""Reads the metadata of an opened picture: Pillow's reader for rasters, exifread for RAW files."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import exifread
import msgspec
from PIL import ExifTags, Image, IptcImagePlugin

from pixeldetective.images import metadata
from pixeldetective.images.metadata import Gps

# It logs every oddity of every file as a warning; here they are nobody's business.
logging.getLogger("exifread").setLevel(logging.CRITICAL)

IPTC_KEYWORDS = (2, 25)
XP_KEYWORDS = 0x9C9E

# EXIF's dates, the best first: (DateTimeOriginal, OffsetTimeOriginal), …Digitized, and the file's own.
DATES = ((0x9003, 0x9011), (0x9004, 0x9012), (0x0132, 0x9010))
RAW_DATES = (
    ("EXIF DateTimeOriginal", "EXIF OffsetTimeOriginal"),
    ("EXIF DateTimeDigitized", "EXIF OffsetTimeDigitized"),
    ("Image DateTime", "EXIF OffsetTime"),
)

T = TypeVar("T")


class Facts(msgspec.Struct, frozen=True):
    """The part of `Metadata` that comes from EXIF, IPTC and XMP; the fields mean the same."""

    taken_at: str | None = None
    camera: str | None = None
    lens: str | None = None
    gps: Gps | None = None
    tags: tuple[str, ...] = ()


def of_raster(image: Image.Image) -> Facts:
    """Read what Pillow finds. What is broken is missing; nothing is raised."""
    exif = _attempt(image.getexif, Image.Exif())
    details: Mapping[int, Any] = _attempt(lambda: exif.get_ifd(ExifTags.IFD.Exif), {})
    place: Mapping[int, Any] = _attempt(lambda: exif.get_ifd(ExifTags.IFD.GPSInfo), {})
    main: Mapping[int, Any] = _attempt(lambda: dict(exif), {})
    dates = (metadata.taken_at(details.get(date) or main.get(date), details.get(zone)) for date, zone in DATES)
    return Facts(
        taken_at=next((date for date in dates if date), None),
        camera=metadata.camera(main.get(ExifTags.Base.Make), main.get(ExifTags.Base.Model)),
        lens=metadata.text(details.get(ExifTags.Base.LensModel)),
        gps=metadata.gps(place.get(2), place.get(1), place.get(4), place.get(3)),
        tags=metadata.tags(
            _attempt(lambda: metadata.xmp_subjects(_xmp(image, main)), []),
            _attempt(lambda: _iptc_keywords(image), []),
            metadata.windows_keywords(main.get(XP_KEYWORDS)),
        ),
    )


def of_raw(data: bytes) -> Facts:
    """Read a RAW file's tags. Formats that exifread does not know (CR3, RAF) give none; nothing is raised."""
    found: Mapping[str, Any] = _attempt(
        lambda: exifread.process_file(io.BytesIO(data), details=False, extract_thumbnail=False), {}
    )

    def first(name: str) -> Any:
        values = getattr(found.get(name), "values", None)
        return values[0] if isinstance(values, list) and values else values

    def all_of(name: str) -> Any:
        return getattr(found.get(name), "values", None)

    dates = (metadata.taken_at(first(date), first(zone)) for date, zone in RAW_DATES)
    return Facts(
        taken_at=next((date for date in dates if date), None),
        camera=metadata.camera(first("Image Make"), first("Image Model")),
        lens=metadata.text(first("EXIF LensModel")),
        gps=metadata.gps(
            *(all_of("GPS GPSLatitude"), first("GPS GPSLatitudeRef")),
            *(all_of("GPS GPSLongitude"), first("GPS GPSLongitudeRef")),
        ),
        tags=metadata.tags(
            _attempt(lambda: metadata.xmp_subjects(data), []),
            metadata.windows_keywords(all_of("Image XPKeywords")),
        ),
    )


def orientation(image: Image.Image) -> int:
    """EXIF's orientation of a loaded image, 1 to 8; 1 if it says none, or none that exists."""
    value: object = _attempt(lambda: image.getexif().get(ExifTags.Base.Orientation), None)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _xmp(image: Image.Image, main: Mapping[int, Any]) -> bytes:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or main.get(ExifTags.Base.XMLPacket) or b""
    return packet.encode("utf-8", "replace") if isinstance(packet, str) else bytes(packet)


def _iptc_keywords(image: Image.Image) -> list[object]:
    # Pillow's type for the reader asks for a file, and for other images it answers None.
    keywords = (IptcImagePlugin.getiptcinfo(image) or {}).get(IPTC_KEYWORDS, [])  # type: ignore[arg-type]
    return list(keywords) if isinstance(keywords, list) else [keywords]


def _attempt(read: Callable[[], T], otherwise: T) -> T:
    """What `read` returns, or `otherwise` if it fails in whatever way: readers of EXIF raise anything."""
    try:
        return read()
    except Exception:  # noqa: BLE001
        return otherwise
