"""Every kind of raster file becomes upright sRGB pixels."""

from __future__ import annotations

import io

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from pixeldetective.errors import PictureError, Reason
from pixeldetective.images.decode import Picture, decode
from tests.images.pictures import BLUE, GREEN, RED, exif, is_motif, lying, motif, saved

# In production raster.py ignores Pillow's warnings for good; pytest undoes that for each test.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

LOSSY = {"JPEG": {"quality": 95}, "WEBP": {"quality": 95}, "AVIF": {"quality": 95}, "HEIF": {"quality": 95}}


def decoded(data: bytes, extension: str = "jpg", *, side: int = 32) -> Picture:
    return decode(data, extension=extension, side=side, max_pixels=10_000_000)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "JPEG2000", "PPM"])
def test_each_format_is_decoded_and_named(name: str) -> None:
    picture = decoded(saved(motif(), name, **LOSSY.get(name, {})))
    assert is_motif(picture.pixels)
    assert (picture.metadata.format, picture.metadata.width, picture.metadata.height) == (name, 96, 64)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_a_picture_is_turned_upright_once(name: str, orientation: int) -> None:
    data = saved(lying(motif(), orientation), name, exif=exif(orientation).tobytes(), **LOSSY.get(name, {}))
    picture = decoded(data)
    assert picture.pixels.shape == (64, 96, 3)
    assert is_motif(picture.pixels)
    assert (picture.metadata.width, picture.metadata.height) == (96, 64)


def test_an_orientation_that_does_not_exist_is_ignored() -> None:
    assert is_motif(decoded(saved(motif(), "JPEG", quality=95, exif=exif(9).tobytes())).pixels)


def test_a_large_jpeg_is_scaled_down_while_decoding_but_not_below_twice_the_side() -> None:
    picture = decoded(saved(motif(2400, 1600), "JPEG"), side=224)
    assert picture.pixels.shape == (800, 1200, 3)
    assert (picture.metadata.width, picture.metadata.height) == (2400, 1600)


def test_a_large_png_is_scaled_down_but_not_below_twice_the_side() -> None:
    picture = decoded(saved(motif(2400, 1600), "PNG"), side=224)
    assert picture.pixels.shape == (534, 800, 3)
    assert is_motif(picture.pixels)


@pytest.mark.parametrize("size", [(10, 7), (1, 1), (1, 3000), (3000, 1), (447, 449)])
def test_a_small_or_narrow_picture_keeps_its_size(size: tuple[int, int]) -> None:
    picture = decoded(saved(motif(*size), "JPEG"), side=224)
    assert picture.pixels.shape == (size[1], size[0], 3)


def test_cmyk_becomes_rgb() -> None:
    assert is_motif(decoded(saved(motif().convert("CMYK"), "JPEG", quality=95)).pixels)
    assert is_motif(decoded(saved(motif().convert("CMYK"), "TIFF")).pixels)


def test_transparency_becomes_white() -> None:
    image = motif().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 48, 32))
    assert decoded(saved(image, "PNG")).pixels[10, 10].tolist() == [255, 255, 255]
    palette = image.convert("RGB").quantize(8)
    index = palette.getpixel((10, 10))
    assert decoded(saved(palette, "PNG", transparency=index)).pixels[10, 10].tolist() == [255, 255, 255]
    assert decoded(saved(palette, "GIF", transparency=index)).pixels[10, 10].tolist() == [255, 255, 255]


def test_grey_with_transparency_becomes_white() -> None:
    image = Image.new("LA", (40, 40), (0, 0))
    image.paste((77, 255), (20, 0, 40, 40))
    pixels = decoded(saved(image, "PNG")).pixels
    assert pixels[5, 5].tolist() == [255, 255, 255]
    assert pixels[5, 30].tolist() == [77, 77, 77]


def test_sixteen_bit_grey_keeps_its_range() -> None:
    ramp = np.linspace(0, 65535, 40 * 40).astype(np.uint16).reshape(40, 40)
    image = Image.fromarray(ramp)
    assert image.mode == "I;16"
    for data in (saved(image, "PNG"), saved(image, "TIFF")):
        pixels = decoded(data).pixels
        assert np.array_equal(pixels[:, :, 0], ramp >> 8)
        assert np.array_equal(pixels[:, :, 0], pixels[:, :, 2])


def test_wide_grey_types_are_scaled_to_what_they_hold() -> None:
    integers = Image.fromarray(np.full((20, 20), 65535, np.int32))
    fractions = Image.fromarray(np.full((20, 20), 0.5, np.float32))
    missing = Image.fromarray(np.full((20, 20), np.nan, np.float32))
    assert decoded(saved(integers, "TIFF")).pixels[0, 0].tolist() == [255, 255, 255]
    assert decoded(saved(fractions, "TIFF")).pixels[0, 0].tolist() == [128, 128, 128]
    assert decoded(saved(missing, "TIFF")).pixels[0, 0].tolist() == [0, 0, 0]


def test_black_and_white_and_lab_are_decoded() -> None:
    assert decoded(saved(Image.new("1", (20, 20), 1), "TIFF")).pixels[0, 0].tolist() == [255, 255, 255]
    lab = ImageCms.profileToProfile(
        motif(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    assert is_motif(decoded(saved(lab, "TIFF")).pixels)


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(name: str) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in (RED, GREEN, BLUE)]
    data = saved(
        frames[0], name, save_all=True, append_images=frames[1:], **({"lossless": True} if name == "WEBP" else {})
    )
    assert np.abs(decoded(data).pixels[20, 20].astype(int) - RED).max() <= 3


def test_a_colour_profile_is_applied() -> None:
    # A profile whose red and blue are swapped says so better than a wide gamut that differs by a few per cent.
    swapped = _profile_with_red_and_blue_swapped()
    plain = decoded(saved(Image.new("RGB", (40, 40), (200, 40, 40)), "PNG")).pixels[0, 0]
    managed = decoded(saved(Image.new("RGB", (40, 40), (200, 40, 40)), "PNG", icc_profile=swapped)).pixels[0, 0]
    assert plain.tolist() == [200, 40, 40]
    assert managed[2] > 150 > managed[0]


def test_a_profile_of_srgb_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    assert np.array_equal(decoded(saved(noise, "PNG", icc_profile=profile)).pixels, np.asarray(noise))


def test_a_broken_colour_profile_is_ignored() -> None:
    for profile in (b"nonsense", b"\0" * 200, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()[:150]):
        assert is_motif(decoded(saved(motif(), "PNG", icc_profile=profile)).pixels)


def test_a_profile_for_other_channels_is_ignored() -> None:
    rgb_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = saved(Image.new("L", (20, 20), 99), "PNG", icc_profile=rgb_profile)
    cmyk = saved(motif().convert("CMYK"), "JPEG", quality=95, icc_profile=rgb_profile)
    assert decoded(grey).pixels[0, 0].tolist() == [99, 99, 99]
    assert is_motif(decoded(cmyk).pixels)


@pytest.mark.parametrize(
    ("name", "extension"), [("PNG", "jpg"), ("JPEG", "cr2"), ("HEIF", "jpg"), ("TIFF", "nef"), ("AVIF", "heic")]
)
def test_the_content_decides_and_not_the_extension(name: str, extension: str) -> None:
    picture = decoded(saved(motif(), name, **LOSSY.get(name, {})), extension)
    assert is_motif(picture.pixels)
    assert picture.metadata.format == name


def test_heic_as_phones_write_it_is_turned_once() -> None:
    # Phones rotate by the container's own property and repeat it in EXIF.
    file = io.BytesIO()
    heif = pillow_heif.from_pillow(lying(motif(), 6))
    heif.info["exif"] = exif(6).tobytes()
    heif.save(file, quality=95)
    picture = decoded(file.getvalue(), "heic")
    assert picture.pixels.shape == (64, 96, 3)
    assert is_motif(picture.pixels)


def test_a_bomb_is_refused_by_its_header() -> None:
    header = bytearray(saved(Image.new("L", (1, 1)), "BMP"))
    header[18:26] = (30_000).to_bytes(4, "little") + (30_000).to_bytes(4, "little")
    with pytest.raises(PictureError, match="30,000 × 30,000 pixels are more than the 10,000,000") as caught:
        decoded(bytes(header), "bmp")
    assert caught.value.reason is Reason.TOO_LARGE


def test_an_empty_file_has_its_own_reason() -> None:
    with pytest.raises(PictureError, match="empty") as caught:
        decoded(b"")
    assert caught.value.reason is Reason.EMPTY


def test_text_with_a_pictures_name_is_told_so() -> None:
    with pytest.raises(PictureError, match="begins with the text “Dear diary, I am") as caught:
        decoded(b"Dear diary, I am no picture.\n" * 50, "jpg")
    assert caught.value.reason is Reason.UNDECODABLE


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_a_truncated_file_is_refused(name: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8))
    data = saved(noise, name)
    with pytest.raises(PictureError) as caught:
        decoded(data[: len(data) * 2 // 3])
    assert caught.value.reason is Reason.UNDECODABLE


def test_a_truncated_jpeg_says_how_much_of_it_is_there() -> None:
    with pytest.raises(PictureError, match="ends early: 1,500 bytes are not all of it"):
        decoded(saved(motif(1000, 800), "JPEG")[:1500])


def _profile_with_red_and_blue_swapped() -> bytes:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    entries = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)
