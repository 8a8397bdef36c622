"""What pictures say about themselves, read from real files, and what becomes of nonsense."""

from __future__ import annotations

import io
import math
import struct
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from pixeldetective.images import metadata
from pixeldetective.images.decode import decode
from pixeldetective.images.kinds import is_picture
from pixeldetective.images.metadata import Gps, Metadata
from pixeldetective.settings import RASTER_EXTENSIONS
from tests.images.pictures import motif, saved

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>Wien</rdf:li>
<rdf:li>Grün &amp; Blau</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"""


def read(data: bytes) -> Metadata:
    return decode(data, extension="jpg", side=32, max_pixels=10_000_000).metadata


def full_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Canon"
    exif[ExifTags.Base.Model] = "Canon EOS R5"
    exif[ExifTags.Base.DateTime] = "2025:01:01 00:00:00"
    exif[0x9C9E] = "Urlaub;Wien".encode("utf-16-le") + b"\0\0"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[0x9003] = "2024:05:17 10:31:02"
    details[0x9011] = "+02:00"
    details[0xA434] = "RF24-105mm F4 L IS USM"
    place = exif.get_ifd(ExifTags.IFD.GPSInfo)
    place[1], place[2] = "N", (IFDRational(48), IFDRational(12), IFDRational(3000, 100))
    place[3], place[4] = "W", (IFDRational(16), IFDRational(22), IFDRational(12))
    return exif


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_exif_is_read_from_every_format_that_carries_it(name: str) -> None:
    found = read(saved(motif(), name, exif=full_exif().tobytes()))
    assert found.camera == "Canon EOS R5"
    assert found.lens == "RF24-105mm F4 L IS USM"
    assert found.taken_at == "2024-05-17T10:31:02+02:00"
    assert found.gps == Gps(48.208333, -16.37)
    assert found.tags == ("Urlaub", "Wien")


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_keywords_are_read_from_xmp(name: str) -> None:
    options = {"tiffinfo": {700: XMP.encode()}} if name == "TIFF" else {"xmp": XMP.encode()}
    assert read(saved(motif(), name, **options)).tags == ("Wien", "Grün & Blau")


def test_keywords_of_all_kinds_are_joined_and_each_is_there_once() -> None:
    iptc = b"".join(
        b"\x1c" + struct.pack(">BBH", 2, 25, len(word)) + word for word in (b"Wien", "Café".encode(), b"caf\xe9")
    )
    block = (
        b"8BIM" + struct.pack(">H", 0x0404) + b"\0\0" + struct.pack(">I", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    )
    segment = b"Photoshop 3.0\0" + block
    jpeg = saved(motif(), "JPEG", exif=full_exif(), xmp=XMP.encode())
    jpeg = jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]
    assert read(jpeg).tags == ("Wien", "Grün & Blau", "Café", "café", "Urlaub")


def test_a_picture_that_says_nothing_has_only_its_size_and_format() -> None:
    found = read(saved(motif(), "PNG"))
    assert found == Metadata(width=96, height=64, format="PNG")
    assert msgspec.json.encode(found) == b'{"width":96,"height":64,"format":"PNG"}'


def test_metadata_survives_the_wire() -> None:
    found = read(saved(motif(), "JPEG", exif=full_exif(), xmp=XMP.encode()))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Metadata) == found


@given(st.binary(max_size=400))
def test_broken_exif_never_fails_a_picture(garbage: bytes) -> None:
    for block in (garbage, b"Exif\0\0II*\0\x08\0\0\0" + garbage):
        found = read(saved(Image.new("RGB", (8, 8)), "JPEG", exif=block))
        assert (found.width, found.height) == (8, 8) or (found.height, found.width) == (8, 8)
        msgspec.json.encode(found)


@pytest.mark.parametrize(
    "date",
    ["0000:00:00 00:00:00", "    :  :     :  :  ", "2024:13:40 10:00:00", "0001:01:01 00:00:00", "", b"\xff", None, 7],
)
def test_a_date_that_makes_no_sense_is_none(date: object) -> None:
    assert metadata.taken_at(date) is None


@pytest.mark.parametrize("offset", ["+99:00", "02:00", "", None, "+02", "\0"])
def test_an_offset_that_makes_no_sense_is_left_out(offset: object) -> None:
    assert metadata.taken_at("2024:05:17 10:31:02", offset) == "2024-05-17T10:31:02"


@pytest.mark.parametrize(
    ("lat", "lon"),
    [
        ((91, 0, 0), (0, 0, 0)),
        ((0, 0, 0), (181, 0, 0)),
        ((math.nan, 0, 0), (0, 0, 0)),
        ((math.inf, 0, 0), (0, 0, 0)),
        ((IFDRational(0, 0), 0, 0), (0, 0, 0)),
        ((-1, 0, 0), (0, 0, 0)),
        ((), (0, 0, 0)),
        ("48", "16"),
        (None, (0, 0, 0)),
        (48.5, 16.5),
    ],
)
def test_a_place_that_makes_no_sense_is_none(lat: object, lon: object) -> None:
    assert metadata.gps(lat, "N", lon, "E") is None


@given(*[st.one_of(st.none(), st.text(), st.binary(), st.integers(), st.lists(st.floats() | st.text()))] * 4)
def test_whatever_the_values_are_the_result_can_be_sent(a: object, b: object, c: object, d: object) -> None:
    place = metadata.gps(a, b, c, d)
    found = Metadata(
        width=1,
        height=1,
        format="PNG",
        taken_at=metadata.taken_at(a, b),
        camera=metadata.camera(a, b),
        lens=metadata.text(c),
        gps=place,
        tags=metadata.tags(metadata.windows_keywords(a), [b, c, d]),
    )
    msgspec.json.encode(found)
    assert place is None or (abs(place.lat) <= 90 and abs(place.lon) <= 180)


def test_importing_metadata_does_not_import_decoders() -> None:
    code = "import sys, pixeldetective.images.metadata; print({'PIL', 'numpy', 'rawpy', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize("name", [b"a.jpg", b"A.JPG", b"folder.d/b.HeIc", b"caf\xe9.tiff", b"a.b.png"])
def test_a_pictures_name_is_known_by_its_extension(name: bytes) -> None:
    assert is_picture(name, RASTER_EXTENSIONS)


@pytest.mark.parametrize("name", [b"a.txt", b"jpg", b".jpg", b"a.jpg.part", b"a.jpg/", b"a.jp\xffg", b"", b"a."])
def test_other_names_are_not_pictures(name: bytes) -> None:
    assert not is_picture(name, RASTER_EXTENSIONS)


def test_extensions_may_be_given_with_a_dot_and_in_capitals() -> None:
    assert is_picture(b"a.jpg", (".JPG",))


def test_a_phones_stack_of_pictures_is_called_a_jpeg() -> None:
    file = io.BytesIO()
    motif().save(file, "MPO", save_all=True, append_images=[motif()])
    assert read(file.getvalue()).format == "JPEG"
