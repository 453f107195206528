"""Files are opened by one list of formats; any other is called what it is, whoever reads it and whatever its name."""

import struct
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image
from support.pictures import saved, static

from pipeline.codecs.reader import read_picture
from pipeline.core.formats import READ
from pipeline.core.images import ImageError, decode
from pipeline.ingest.preprocess import read_rgb
from pipeline.inspect.survey import look_at

READERS: dict[str, Callable[[bytes], object]] = {
    "decode": decode,
    "upscale": read_picture,
    "ingest": lambda data: read_rgb(data, 1 << 26),
}


def tiff(*tags: tuple[int, int, int], text: str = "", magic: bytes = b"") -> bytes:
    """A TIFF of 4x4 grey, with more tags (tag, type, value), and a maker."""
    make = text.encode() + b"\0"
    pixels = 8 + len(magic)
    entries = [(256, 3, 4), (257, 3, 4), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, pixels), (277, 3, 1)]
    entries = [(tag, kind, value) for tag, kind, value in entries if tag not in {more[0] for more in tags}]
    entries += [(278, 3, 4), (279, 4, 16), *tags]
    count = len(entries) + bool(text)
    place = pixels + 16
    after = place + 2 + 12 * count + 4
    packed = [struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries]
    packed += [struct.pack("<HHII", 271, 2, len(make), after)] if text else []
    packed.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
    directory = struct.pack("<H", count) + b"".join(packed) + bytes(4)
    return b"II*\0" + struct.pack("<I", place) + magic + bytes(range(16)) + directory + make


OTHERS = {
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS/PostScript"),
    "EPS with a preview": (b"\xc5\xd0\xd3\xc6" + bytes(40), "EPS/PostScript"),
    "PDF": (b"%PDF-1.7\n", "a PDF"),
    "zip": (b"PK\3\4" + bytes(40), "a zip"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(20), "HEIC"),
    "HEIC of another brand": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(20), "HEIC"),
    "JPEG XL": (b"\xff\x0a" + bytes(20), "JPEG XL"),
    "JPEG XL in a box": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "JPEG XL"),
    "HTML": (b"\n <!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
    "SVG": (b'<?xml version="1.0"?><!-- x --><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "MP4": (b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(20), "a video"),
    "DNG": (tiff((50706, 1, 1)), r"camera raw \(DNG\): develop it first"),
    "NEF": (tiff((254, 4, 1), (330, 4, 8), text="NIKON CORPORATION"), r"camera raw \(NEF\): develop it first"),
    "ARW": (tiff((254, 4, 1), (330, 4, 8), text="SONY"), r"camera raw \(ARW\): develop it first"),
    "PEF": (tiff((259, 3, 65535), text="PENTAX"), r"camera raw \(PEF\): develop it first"),
    "CR2": (tiff(magic=b"CR\2\0\0\0\0\0"), r"camera raw \(CR2\): develop it first"),
    "CR3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(20), r"camera raw \(CR3\): develop it first"),
    "RAF": (b"FUJIFILMCCD-RAW 0201" + bytes(99), r"camera raw \(RAF\): develop it first"),
    "signed samples": (tiff((339, 3, 2)), "signed samples of 8 bits"),
    "OpenEXR": (b"v/1\1" + bytes(20), "OpenEXR"),
    "PSB": (b"8BPS\0\2" + bytes(20), "PSB"),
    "a TIFF of five channels": (tiff((277, 3, 5)), "TIFF of a kind that is not read"),
    "words": (b"a letter", "not a picture of a known format"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_picture_that_is_read_is_called_what_it_is(kind: str, reader: str) -> None:
    data, reason = OTHERS[kind]
    with pytest.raises(ImageError, match=f"^{reason}"):
        READERS[reader](data)
    assert "not a picture" in reason or "not a picture" not in (look_at("x.jpg", lambda: data).problem or "")


def test_nothing_that_begins_as_postscript_reaches_ghostscript(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("PostScript was run"))
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "gs")
    for data in (OTHERS["EPS"][0], b"\xef\xbb\xbf" + OTHERS["EPS"][0], b"\0" * 512 + OTHERS["EPS"][0]):
        for reader in READERS.values():
            with pytest.raises(ImageError):
                reader(data)
    assert "EPS" not in READ


def test_pictures_of_cameras_and_scanners_in_tiff_are_no_raw() -> None:
    for data in (tiff(), tiff(text="NIKON CORPORATION"), tiff((254, 4, 0), (330, 4, 8), text="Canon")):
        assert read_picture(data).pixels[..., 0].tolist() == np.arange(16).reshape(4, 4).tolist()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "TGA", "PCX", "QOI", "ICO"])
def test_formats_of_pixels_are_read_by_all(kind: str) -> None:
    data = saved(Image.fromarray(static(1, 32)), kind)
    for reader in READERS.values():
        reader(data)


DARK = (np.arange(32 * 32) % 256).astype(np.uint16).reshape(32, 32)


@pytest.mark.parametrize("kind", ["PNG", "PPM", "TIFF", "JPEG2000"])
def test_sixteen_bit_grey_stays_as_dark_as_the_file_says(kind: str) -> None:
    data = saved(Image.fromarray(DARK), kind, **({"irreversible": False} if kind == "JPEG2000" else {}))
    pixels = read_picture(data).pixels
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels[..., 0], DARK)
    assert decode(data).max() == 1
    rgb, done = read_rgb(data, 1 << 20)
    assert rgb.max() == 1
    assert "16 bit" in done


def test_twelve_bits_of_a_scanner_are_spread_over_the_whole_range() -> None:
    # two samples of 12 bits in three bytes
    strip = b"\xff\xf0\x00" * 8
    data = bytearray(tiff((258, 3, 12), (279, 4, 24), (273, 4, 0)))
    place = len(data)
    data += strip
    start = data.index(struct.pack("<HHI", 273, 4, 1))
    data[start + 8 : start + 12] = struct.pack("<I", place)
    assert sorted(set(read_picture(bytes(data)).pixels.ravel().tolist())) == [0, 65535]
    assert decode(bytes(data)).max() == 255


def test_integers_of_32_bits_are_taken_where_they_fit_and_never_cut() -> None:
    fit = np.array([[0, 255], [256, 65535]], np.int32)
    assert read_picture(saved(Image.fromarray(fit), "TIFF")).pixels[..., 0].tolist() == fit.tolist()
    for wrong in (fit * 2, -fit):
        for reader in READERS.values():
            with pytest.raises(ImageError, match="do not fit in 16"):
                reader(saved(Image.fromarray(wrong), "TIFF"))


def test_decoders_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    import cv2

    def damaged(data: bytes) -> bytes:
        return data[:300] + bytes(100) + data[400:]

    deep = np.random.default_rng(0).integers(0, 65536, (64, 64, 4)).astype(np.uint16)
    files = [
        saved(Image.fromarray(static(1)), "TIFF", compression=c) for c in ("tiff_adobe_deflate", "jpeg", "packbits")
    ]
    files += [cv2.imencode(kind, deep)[1].tobytes() for kind in (".tiff", ".png")]
    for data in files:
        for reader in READERS.values():
            for variant in (data, damaged(data), data[:-200]):
                with suppress(ImageError):
                    reader(variant)
    assert capfd.readouterr() == ("", "")


def test_a_tiff_whose_tags_claim_the_same_megabytes_is_refused_before_they_are_read() -> None:
    count, size = 20_000, 2_000_000
    entries = b"".join(struct.pack(">HHII", 1000 + n, 7, size, 8) for n in range(count))
    with pytest.raises(ImageError, match="claim the same bytes"):
        decode(b"MM\0*" + struct.pack(">IH", 8, count) + entries + bytes(size))
