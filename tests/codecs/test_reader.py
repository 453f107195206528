"""A picture keeps depth, alpha, its way up and what it says beside its pixels, in every format that holds them."""

import io
import json
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin
from support.pictures import jpeg, saved, static
from support.stages import python

from pipeline.codecs import writer
from pipeline.codecs.metadata import Metadata
from pipeline.codecs.reader import format_of, read_picture
from pipeline.codecs.writer import FORMATS, encode_picture, loss_note, write_picture
from pipeline.core.images import ImageError, Planes, decode

MARK = {"software": "facesr 1.0", "model": "large", "realism": "0.5"}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" tiff:Make="Maker" '
    b"exif:PixelXDimension='7'><tiff:Orientation>6</tiff:Orientation><dc:title>A title</dc:title>"
    b"<xmp:Thumbnails><rdf:Alt>old pixels</rdf:Alt></xmp:Thumbnails></rdf:Description></x:xmpmeta>"
)
DEPTHS = {8: np.uint8, 16: np.uint16}


def noise(channels: int, depth: int, height: int = 21, width: int = 34, seed: int = 0) -> Planes:
    random = np.random.default_rng(seed)
    return random.integers(0, 2**depth, (height, width, channels)).astype(DEPTHS[depth])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG by hand, of rows that begin with their filter's number."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + body


def written(pixels: Planes, kind: str = "png", metadata: Metadata | None = None, quality: int = 95) -> bytes:
    return encode_picture(pixels, metadata or Metadata(), kind, quality, MARK)


def opened(data: bytes) -> Any:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def camera_exif(orientation: int = 6) -> bytes:
    """What a camera writes: two directories below the main one, and a second main one with a thumbnail."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", orientation
    exif[0x8769] = {0x9003: "2020:01:02 03:04:05", 0xA002: 7, 0xA003: 5, 0x927C: b"maker's note" * 10}
    exif[0x8825] = {1: "N", 2: (47.0, 30.0, 0.0)}
    block = bytearray(exif.tobytes().removeprefix(b"Exif\0\0"))
    order = ">" if block[:2] == b"MM" else "<"
    (start,) = struct.unpack_from(order + "I", block, 4)
    (count,) = struct.unpack_from(order + "H", block, start)
    struct.pack_into(order + "I", block, start + 2 + 12 * count, len(block))
    thumbnail = jpeg(static(1, 16))
    place = len(block) + 2 + 2 * 12 + 4
    block += struct.pack(order + "HHHIIHHIII", 2, 0x0201, 4, 1, place, 0x0202, 4, 1, len(thumbnail), 0)
    return bytes(block) + thumbnail


def tags(block: bytes | None) -> Image.Exif:
    exif = Image.Exif()
    exif.load(block or b"")
    return exif


# pixels


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_depth_and_number_of_channels_survives_png_exactly(channels: int, depth: int) -> None:
    pixels = noise(channels, depth)
    data = written(pixels)
    picture = read_picture(data)
    assert picture.pixels.dtype == pixels.dtype
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.pixels.flags.c_contiguous
    assert (picture.format, picture.lossless) == ("PNG", True)
    if depth == 8:
        np.testing.assert_array_equal(np.asarray(opened(data)).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".ppm"])
def test_sixteen_bit_colour_of_other_software_keeps_its_bits_and_its_order(suffix: str) -> None:
    pixels = noise(3, 16)
    done, data = cv2.imencode(suffix, pixels[..., ::-1].copy())
    assert done
    np.testing.assert_array_equal(read_picture(data.tobytes()).pixels, pixels)


def test_sixteen_bit_alpha_in_a_tiff_is_kept() -> None:
    pixels = noise(4, 16)
    done, data = cv2.imencode(".tiff", pixels[..., [2, 1, 0, 3]])
    assert done
    np.testing.assert_array_equal(read_picture(data.tobytes()).pixels, pixels)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
def test_sixteen_bit_grey_of_other_software_stays_grey_of_sixteen_bits(suffix: str) -> None:
    pixels = noise(1, 16)
    done, data = cv2.imencode(suffix, pixels)
    assert done
    np.testing.assert_array_equal(read_picture(data.tobytes()).pixels, pixels)


def test_sixteen_bit_grey_of_a_dark_picture_stays_dark() -> None:
    pixels = noise(1, 8).astype(np.uint16)
    picture = read_picture(written(pixels))
    assert picture.pixels.dtype == np.uint16
    np.testing.assert_array_equal(picture.pixels, pixels)


def test_a_pnm_with_another_maximum_is_spread_over_the_whole_range() -> None:
    colour = b"P6\n2 1\n1000\n" + struct.pack(">6H", 0, 500, 1000, 1, 2, 3)
    assert read_picture(colour).pixels.tolist() == [[[0, 32768, 65535], [66, 131, 197]]]
    grey = read_picture(b"P5\n2 1\n1000\n" + struct.pack(">2H", 0, 1000)).pixels
    assert grey.tolist() == [[[0], [65535]]]


MODES = {
    "1": ("PNG", 1),
    "L": ("JPEG", 1),
    "LA": ("PNG", 2),
    "P": ("PNG", 3),
    "RGB": ("WEBP", 3),
    "RGBA": ("WEBP", 4),
    "CMYK": ("JPEG", 3),
    "YCbCr": ("TIFF", 3),
    "LAB": ("TIFF", 3),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gets_the_channels_it_needs_and_the_colours_that_decode_gives(mode: str) -> None:
    kind, channels = MODES[mode]
    image = Image.fromarray(static(3, 24)).convert("RGB" if mode == "LAB" else mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(noise(1, 8, 24, 24)[..., 0]))
    if mode == "LAB":
        image = Image.fromarray(static(3, 24), "LAB")
    data = saved(image, kind)
    pixels = read_picture(data).pixels
    assert pixels.shape == (24, 24, channels)
    assert pixels.dtype == np.uint8
    if channels == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if channels in (1, 3):
        np.testing.assert_array_equal(pixels, decode(data))


def test_a_palette_with_transparency_becomes_rgb_and_alpha() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    data = saved(image, "PNG", transparency=b"\x80\xff")
    assert read_picture(data).pixels.tolist() == [[[10, 20, 30, 128], [40, 50, 60, 255]]]


KEYED = {
    "4-bit grey": (png(2, 1, 4, 0, b"\0\x5a", chunk(b"tRNS", b"\0\5")), [[85, 0], [170, 255]]),
    "8-bit grey": (png(2, 1, 8, 0, b"\0\5\6", chunk(b"tRNS", b"\0\5")), [[5, 0], [6, 255]]),
    "16-bit grey": (png(2, 1, 16, 0, b"\0\1\2\3\4", chunk(b"tRNS", b"\1\2")), [[258, 0], [772, 65535]]),
    "8-bit colour": (
        png(2, 1, 8, 2, b"\0\1\2\3\4\5\6", chunk(b"tRNS", b"\0\1\0\2\0\3")),
        [[1, 2, 3, 0], [4, 5, 6, 255]],
    ),
    "16-bit colour": (
        png(2, 1, 16, 2, b"\0\1\2\3\4\5\6\1\2\3\4\5\7", chunk(b"tRNS", b"\1\2\3\4\5\6")),
        [[258, 772, 1286, 0], [258, 772, 1287, 65535]],
    ),
}


@pytest.mark.parametrize("kind", KEYED)
def test_a_colour_that_a_png_declares_transparent_becomes_alpha(kind: str) -> None:
    data, expected = KEYED[kind]
    assert read_picture(data).pixels[0].tolist() == expected


def test_cmyk_goes_through_its_own_profile_which_is_then_dropped() -> None:
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    plain = read_picture(saved(cyan, "JPEG", quality=100))
    managed = read_picture(saved(cyan, "JPEG", quality=100, icc_profile=cmyk_profile()))
    # the profile says that the cyan of this press is dark: L* = 20, neutral
    assert plain.pixels[0, 0, 2] > 250
    assert np.abs(managed.pixels.astype(int) - 48).max() <= 3
    assert managed.metadata.icc is None
    broken = read_picture(saved(cyan, "JPEG", quality=100, icc_profile=cmyk_profile()[:200]))
    np.testing.assert_array_equal(broken.pixels, plain.pixels)
    assert [picture.remarks for picture in (plain, managed)] == [[], []]
    assert broken.remarks == ["colour profile left out: it cannot be used"]


def cmyk_profile() -> bytes:
    """The smallest printer profile: a table from CMYK to Lab, white without ink, dark grey for cyan, else black."""
    ramp = bytes(range(256))
    nodes = b"".join(bytes(({0: 255, 8: 51}.get(node, 0), 128, 128)) for node in range(16))
    table = (
        b"mft1\0\0\0\0\4\3\2\0"
        + struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
        + ramp * 4
        + nodes
        + ramp * 3
    )
    table += bytes(-len(table) % 4)
    listing = struct.pack(">I4sII", 1, b"A2B0", 128 + 16, len(table))
    header = struct.pack(">I4sI4s4s4s", 128 + 16 + len(table), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += struct.pack(">6H4s", 2020, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + listing + table


def test_the_first_frame_stands_for_an_animation() -> None:
    frames = [Image.fromarray(static(seed, 16)) for seed in range(3)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_picture(data).pixels, static(0, 16))


# the way up


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once_and_does_not_stay(orientation: int, depth: int) -> None:
    stored = noise(3, depth)
    metadata = Metadata(exif=camera_exif(orientation), xmp=XMP)
    # the writer passes on what it is given, so this is a file that lies on its side
    source = written(stored, "png", metadata)
    picture = read_picture(source)
    eight = written((stored // 257).astype(np.uint8), "png", metadata) if depth == 16 else source
    upright = decode(eight)
    shown = picture.pixels // 257 if depth == 16 else picture.pixels
    np.testing.assert_array_equal(shown, upright)
    for kind in FORMATS:
        result = written(picture.pixels, kind, picture.metadata)
        again = read_picture(result)
        assert again.pixels.shape == picture.pixels.shape
        assert opened(result).getexif().get(0x0112, 1) == 1
        assert b"Orientation" not in (again.metadata.xmp or b"")


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_that_lies_on_its_side_is_turned_once(orientation: int, depth: int) -> None:
    done, data = cv2.imencode(".tiff", noise(3, depth)[..., ::-1].copy(), [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    assert done
    lying = tiff_with(data.tobytes(), 0x0112, orientation)
    picture = read_picture(lying)
    assert picture.pixels.dtype == DEPTHS[depth]
    assert np.abs(picture.pixels / (257 if depth == 16 else 1) - decode(lying)).max() <= 1


def tiff_with(data: bytes, tag: int, value: int) -> bytes:
    """A TIFF whose directory is written anew at its end, with one tag more."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    entries = [data[start + 2 + 12 * index :][:12] for index in range(count)]
    entries.append(struct.pack(order + "HHIHH", tag, 3, 1, value, 0))
    entries.sort(key=lambda entry: struct.unpack(order + "H", entry[:2]))
    end = len(data) + len(data) % 2
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return data[:4] + struct.pack(order + "I", end) + data[8:].ljust(end - 8, b"\0") + directory


def test_turning_on_the_side_exchanges_the_two_resolutions() -> None:
    data = written(noise(3, 8), "jpeg", Metadata(exif=camera_exif(6), dpi=(300, 150)))
    assert read_picture(data).metadata.dpi == (150, 300)


@pytest.mark.parametrize(
    "exif", [b"MM\0*\0\0\0\x08", b"nonsense", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff\0\1"]
)
def test_exif_that_cannot_be_read_says_nothing_about_a_picture_that_can(exif: bytes) -> None:
    pixels = static(1, 16)
    data = saved(Image.fromarray(pixels), "PNG", exif=exif)
    np.testing.assert_array_equal(read_picture(data).pixels, pixels)
    assert written(pixels, "jpeg", read_picture(data).metadata)


# what a file says beside its pixels


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_exif_is_carried_without_thumbnail_and_with_the_new_size(source: str, target: str) -> None:
    data = written(noise(3, 8, 5, 7), source, Metadata(exif=camera_exif(1)))
    result = written(noise(3, 8, 20, 28), target, read_picture(data).metadata)
    exif = opened(result).getexif()
    assert exif[0x010F] == "Maker"
    inner = exif.get_ifd(0x8769)
    assert inner[0x9003] == "2020:01:02 03:04:05"
    assert (inner[0xA002], inner[0xA003]) == (28, 20)
    assert exif.get_ifd(0x8825)[1] == "N"
    assert not exif.get_ifd(ExifTags.IFD.IFD1)
    assert b"\xff\xd8\xff" not in result[2:]


def test_the_thumbnail_of_a_camera_is_there_to_be_removed() -> None:
    exif = tags(camera_exif())
    assert exif.get_ifd(ExifTags.IFD.IFD1)[0x0202] > 0


def test_only_what_describes_the_picture_is_taken_from_a_tiff() -> None:
    image = Image.fromarray(static(1, 16))
    exif = tags(camera_exif(1))
    exif[270], exif[33432] = "a face", "someone"
    metadata = read_picture(saved(image, "TIFF", exif=exif, dpi=(300, 300))).metadata
    assert metadata.dpi == (300, 300)
    kept = tags(metadata.exif)
    assert {*kept} <= {270, 271, 305, 33432, 0x8769, 0x8825}
    assert (kept[270], kept[33432]) == ("a face", "someone")


@pytest.mark.parametrize("kind", FORMATS)
def test_profile_resolution_and_xmp_are_carried(kind: str) -> None:
    metadata = read_picture(written(noise(3, 8), "png", Metadata(icc=SRGB, dpi=(300, 150), xmp=XMP))).metadata
    image = opened(written(noise(3, 8), kind, metadata))
    assert image.info["icc_profile"] == SRGB
    xmp = image.info["xmp"]
    assert b"A title" in xmp
    assert b'tiff:Make="Maker"' in xmp
    assert not any(old in xmp for old in (b"Orientation", b"Dimension", b"old pixels"))
    dpi = image.info.get("dpi") or (image.getexif()[0x011A], image.getexif()[0x011B])
    # turned by what XMP says of the orientation
    assert tuple(round(float(value)) for value in dpi) == (150, 300)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_profile_goes_only_where_it_fits_the_channels(kind: str) -> None:
    assert "icc_profile" not in opened(written(noise(1, 8), kind, Metadata(icc=SRGB))).info
    assert "icc_profile" not in opened(written(noise(4, 8), kind, Metadata(icc=GREY_PROFILE))).info
    assert opened(written(noise(2, 8), kind, Metadata(icc=GREY_PROFILE))).info["icc_profile"] == GREY_PROFILE


def test_a_profile_of_several_segments_comes_back_from_a_jpeg() -> None:
    profile = SRGB + np.random.default_rng(0).bytes(200_000)
    data = written(noise(3, 8), "jpeg", Metadata(icc=profile))
    assert read_picture(data).metadata.icc == profile


def test_png_text_is_carried_and_a_mark_is_added() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "Élan")
    info.add_itxt("Author", "Анна")
    info.add_text("Description", "long " * 100, zip=True)
    info.add_text("Raw profile type iptc", "\niptc\n 0\n")
    info.add_text("Raw profile type APP1", "\ngeneric profile\n 0\n")
    info.add_text("facesr", "an earlier mark")
    picture = read_picture(saved(Image.fromarray(static(1, 16)), "PNG", pnginfo=info))
    assert picture.metadata.text == {"Title": "Élan", "Author": "Анна", "Description": "long " * 100}
    assert picture.metadata.lost == ("APP1 profile in text left out", "IPTC left out")
    text = opened(written(picture.pixels, "png", picture.metadata)).text
    assert json.loads(text.pop("facesr")) == MARK
    assert text == {**picture.metadata.text, "Software": "facesr 1.0"}


def test_the_software_that_a_picture_names_stays() -> None:
    text = opened(written(noise(3, 8), "png", Metadata(text={"Software": "a camera"}))).text
    assert text["Software"] == "a camera"


def test_text_becomes_the_comment_of_a_jpeg() -> None:
    data = written(noise(3, 8), "jpeg", Metadata(text={"Title": "Élan", "Comment": "as it was"}))
    assert opened(data).info["comment"].decode() == "Title: Élan\nas it was"
    assert read_picture(data).metadata.text == {"Comment": "Title: Élan\nas it was"}
    assert (
        read_picture(written(noise(3, 8), "png", read_picture(data).metadata))
        .metadata.text["Comment"]
        .endswith("it was")
    )


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
@pytest.mark.parametrize("exif", [None, camera_exif()])
def test_the_mark_is_one_json_string_in_exif(kind: str, exif: bytes | None) -> None:
    for metadata in (Metadata(exif=exif), read_picture(written(noise(3, 8), kind, Metadata(exif=exif))).metadata):
        assert json.loads(opened(written(noise(3, 8), kind, metadata)).getexif()[0x000B]) == MARK


def test_what_a_jpeg_has_no_room_for_is_left_out_and_the_rest_stays() -> None:
    exif = tags(camera_exif(1))
    exif[0x8769] = {0x9003: "2020:01:02 03:04:05", 0x927C: bytes(70_000)}
    metadata = Metadata(exif=exif.tobytes()[6:], xmp=b"x" * 70_000, text={"Long": "x" * 70_000, "Short": "y"}, icc=SRGB)
    image = opened(written(noise(3, 8), "jpeg", metadata))
    assert image.getexif()[0x010F] == "Maker"
    assert image.getexif().get_ifd(0x8769) == {0x9003: "2020:01:02 03:04:05"}
    assert image.info["comment"] == b"Short: y"
    assert "xmp" not in image.info
    assert image.info["icc_profile"] == SRGB
    exif[0x010E] = "d" * 70_000
    image = opened(written(noise(3, 8), "jpeg", Metadata(exif=exif.tobytes()[6:])))
    assert json.loads(image.getexif()[0x000B]) == MARK


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_arguments_give_the_same_bytes(kind: str) -> None:
    metadata = Metadata(exif=camera_exif(), icc=SRGB, dpi=(72, 72), text={"a": "b"}, xmp=XMP)
    assert written(noise(3, 8), kind, metadata) == written(noise(3, 8), kind, metadata)


# formats and their limits


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.png", "png"),
        ("a.b.JPG", "jpeg"),
        ("x/a.jpeg", "jpeg"),
        ("a.jfif", "jpeg"),
        ("a.WebP", "webp"),
        ("a.tif", None),
        ("png", None),
    ],
)
def test_the_suffix_says_the_format(name: str, kind: str | None) -> None:
    assert format_of(name) == kind


@pytest.mark.parametrize(("kind", "longest"), [("jpeg", 65500), ("webp", 16383)])
def test_a_size_that_a_format_ends_below_is_refused_with_advice(kind: str, longest: int) -> None:
    assert loss_note(kind, longest, 1, 3, 8) is None
    assert opened(written(np.zeros((1, longest, 3), np.uint8), kind)).width == longest
    for width, height in ((longest + 1, 1), (1, longest + 1)):
        with pytest.raises(ImageError, match=f"{width}x{height} .*{longest} pixels a side: use --format png"):
            loss_note(kind, width, height, 3, 8)
    with pytest.raises(ImageError, match="too large"):
        written(np.zeros((1, longest + 1, 3), np.uint8), kind)


def test_a_png_may_be_longer() -> None:
    pixels = np.arange(70_000 * 3, dtype=np.uint32).reshape(1, -1, 3).astype(np.uint8)
    np.testing.assert_array_equal(read_picture(written(pixels)).pixels, pixels)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ImageError, match="gif is not a format that can be written"):
        loss_note("gif", 1, 1, 3, 8)


def test_what_a_format_cannot_hold_is_noted() -> None:
    assert loss_note("png", 9, 9, 2, 16) is None
    assert loss_note("jpeg", 9, 9, 1, 8) is None
    assert loss_note("webp", 9, 9, 4, 8) is None
    assert (
        loss_note("jpeg", 9, 9, 4, 16)
        == "16 bit reduced to 8: JPEG holds no more; alpha laid on white: JPEG holds none"
    )
    assert loss_note("webp", 9, 9, 3, 16) == "16 bit reduced to 8: WebP holds no more"


@pytest.mark.parametrize("depth", DEPTHS)
def test_jpeg_keeps_grey_in_one_channel_and_colour_at_full_resolution(depth: int) -> None:
    assert opened(written(noise(1, depth), "jpeg")).mode == "L"
    image = opened(written(noise(3, depth), "jpeg"))
    assert image.mode == "RGB"
    assert {(across, down) for _, across, down, _ in image.layer} == {(1, 1)}


@pytest.mark.parametrize("depth", DEPTHS)
def test_jpeg_lays_alpha_on_white(depth: int) -> None:
    top = 2**depth - 1
    pixels = np.zeros((16, 16, 4), DEPTHS[depth])
    pixels[..., 0] = top
    pixels[..., 3] = np.repeat([[0, top // 2]], 8, axis=1)
    shown = read_picture(written(pixels, "jpeg", quality=100)).pixels.astype(int)
    assert np.abs(shown[:, :8] - 255).max() <= 3
    assert np.abs(shown[:, 8:] - (255, 128, 128)).max() <= 3


@pytest.mark.parametrize("channels", [2, 4])
def test_webp_keeps_alpha(channels: int) -> None:
    pixels = noise(channels, 8)
    np.testing.assert_array_equal(read_picture(written(pixels, "webp")).pixels[..., 3], pixels[..., -1])


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_sixteen_bits_are_rounded_to_eight(kind: str) -> None:
    fine = np.full((16, 16, 3), 200 * 257 - 128, np.uint16)
    coarse = np.full((16, 16, 3), 200, np.uint8)
    np.testing.assert_array_equal(read_picture(written(fine, kind)).pixels, read_picture(written(coarse, kind)).pixels)


# files that cannot be used


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(255 - value for value in data[middle : middle + 9]) + data[middle + 9 :]


def bomb(width: int, height: int) -> bytes:
    return png(width, height, 8, 2, b"")


BAD = {
    "empty": (b"", "empty file"),
    "words": (b"these are words and no picture " * 9, "not a picture of a known format"),
    "signature only": (b"\x89PNG\r\n\x1a\n", "not a picture of a known format"),
    "bomb": (bomb(10_000, 10_000), "10000x10000 is more than the 67108864 pixels allowed"),
    "huge bomb": (bomb(2_000_000, 2_000_000), "more pixels than allowed"),
    "truncated JPEG": (jpeg(static(1))[:2000], "truncated picture"),
    "truncated PNG": (written(static(1))[:2000], "truncated picture"),
    "truncated 16-bit PNG": (written(noise(3, 16, 64, 64))[:9000], "truncated picture"),
    "damaged PNG": (flipped(written(static(1))), "damaged picture"),
    "damaged WebP": (written(static(1), "webp")[:200], "damaged picture"),
    "floating point": (saved(Image.new("F", (8, 8)), "TIFF"), "floating-point pixels"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_cannot_be_used_is_reported_with_the_reason(kind: str) -> None:
    data, reason = BAD[kind]
    with pytest.raises(ImageError, match=reason) as caught:
        read_picture(data)
    assert "\n" not in str(caught.value)


def test_the_bound_on_pixels_is_the_callers() -> None:
    data = written(static(1, 16))
    with pytest.raises(ImageError, match="16x16 is more than the 255 pixels allowed"):
        read_picture(data, max_pixels=255)
    assert read_picture(data, max_pixels=256)


def test_sixteen_bit_colour_without_opencv_is_refused_and_all_else_works(tmp_path: Path) -> None:
    (tmp_path / "deep.png").write_bytes(written(noise(3, 16)))
    code = """
import sys
sys.modules["cv2"] = None
from pathlib import Path
import numpy as np
from pipeline.codecs.metadata import Metadata
from pipeline.codecs.reader import read_picture
from pipeline.codecs.writer import encode_picture
from pipeline.core.images import ImageError
for pixels in (np.full((9, 9, 3), 7, np.uint8), np.full((9, 9, 1), 700, np.uint16)):
    assert (read_picture(encode_picture(pixels, Metadata(), "png", 90, {})).pixels == pixels).all()
try:
    read_picture(Path("deep.png").read_bytes())
except ImageError as error:
    print(error)
"""
    done = python(code, tmp_path)
    assert done.stdout.startswith("16-bit colour needs OpenCV"), done.stderr


ZEROS = zlib.compress(bytes(64 << 20), 9)
BOMBS = {
    "profile": chunk(b"iCCP", b"profile\0\0" + ZEROS),
    "text": chunk(b"zTXt", b"Comment\0\0" + ZEROS),
    "international text": chunk(b"iTXt", b"Comment\0\1\0\0\0" + ZEROS),
}


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", BOMBS)
def test_text_or_a_profile_that_unpacks_to_gigabytes_is_passed_over(kind: str, depth: int) -> None:
    pixels = noise(3, depth)
    rows = pixels.astype(f">u{depth // 8}").tobytes()
    stride = len(rows) // len(pixels)
    filtered = b"".join(b"\0" + rows[start : start + stride] for start in range(0, len(rows), stride))
    data = png(pixels.shape[1], pixels.shape[0], depth, 2, filtered, BOMBS[kind])
    tracemalloc.start()
    try:
        picture = read_picture(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert (picture.metadata.icc, picture.metadata.text) == (None, {})
    assert picture.remarks == [f"{'colour profile' if kind == 'profile' else 'text'} left out: too large"]
    assert peak < 8 << 20


# large canvases


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_is_written_with_the_bytes_that_encoding_returns(kind: str, tmp_path: Path) -> None:
    metadata = Metadata(exif=camera_exif(), icc=SRGB, dpi=(72, 72), text={"a": "b"}, xmp=XMP)
    write_picture(tmp_path / "a", noise(4, 16), metadata, kind, 90, MARK)
    assert (tmp_path / "a").read_bytes() == encode_picture(noise(4, 16), metadata, kind, 90, MARK)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_written_in_bands_holds_the_same_pixels(
    channels: int, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_BAND", 1000)
    pixels = noise(channels, depth, 61, 47)
    np.testing.assert_array_equal(read_picture(written(pixels)).pixels, pixels)


@pytest.mark.parametrize("size", [(61, 47), (64, 64), (200, 9), (8, 300)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_jpeg_written_in_bands_is_the_picture_written_at_once(
    channels: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = noise(channels, 8, *size)
    metadata = Metadata(exif=camera_exif(1), icc=SRGB)
    whole = written(pixels, "jpeg", metadata)
    monkeypatch.setattr(writer, "_BAND", 1000)
    banded = written(pixels, "jpeg", metadata)
    expected = np.asarray(opened(whole))
    np.testing.assert_array_equal(np.asarray(opened(banded)), expected)
    seen: Any = cv2.imdecode(np.frombuffer(banded, np.uint8), cv2.IMREAD_UNCHANGED)
    reference: Any = cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(seen, reference)
    if len(pixels) > 8:
        assert b"\xff\xd0" in banded


@pytest.mark.skipif(sys.platform != "linux", reason="Linux bounds a process's private memory apart from its mappings")
@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_canvas_on_disk_is_written_in_less_memory_than_it_has(kind: str, tmp_path: Path) -> None:
    side = 6000
    row = np.random.default_rng(0).integers(0, 256, (side, 3), dtype=np.uint8)
    canvas = np.memmap(tmp_path / "canvas", np.uint8, "w+", shape=(side, side, 3))
    for start in range(0, side, 500):
        canvas[start : start + 500] = row
        canvas[start : start + 100] += np.uint8(start % 251)
    canvas.flush()
    code = f"""
import resource
from pathlib import Path
import numpy as np
from PIL import Image
from pipeline.codecs.metadata import Metadata
from pipeline.codecs.writer import write_picture
Image.init()
canvas = np.memmap("canvas", np.uint8, "r", shape=({side}, {side}, 3))
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) << 10
# private memory only: pages of the mapped canvas do not count
resource.setrlimit(resource.RLIMIT_DATA, (used + (80 << 20),) * 2)
try:
    np.array(canvas)
except MemoryError:
    print("no room for a copy")
write_picture(Path("result"), canvas, Metadata(), {kind!r}, 90, {{}})
print("written")
"""
    done = python(code, tmp_path, OMP_NUM_THREADS="1")
    assert done.stdout.split("\n")[:2] == ["no room for a copy", "written"], done.stderr
    result = read_picture((tmp_path / "result").read_bytes()).pixels
    assert result.shape == canvas.shape
    if kind == "png":
        np.testing.assert_array_equal(result, canvas)
