"""PNG of large results: the pixels that went in, whichever library compresses them."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from isal import isal_zlib
from PIL import Image
from support.stages import python

from pipeline.core.images import decode, encode_png
from pipeline.core.png import chunk_of, chunks, deflate, header, large_png, large_png_pixels, pixel_chunks

NOISE = np.random.default_rng(0)


def smooth(height: int, width: int, channels: int = 3, depth: int = 8) -> np.ndarray:
    """Waves with a little noise, as enlarged pictures have."""
    rows, columns, channel = np.ogrid[:height, :width, :channels]
    waves = (
        0.5 + 0.4 * np.sin(rows / 9 + channel) * np.cos(columns / 7) + NOISE.normal(0, 0.01, (height, width, channels))
    )
    return (waves.clip(0, 1) * (2**depth - 1)).round().astype(np.uint8 if depth == 8 else np.uint16)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_large_png_holds_every_pixel(channels: int) -> None:
    pixels = smooth(70, 131, channels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(large_png(pixels)))).reshape(pixels.shape), pixels)


def test_the_fast_library_is_used_where_it_is_installed() -> None:
    assert deflate.__name__ == "isal.isal_zlib"


@pytest.mark.parametrize("pixels", [smooth(8, 8, 3, 16), smooth(8, 8).astype(np.float32), smooth(8, 8)[..., 0]])
def test_what_a_large_png_does_not_hold_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        large_png(pixels)


def test_bands_of_any_height_give_the_picture_of_one() -> None:
    for channels, depth in ((1, 16), (3, 16), (4, 8)):
        pixels = smooth(64, 48, channels, depth)
        for height in (1, 7, 64):
            bands = [pixels[start : start + height] for start in range(0, 64, height)]
            data = b"".join((header(64, 48, channels, depth), *pixel_chunks(bands)))
            assert all(chunk.sound for chunk in chunks(data))
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).reshape(pixels.shape)
            assert np.array_equal(decoded, pixels[..., [2, 1, 0, 3][:channels] if channels > 2 else slice(None)])


def test_the_same_pixels_give_the_same_bytes_and_hardly_more_than_by_opencv() -> None:
    pixels = smooth(512, 512)
    assert large_png(pixels) == large_png(pixels.copy())
    assert len(large_png(pixels)) < 1.1 * len(encode_png(pixels))


def crc32c(value: int) -> int:
    """Remainder of 32 bits by the polynomial that processors have an instruction for."""
    value &= 0xFFFFFFFF
    for _ in range(32):
        value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value


def compressor_that_lies_where(hashed: int) -> tuple[Any, list[Any]]:
    """A compressor whose address ISA-L hashes to this place of its table, and those that it was looked for among."""
    others = []
    for _ in range(100_000):
        compressor = isal_zlib.compressobj(1)
        if crc32c(id(compressor) >> 16) % 8192 == hashed:
            return compressor, others
        others.append(compressor)
    raise AssertionError("no compressor lies where it was looked for")


@pytest.mark.parametrize("lost", [1, 2], ids=["a match that is lost", "a match that is found"])
def test_the_same_pixels_give_the_same_bytes_wherever_the_compressor_lies_in_memory(
    lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    first = noise.reshape(-1)
    first[60:64], first[100:104] = first[0:4], first[1:5]
    usual = large_png(noise)
    place = crc32c(int.from_bytes(first[lost - 1 : lost + 3].tobytes(), "little")) % 8192
    compressor, others = compressor_that_lies_where(place)
    del others
    monkeypatch.setattr("pipeline.core.png.deflate.compressobj", lambda level: compressor)
    assert large_png(noise) == usual


def test_where_the_fast_library_is_missing_zlib_writes_the_same_pixels(tmp_path: Path) -> None:
    pixels = smooth(40, 40)
    np.save(tmp_path / "pixels.npy", pixels)
    script = """
import sys
sys.modules["isal"] = None
import numpy as np
from pathlib import Path
from pipeline.core.png import deflate, large_png
assert deflate.__name__ == "zlib"
Path("large.png").write_bytes(large_png(np.load("pixels.npy")))
"""
    done = python(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(decode((tmp_path / "large.png").read_bytes()), pixels)


def test_a_large_png_is_read_back_and_every_other_file_is_left_to_others() -> None:
    pixels = smooth(70, 131)
    data = large_png(pixels)
    read = large_png_pixels(data, 70 * 131)
    assert read is not None
    assert np.array_equal(read, pixels)
    signature, header_end = data[:8], data[:33]
    text = chunk_of(b"tEXt", b"Title\0a face")
    turned = chunk_of(b"eXIf", b"MM\0*\0\0\0\x08\0\0")
    others = {
        "of another encoder": encode_png(pixels),
        "grey": large_png(smooth(70, 131, 1)),
        "with alpha": large_png(smooth(70, 131, 4)),
        "of 16 bits": b"".join((header(70, 131, 3, 16), *pixel_chunks([smooth(70, 131, 3, 16)]))),
        "with words": header_end + text + data[33:],
        "perhaps turned": header_end + turned + data[33:],
        "no PNG": b"P6 1 1 255 abc",
        "empty": b"",
        "nothing but a signature": signature,
    }
    assert {name: large_png_pixels(other, 1 << 20) for name, other in others.items()} == dict.fromkeys(others)


def test_a_damaged_large_png_or_one_of_more_pixels_than_allowed_is_not_read() -> None:
    pixels = smooth(70, 131)
    data = large_png(pixels)
    assert large_png_pixels(data, 70 * 131 - 1) is None
    for place in (20, 60, len(data) // 2, len(data) - 15):
        broken = bytearray(data)
        broken[place] ^= 1
        assert large_png_pixels(bytes(broken), 1 << 20) is None
    assert large_png_pixels(data[:-40], 1 << 20) is None


@pytest.mark.parametrize("rows", [1, 69, 71, 5000])
def test_pixels_that_are_fewer_or_more_than_the_header_says_are_not_read(rows: int) -> None:
    body = deflate.compress((b"\2" + bytes(3 * 131)) * rows)
    data = header(70, 131, 3) + chunk_of(b"IDAT", body) + chunk_of(b"IEND", b"")
    assert large_png_pixels(data, 1 << 30) is None
