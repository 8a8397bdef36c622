"""What a picture says about itself, and how the raw values of EXIF, IPTC and XMP become it.

`Metadata` travels in `embeddings.<model>` and ends in a Qdrant point's payload: written by the embedder, read by the
sink. The functions are total: a value that makes no sense becomes None, because bad metadata never fails a picture.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

LONGEST_TEXT = 256  # characters of one value; longer ones are debris, not names
MOST_TAGS = 256

# Before the first photograph: what cameras with an unset clock and broken writers leave (0000, 0001, 1601).
FIRST_YEAR = 1826

_DATE = re.compile(r"(\d{4})[:/.-](\d{2})[:/.-](\d{2})[ T](\d{2}):(\d{2}):(\d{2})")
_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})|Z")
_SUBJECT = re.compile(r"<dc:subject\b[^>]*>(.*?)</dc:subject>", re.DOTALL)
_ITEM = re.compile(r"<rdf:li\b[^>]*>(.*?)</rdf:li>", re.DOTALL)
_SUBJECT_BYTES = re.compile(rb"<dc:subject\b.{1,65536}?</dc:subject>", re.DOTALL)


class Gps(msgspec.Struct, frozen=True):
    """Where a picture was taken: degrees, WGS84, north and east positive."""

    lat: float
    lon: float


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a picture says about itself. What it does not say, or says wrongly, is None."""

    width: int  # pixels of the original, right side up
    height: int
    format: str  # "JPEG", "HEIF", "DNG", …
    taken_at: str | None = None  # ISO 8601 to the second; with the offset from UTC where the camera wrote it
    camera: str | None = None
    lens: str | None = None
    gps: Gps | None = None
    tags: tuple[str, ...] = ()  # keywords that people gave it, in their order


def text(value: object) -> str | None:
    """Clean one value that should be text: bytes are UTF-8 or else Latin-1, nothing unprintable stays."""
    if isinstance(value, bytes):
        raw = value
        try:
            value = raw.decode("utf-8")
        except UnicodeDecodeError:
            value = raw.decode("latin-1")
    if not isinstance(value, str):
        return None
    printable = "".join(c if c.isprintable() else " " for c in value.split("\0")[0])
    cleaned = " ".join(printable.split())
    return cleaned[:LONGEST_TEXT].rstrip() or None


def taken_at(date: object, offset: object = None) -> str | None:
    """Turn EXIF's date ("2024:05:17 10:31:02") and offset ("+02:00") into ISO 8601.

    >>> taken_at("2024:05:17 10:31:02", "+02:00"), taken_at("0000:00:00 00:00:00"), taken_at("    :  :     :  :  ")
    ('2024-05-17T10:31:02+02:00', None, None)
    """
    match = _DATE.match(text(date) or "")
    if match is None or int(match[1]) < FIRST_YEAR:
        return None
    try:
        moment = datetime(*(int(group) for group in match.groups())).isoformat()  # type: ignore[arg-type]
    except ValueError:
        return None
    zone = _OFFSET.fullmatch(text(offset) or "")
    if zone is None:
        return moment
    sign, hours, minutes = zone[1] or "+", zone[2] or "00", zone[3] or "00"
    # UTC offsets go from −12 to +14 hours.
    return f"{moment}{sign}{hours}:{minutes}" if int(hours) <= 14 and int(minutes) < 60 else moment


def camera(make: object, model: object) -> str | None:
    """Join make and model without saying the make twice.

    >>> camera("Canon", "Canon EOS R5"), camera("NIKON CORPORATION", "NIKON D850"), camera("SONY", "ILCE-7M4")
    ('Canon EOS R5', 'NIKON D850', 'SONY ILCE-7M4')
    """
    make, model = text(make), text(model)
    if make is None or model is None:
        return make or model
    return model if model.casefold().startswith(make.split()[0].casefold()) else f"{make} {model}"


def gps(lat: object, lat_ref: object, lon: object, lon_ref: object) -> Gps | None:
    """Turn EXIF's degrees, minutes, seconds and their letters (N/S, E/W) into a place.

    >>> gps((48, 12, 30.0), "N", (16, 22, 12.0), "W")
    Gps(lat=48.208333, lon=-16.37)
    """
    latitude, longitude = _degrees(lat, lat_ref, "S", 90), _degrees(lon, lon_ref, "W", 180)
    return None if latitude is None or longitude is None else Gps(latitude, longitude)


def tags(*sources: Iterable[object]) -> tuple[str, ...]:
    """Join keywords from several sources: cleaned, each once, in the order they were found."""
    found = (text(tag) for source in sources for tag in source)
    return tuple(dict.fromkeys(tag for tag in found if tag))[:MOST_TAGS]


def xmp_subjects(xmp: bytes) -> list[str]:
    """Return the keywords (dc:subject) in an XMP packet, or in any file that contains one.

    Reads the two elements it needs with patterns: packets in the wild are often cut off or not well-formed.
    """
    found = _SUBJECT_BYTES.search(xmp)
    subject = _SUBJECT.search(found[0].decode("utf-8", "replace")) if found else None
    return [html.unescape(item) for item in _ITEM.findall(subject[1])] if subject else []


def windows_keywords(value: object) -> list[str]:
    """Split the tag XPKeywords, UTF-16 with semicolons, as bytes or as a sequence of their values."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        value = bytes(byte for byte in value if isinstance(byte, int) and 0 <= byte < 256)
    if not isinstance(value, bytes):
        return []
    return value.decode("utf-16-le", "replace").split("\0")[0].split(";")


def _degrees(value: object, reference: object, negative: str, limit: int) -> float | None:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        return None
    try:
        parts = [float(part) for part in value[:3]]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    degrees = math.fsum(part / (1, 60, 3600)[power] for power, part in enumerate(parts))
    if not math.isfinite(degrees) or not all(part >= 0 for part in parts) or degrees > limit:
        return None
    sign = -1 if (text(reference) or "").upper().startswith(negative) else 1
    return round(sign * degrees, 6)  # 0.1 m, finer than any camera
