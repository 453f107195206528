"""Whatever of a file is not in its copy, and whatever is wrong with it, is told in words."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin
from support.pictures import jpeg, saved, static
from support.upscaling import make_models, manifest, upscale

from pipeline.codecs.metadata import Metadata
from pipeline.codecs.reader import read_picture
from pipeline.codecs.writer import encode_picture, write_picture
from pipeline.core.images import ImageError, decode
from pipeline.ingest.preprocess import read_rgb

PIXELS = static(1, 32)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(data: bytes, *more: bytes) -> bytes:
    """A PNG with more chunks behind its header."""
    return data[:33] + b"".join(more) + data[33:]


def png() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "a title")
    info.add_text("Author", "an author")
    return saved(Image.fromarray(PIXELS), "PNG", pnginfo=info)


def without_checksum(data: bytes, kind: bytes) -> bytes:
    start = data.index(kind) - 4
    end = start + 12 + struct.unpack_from(">I", data, start)[0]
    return data[: end - 4] + b"\0\1\2\3" + data[end:]


# damage


def test_a_png_whose_pixels_have_a_wrong_checksum_is_enlarged_with_a_note_and_not_ingested() -> None:
    data = without_checksum(png(), b"IDAT")
    picture = read_picture(data)
    np.testing.assert_array_equal(picture.pixels, PIXELS)
    assert picture.remarks == ["damaged picture (wrong checksum of IDAT)"]
    with pytest.raises(ImageError, match=r"^damaged picture \(wrong checksum of IDAT\)"):
        read_rgb(data, 1 << 20)


@pytest.mark.parametrize("kind", [b"tEXt", b"eXIf", b"iCCP", b"pHYs"])
def test_a_png_that_is_damaged_beside_its_pixels_is_read_by_all_and_keeps_the_rest(kind: bytes) -> None:
    content = {b"iCCP": b"p\0\0" + zlib.compress(SRGB), b"pHYs": struct.pack(">IIB", 2835, 2835, 1)}
    more = chunk(kind, content.get(kind, b"MM\0*\0\0\0\x08" + bytes(20)))
    data = without_checksum(png() if kind == b"tEXt" else with_chunks(png(), more), kind)
    picture = read_picture(data)
    np.testing.assert_array_equal(picture.pixels, PIXELS)
    assert picture.remarks == [f"damaged {kind.decode()} left out"]
    assert picture.metadata.text["Author"] == "an author"
    np.testing.assert_array_equal(decode(data), PIXELS)
    # its bytes are not kept: other decoders refuse them
    rgb, done = read_rgb(data, 1 << 20)
    np.testing.assert_array_equal(rgb, PIXELS)
    assert done == picture.remarks


def test_a_png_with_a_damaged_header_is_damaged_and_not_unknown() -> None:
    with pytest.raises(ImageError, match="damaged picture"):
        read_picture(without_checksum(png(), b"IHDR"))


@pytest.mark.parametrize("missing", [1, 2])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"grey": True}])
def test_a_jpeg_that_lacks_its_end_mark_alone_is_read_by_all(options: dict[str, Any], missing: int) -> None:
    image = Image.fromarray(PIXELS).convert("L" if "grey" in options else "RGB")
    data = saved(image, "JPEG", quality=90, **options)
    cut = data[:-missing]
    picture = read_picture(cut)
    np.testing.assert_array_equal(picture.pixels, read_picture(data).pixels)
    assert picture.remarks == ["its end mark is missing"]
    np.testing.assert_array_equal(decode(cut), decode(data))
    assert read_rgb(cut, 1 << 20)[1][0] == "its end mark is missing"


@pytest.mark.parametrize("missing", [3, 10, 300])
def test_a_jpeg_that_lacks_more_is_truncated(missing: int) -> None:
    data = jpeg(PIXELS)[:-missing]
    for read in (read_picture, decode, lambda data: read_rgb(data, 1 << 20)):
        with pytest.raises(ImageError, match="truncated"):
            read(data)


def test_a_png_without_its_end_mark_is_read_with_a_note() -> None:
    assert read_picture(png()[:-12]).remarks == ["its end mark is missing"]


# what a copy does not hold


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_of_several_frames_the_note_says_that_the_first_was_taken(kind: str) -> None:
    frames = [Image.fromarray(static(seed, 16)) for seed in range(41)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert "frame 1 of 41" in read_picture(data).remarks
    assert read_picture(saved(frames[0], "PNG")).remarks == []


def test_sixteen_bits_of_which_a_decoder_gives_eight_are_told() -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (16, 16)).astype(">u2")
    sgi = struct.pack(">HBBHHHHII", 474, 0, 2, 2, 16, 16, 1, 0, 65535).ljust(512, b"\0") + deep.tobytes()
    assert read_picture(sgi).remarks == ["16 bit read as 8"]


def test_a_profile_that_does_not_fit_and_iptc_are_told() -> None:
    grey = SRGB[:16] + b"GRAY" + SRGB[20:]
    data = saved(Image.fromarray(PIXELS), "PNG", icc_profile=grey)
    assert read_picture(data).remarks == ["colour profile left out: it does not fit the pixels"]
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\4abcd"
    whole = jpeg(PIXELS)
    data = whole[:2] + b"\xff\xed" + struct.pack(">H", 2 + len(iptc)) + iptc + whole[2:]
    assert read_picture(data).remarks == ["IPTC left out"]


def test_what_a_format_has_no_room_for_is_told() -> None:
    exif = Image.Exif()
    exif[0x010E] = "d" * 70_000
    large = SRGB + np.random.default_rng(0).bytes(1 << 20)
    colour = ((b"gAMA", b"\0\0\xb1\x8f"),)
    text = {"Long": "x" * 70_000}
    metadata = Metadata(exif=exif.tobytes()[6:], xmp=b"x" * 70_000, text=text, icc=large, colour=colour)
    lost = {kind: write_picture(io.BytesIO(), PIXELS, metadata, kind, 90, {}) for kind in ("png", "jpeg", "webp")}
    assert lost["png"] == ["colour profile left out: too large or of other channels"]
    assert lost["jpeg"] == [
        "EXIF left out: too large",
        "gAMA left out: JPEG holds none",
        "XMP left out: too large for JPEG",
        "text 'Long' left out: too large for JPEG",
    ]
    assert lost["webp"] == ["gAMA left out: WebP holds none", "text left out: WebP holds none"]


COLOUR = {
    b"gAMA": struct.pack(">I", 100_000),
    b"cHRM": struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000),
    b"sRGB": b"\0",
    b"cICP": bytes((9, 16, 0, 1)),
}


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", COLOUR)
def test_what_a_png_says_of_its_colours_stays_with_its_values(kind: bytes, depth: Any) -> None:
    plain = encode_picture(PIXELS.astype(depth), Metadata(), "png", 90, {})
    picture = read_picture(with_chunks(plain, chunk(kind, COLOUR[kind])))
    result = encode_picture(picture.pixels, picture.metadata, "png", 90, {})
    place = result.index(chunk(kind, COLOUR[kind]))
    assert place < result.index(b"IDAT")
    # and not for ever longer
    again = read_picture(result)
    assert again.metadata.colour == picture.metadata.colour == ((kind, COLOUR[kind]),)


def test_the_manifest_of_a_run_tells_it_all(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (47.0, 30.0, 0.0)}
    frames = [Image.fromarray(static(seed, 16)) for seed in range(3)]
    files = {
        "checksum.png": without_checksum(png(), b"IDAT"),
        "text.png": without_checksum(png(), b"tEXt"),
        "end.jpg": jpeg(PIXELS)[:-2],
        "frames.gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "gps.jpg": jpeg(PIXELS, exif=exif),
        "page.jpg": b"<!DOCTYPE html><html></html>",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    model = make_models(tmp_path)
    upscale(folder, tmp_path / "out", "--model", model, "--workers", 1, "--strip-location", code=1)
    rows = manifest(tmp_path / "out")
    assert {name: (row["status"], row["note"] or row["error"]) for name, row in rows.items()} == {
        "checksum.png": ("ok", "damaged picture (wrong checksum of IDAT)"),
        "text.png": ("ok", "damaged tEXt left out"),
        "end.jpg": ("ok", "its end mark is missing"),
        "frames.gif": ("ok", "frame 1 of 3"),
        "gps.jpg": ("ok", ""),
        "page.jpg": ("failed", "an HTML page (what was fetched was no picture)"),
    }
    assert not Image.open(tmp_path / "out/gps.png").getexif().get_ifd(0x8825)
    # it decides the results: another choice is another run
    upscale(folder, tmp_path / "out", "--model", model, "--workers", 1, code=2)
    upscale(folder / "gps.jpg", tmp_path / "kept.png", "--model", model, "--workers", 1)
    assert Image.open(tmp_path / "kept.png").getexif().get_ifd(0x8825)[1] == "N"
