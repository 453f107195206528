"""What becomes of one file: kept untouched, converted by stated rules, or refused for a stated reason."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from support.pictures import face, jpeg, saved

from pipeline.core.images import ImageError, decode, encode_png
from pipeline.ingest.preprocess import Face, accept, read_rgb
from pipeline.params.ingest import Ingest

RULES = {
    "sources": [{"kind": "archive", "path": "x", "splits": {"train": "rest"}}],
    "seed": 1,
    "max_pixels": 1 << 20,
    "not_square": "reject",
    "larger": "reduce",
    "min_size": 64,
    "size": 256,
}
PICTURE = face(1, 128)


def one(data: bytes, **changes: Any) -> Face:
    (found,) = accept(data, Ingest.model_validate(RULES | changes))
    return found


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def profile(name: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def wide_gamut() -> bytes:
    """sRGB's own profile with red and green primaries exchanged: what is red in the file is to be shown as green."""
    data = bytearray(profile("sRGB"))
    count = struct.unpack_from(">I", data, 128)[0]
    tags = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = tags[b"rXYZ"] + 4, tags[b"gXYZ"] + 4
    data[red : red + 8], data[green : green + 8] = data[green : green + 8], data[red : red + 8]
    return bytes(data)


# kept


@pytest.mark.parametrize(
    "data",
    [
        encode_png(PICTURE),
        jpeg(PICTURE),
        jpeg(PICTURE, progressive=True),
        saved(Image.fromarray(PICTURE), "WEBP", lossless=True),
        saved(Image.fromarray(PICTURE), "BMP"),
        saved(Image.fromarray(PICTURE), "PNG", icc_profile=profile("sRGB")),
        saved(Image.fromarray(PICTURE), "JPEG", icc_profile=profile("sRGB")),
    ],
    ids=["png", "jpeg", "progressive", "webp", "bmp", "png with sRGB profile", "jpeg with sRGB profile"],
)
def test_a_picture_that_every_decoder_sees_alike_keeps_its_bytes(data: bytes) -> None:
    kept = one(data)
    assert (kept.data, kept.conversion, kept.transform) == (data, "", None)
    assert (kept.pixels == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()
    assert (decode(kept.data) == kept.pixels).all()


def test_the_strict_decoder_sees_the_same_pixels_as_the_lenient_one() -> None:
    for options in ({"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True}):
        data = jpeg(face(3, 130), 85, **options)
        assert (read_rgb(data, 1 << 20)[0] == np.asarray(Image.open(io.BytesIO(data)))).all()


# converted


def test_a_colour_profile_is_converted_to_srgb_and_left_out() -> None:
    for data in (
        saved(Image.fromarray(PICTURE), "PNG", icc_profile=wide_gamut()),
        saved(Image.fromarray(PICTURE), "JPEG", quality=95, icc_profile=wide_gamut()),
    ):
        converted = one(data)
        assert converted.conversion == "colour profile"
        assert "icc_profile" not in Image.open(io.BytesIO(converted.data)).info
        source, target = (
            ImageCms.ImageCmsProfile(io.BytesIO(wide_gamut())),
            ImageCms.createProfile("sRGB"),
        )
        expected = ImageCms.profileToProfile(Image.open(io.BytesIO(data)), source, target)
        assert (converted.pixels == np.asarray(expected)).all()
        assert np.abs(converted.pixels.astype(int) - PICTURE).mean() > 10


def test_a_profile_that_cannot_be_read_says_nothing_about_the_picture() -> None:
    broken = bytearray(profile("sRGB"))
    broken[200:300] = b"\xff" * 100
    kept = one(saved(Image.fromarray(PICTURE), "PNG", icc_profile=bytes(broken)))
    assert (kept.pixels == PICTURE).all()


def test_sixteen_bit_colour_is_rounded_not_cut() -> None:
    deep = PICTURE.astype(np.uint16) * 257
    deep[:64] = np.minimum(deep[:64].astype(int) + 140, 65535)  # more than half a step above
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    header = struct.pack(">IIBBBBB", 128, 128, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    converted = one(data)
    assert converted.conversion == "16 bit"
    assert (converted.pixels == np.rint(deep / 257).astype(np.uint8)).all()
    assert (converted.pixels[:64] != PICTURE[:64]).mean() > 0.9


def test_everything_that_was_done_is_said() -> None:
    turned = Image.Exif()
    turned[274] = 3
    alpha = np.dstack([face(4, 128)[:100], np.full((100, 128), 128, np.uint8)])
    converted = one(saved(Image.fromarray(alpha), "PNG", exif=turned), not_square="crop", size=64)
    assert converted.conversion == "EXIF orientation applied, alpha on white, centre crop, reduced"
    assert converted.pixels.shape == (64, 64, 3)
    grey = one(saved(Image.fromarray(PICTURE[..., 0]), "JPEG"))
    assert grey.conversion == "greyscale"
    palette = one(saved(Image.fromarray(PICTURE).quantize(16), "PNG"))
    assert palette.conversion == "palette"
    assert one(saved(Image.fromarray(PICTURE).convert("CMYK"), "JPEG")).conversion == "CMYK"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_of_a_jpeg_is_applied(orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[274] = orientation
    data = jpeg(PICTURE, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert (one(data).pixels == np.asarray(expected)).all()
    assert bool(one(data).conversion) == (orientation != 1)


# refused


def test_a_jpeg_whose_middle_is_garbled_is_refused_where_pillow_hands_on_a_wrong_picture() -> None:
    data = bytearray(jpeg(face(2, 256)))
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(range(64))
    wrong = np.asarray(Image.open(io.BytesIO(bytes(data))))
    assert np.abs(wrong.astype(int) - face(2, 256)).mean() > 5
    with pytest.raises(ImageError, match=r"^damaged picture \(Corrupt JPEG data"):
        one(bytes(data))


def test_a_jpeg_that_breaks_off_is_truncated() -> None:
    data = jpeg(face(2, 256))
    for length in (len(data) // 3, len(data) - 100):
        with pytest.raises(ImageError, match=r"^(truncated|damaged) picture \("):
            one(data[:length])


def test_a_picture_larger_than_allowed_is_refused_before_it_is_decoded() -> None:
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 4000, 8, 2, 0, 0, 0))
    with pytest.raises(ImageError, match=r"^more pixels than allowed \(40000x4000, at most 1048576\)"):
        one(bomb + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def test_sizes_that_are_not_wanted_are_refused_in_words() -> None:
    with pytest.raises(ImageError, match=r"^too large \(128x128\); larger: reduce would make it 64"):
        one(encode_png(PICTURE), size=64, larger="reject")
    with pytest.raises(ImageError, match=r"^too small \(128x128, at least 200 are needed\)"):
        one(encode_png(PICTURE), min_size=200)
    with pytest.raises(ImageError, match=r"^not square \(128x90\)"):
        one(encode_png(PICTURE[:90]))
