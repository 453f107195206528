"""Files that decoders read wrongly without a word: 16 bits with white as 0 or in planes, rows that end too early."""

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from support.pictures import saved

from pipeline.codecs.reader import read_picture
from pipeline.core.images import ImageError, decode
from pipeline.core.png import chunk_of, header, lacks_rows

READERS: list[Callable[[bytes], object]] = [read_picture, decode]


def tiff(planes: np.ndarray, photometric: int, planar: int, compression: int = 1) -> bytes:
    """A little-endian TIFF of 16 bits by hand, of planes (count, height, width)."""
    count, height, width = planes.shape
    strips = [planes[index] for index in range(count)] if planar == 2 else [np.moveaxis(planes, 0, 2)]
    packed = [strip.astype("<u2").tobytes() for strip in strips]
    if compression == 8:
        packed = [zlib.compress(data) for data in packed]
    bits, places = struct.pack(f"<{count}H", *[16] * count), []
    place = 8
    for data in [bits, *packed]:
        places.append(place)
        place += len(data)
    sizes = [len(data) for data in packed]
    lists = struct.pack(f"<{2 * len(packed)}I", *places[1:], *sizes)
    start = place + len(lists)
    several = len(packed) > 1
    entries = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, count, places[0] if count > 2 else 16 * 65537)),
        *((259, 3, 1, compression), (262, 3, 1, photometric)),
        (273, 4, len(packed), place if several else places[1]),
        *((277, 3, 1, count), (278, 4, 1, height)),
        (279, 4, len(packed), place + 4 * len(packed) if several else sizes[0]),
        (284, 3, 1, planar),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", start) + bits + b"".join(packed) + lists + directory


def ramp(count: int) -> np.ndarray:
    """Different in every plane: (count, 20, 30)."""
    rows, columns = np.mgrid[:20, :30]
    return np.stack([1000 * rows + 500 * columns + 9000 * plane for plane in range(count)])


def test_a_tiff_of_16_bits_in_which_0_is_white_is_no_negative() -> None:
    grey = ramp(1)
    white_is_zero = tiff(65535 - grey, 0, 1)
    np.testing.assert_array_equal(read_picture(white_is_zero).pixels[..., 0], grey[0])
    np.testing.assert_array_equal(read_picture(tiff(grey, 1, 1)).pixels[..., 0], grey[0])
    np.testing.assert_array_equal(decode(white_is_zero), decode(tiff(grey, 1, 1)))


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("count", [3, 4])
def test_uncompressed_planes_of_16_bits_are_refused_and_others_read(
    count: int, read: Callable[[bytes], object]
) -> None:
    with pytest.raises(ImageError, match="uncompressed planes of 16 bits"):
        read(tiff(ramp(count), 2, 2))


def test_compressed_planes_and_interleaved_samples_of_16_bits_are_read() -> None:
    colour = ramp(3)
    for data in (tiff(colour, 2, 1), tiff(colour, 2, 2, compression=8)):
        seen = read_picture(data).pixels.astype(int)
        assert np.abs(seen // (257 if seen.max() > 255 else 1) - np.moveaxis(colour, 0, 2) // 257).max() <= 1


@pytest.mark.parametrize("read", READERS)
def test_a_tiff_whose_palette_has_values_of_8_bits_is_not_read_as_black(read: Callable[[bytes], object]) -> None:
    image = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("P")
    image.putpalette([level for index in range(256) for level in (index, 255 - index, 7)])
    data = saved(image, "TIFF")
    assert read(data) is not None
    place = data.index(struct.pack("<4H", 0, 256, 512, 768))
    levels = np.frombuffer(data[place : place + 2 * 768], "<u2")
    narrow = data[:place] + (levels >> 8).astype("<u2").tobytes() + data[place + 2 * 768 :]
    with pytest.raises(ImageError, match="palette of 8 bits"):
        read(narrow)


def rows_of(pixels: np.ndarray) -> bytes:
    """Rows of a PNG, unfiltered."""
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def png(rows: bytes, height: int, width: int, channels: int, depth: int = 8) -> bytes:
    return header(height, width, channels, depth) + chunk_of(b"IDAT", zlib.compress(rows)) + chunk_of(b"IEND", b"")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(("channels", "depth"), [(1, 8), (3, 8), (4, 8), (1, 16), (3, 16)])
def test_a_png_whose_rows_end_before_the_last_one_is_damaged_and_not_black(
    channels: int, depth: int, read: Callable[[bytes], object], capfd: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**depth, (12, 10, channels)).astype(">u2" if depth == 16 else "u1")
    rows = rows_of(pixels)
    assert read(png(rows, 12, 10, channels, depth)) is not None
    for missing in (1, len(rows) // 12, len(rows) // 2):
        with pytest.raises(ImageError):
            read(png(rows[:-missing], 12, 10, channels, depth))
    assert capfd.readouterr().err == "", "decoders print nothing"


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 5), (9, 3), (20, 33)])
def test_an_interlaced_png_is_whole_or_damaged_like_any_other(height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    passes = [pixels[top::down, left::across] for left, top, across, down in ADAM7]
    rows = b"".join(rows_of(part) for part in passes if part.size)
    start = header(height, width, 3)
    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)

    def interlaced(rows: bytes) -> bytes:
        return start[:8] + b"".join(
            chunk_of(kind, data) for kind, data in ((b"IHDR", ihdr), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        )

    np.testing.assert_array_equal(read_picture(interlaced(rows)).pixels, pixels)
    assert [lacks_rows(interlaced(rows)), lacks_rows(interlaced(rows[:-1]))] == [False, True]
    with pytest.raises(ImageError):
        read_picture(interlaced(rows[:-1]))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_whole_png_of_any_kind_is_read(mode: str) -> None:
    for height, width in ((1, 1), (5, 3), (9, 17)):
        grey = np.random.default_rng(0).integers(0, 65536, (height, width)).astype(np.uint16)
        image = Image.fromarray(grey) if mode == "I;16" else Image.fromarray((grey >> 8).astype(np.uint8)).convert(mode)
        assert read_picture(saved(image, "PNG")).pixels.shape[:2] == (height, width)
