"""Chunks of a PNG: which are sound, a file of those that its pixels need, and the pixels of large pictures, quickly."""

import struct
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    # a quarter of zlib's time on enlarged pictures, and smaller files
    from isal import isal_zlib as deflate
except ImportError:  # upscaling also runs where it is not installed
    deflate = zlib  # type: ignore[misc]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
"""Chunks that decide what is seen."""

_START = 16
"""Bytes of a stream that are compressed on their own: before longer ones ISA-L 2.32 hashes a part of its own address in
memory for the third byte (`.write_first_byte` of igzip_icf_body_h1_gr_bt.asm), so that in one picture of thousands a
match with the first bytes would be lost or found."""


@dataclass(frozen=True)
class Chunk:
    """Where a chunk lies in its file, header and checksum with it; `sound` if its checksum is right."""

    kind: bytes
    start: int
    end: int
    sound: bool


def chunks(data: bytes) -> Iterator[Chunk]:
    """Chunks of a PNG up to its end mark; what is cut off is not among them."""
    view, start = memoryview(data), len(SIGNATURE)
    while start + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + length + 12
        if end > len(data):
            return
        sound = zlib.crc32(view[start + 4 : end - 4]) == struct.unpack_from(">I", data, end - 4)[0]
        yield Chunk(kind, start, end, sound)
        if kind == b"IEND":
            return
        start = end


def chunk_of(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return b"".join(
        (struct.pack(">I4s", len(data), kind), data, struct.pack(">I", deflate.crc32(data, zlib.crc32(kind))))
    )


def header(height: int, width: int, channels: int, depth: int = 8) -> bytes:
    """Signature and first chunk of a PNG of 1 grey, 2 grey and alpha, 3 RGB or 4 RGB and alpha channels."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    return SIGNATURE + chunk_of(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def pixel_chunks(bands: Iterable[NDArray[Any]]) -> Iterator[bytes]:
    """Chunks of a PNG's pixels and its end: differences to the row above, which suit enlarged pictures, deflated fast.

    The same pixels, in the same bands, give the same bytes on one kind of processor, with one version of the library
    that compresses.

    Args:
        bands: rows in order, uint8 or uint16 (n, width, channels).
    """
    compressor = deflate.compressobj(1)
    begun = b""
    above: NDArray[Any] = np.zeros((), np.uint8)
    for band in bands:
        samples = np.ascontiguousarray(band.astype(">u2") if band.itemsize == 2 else band)
        rows = samples.view(np.uint8).reshape(len(band), -1)
        filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
        filtered[:, 0] = 2
        np.subtract(rows[0], above, out=filtered[0, 1:])
        np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
        above = rows[-1].copy()
        text = memoryview(filtered).cast("B")
        if not begun:
            begun = compressor.compress(text[:_START]) + compressor.flush(zlib.Z_SYNC_FLUSH)
            data = begun + compressor.compress(text[_START:])
        else:
            data = compressor.compress(text)
        if data:
            yield chunk_of(b"IDAT", data)
    yield chunk_of(b"IDAT", compressor.flush())
    yield chunk_of(b"IEND", b"")


def large_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode uint8 (height, width, 1 to 4) as PNG, several times faster than `encode_png`.

    Its bytes may depend on the processor: for results of a network, which do as well.

    Raises:
        ValueError: another type or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise ValueError(f"expected uint8 (height, width, 1 to 4), got {pixels.dtype} {pixels.shape}")
    return b"".join((header(*pixels.shape), *pixel_chunks([pixels])))


def large_png_pixels(data: bytes, max_pixels: int) -> NDArray[np.uint8] | None:
    """Decode what `large_png` made of RGB, in half of a general decoder's time.

    Returns:
        uint8 (height, width, 3); None for any other file, a damaged one, and one of more than `max_pixels`.
    """
    found = list(chunks(data)) if data.startswith(SIGNATURE) else []
    kinds = [chunk.kind for chunk in found]
    if kinds != [b"IHDR", *[b"IDAT"] * (len(kinds) - 2), b"IEND"] or not all(chunk.sound for chunk in found):
        return None
    width, height, *form = struct.unpack_from(">IIBBBBB", data, found[0].start + 8)
    if form != [8, 2, 0, 0, 0] or not 0 < width * height <= max_pixels:
        return None
    packed = b"".join(data[chunk.start + 8 : chunk.end - 4] for chunk in found[1:-1])
    inflate, size = deflate.decompressobj(), height * (1 + 3 * width)
    try:
        # most files of others are known by their first row
        if deflate.decompressobj().decompress(packed[:4096], 1) != b"\2":
            return None
        text = inflate.decompress(packed, size + 1)
    except (deflate.error, zlib.error):  # type: ignore[misc]  # as its stubs have it
        return None
    if len(text) != size or not inflate.eof:
        return None
    rows = np.frombuffer(text, np.uint8).reshape(height, -1)
    if (rows[:, 0] != 2).any():
        return None
    pixels = np.empty((height, 3 * width), np.uint8)
    pixels[0] = rows[0, 1:]
    for row in range(1, height):
        np.add(pixels[row - 1], rows[row, 1:], out=pixels[row])
    return pixels.reshape(height, width, 3)


def lacks_rows(data: bytes) -> bool:
    """True of a PNG whose compressed pixels come to a proper end before they are all there.

    Decoders leave what is missing black without a word; of what is cut off or damaged they complain.
    """
    if not data.startswith(SIGNATURE) or data[12:16] != b"IHDR" or len(data) < 33:
        return False
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * _CHANNELS.get(colour, 1)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sides = [(-(-(width - left) // across), -(-(height - top) // down)) for left, top, across, down in passes]
    left = sum(tall * (1 + (wide * bits + 7) // 8) for wide, tall in sides if wide > 0 and tall > 0)
    inflate, view = deflate.decompressobj(), memoryview(data)
    try:
        for chunk in chunks(data):
            # by pieces, as what is not used of one is copied
            for start in range(chunk.start + 8, chunk.end - 4 if chunk.kind == b"IDAT" else 0, 1 << 16):
                packed: Any = view[start : min(start + (1 << 16), chunk.end - 4)]
                while packed and left > 0 and not inflate.eof:
                    left -= len(inflate.decompress(packed, 1 << 20))
                    packed = inflate.unconsumed_tail
    except (deflate.error, zlib.error):  # type: ignore[misc]  # as its stubs have it
        return False
    return inflate.eof and left > 0


_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By a PNG's type of colour."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Left, top and steps across and down of the passes of an interlaced PNG."""


def ancillary(kind: bytes) -> bool:
    """True of a chunk that a decoder may do without."""
    return bool(kind[:1]) and bool(kind[0] & 0x20)


def bare_png(data: bytes, kept: Collection[bytes] = PIXELS) -> bytes:
    """A PNG reduced to chunks of some kinds, without damaged ones that can be done without, and ended properly.

    A last chunk of pixels that is cut off stays, so that a decoder finds that the file is.
    """
    parts, start = [SIGNATURE], len(SIGNATURE)
    for chunk in chunks(data):
        if chunk.kind in kept and (chunk.sound or not ancillary(chunk.kind)):
            parts.append(data[chunk.start : chunk.end])
        start = chunk.end
    if data[start + 4 : start + 8] == b"IDAT":
        parts.append(data[start:])
    return b"".join([*parts, b"\0\0\0\0IEND\xaeB`\x82"])


def repaired_png(data: bytes) -> tuple[bytes, list[str], str | None]:
    """A PNG without its damaged chunks that can be done without.

    Returns:
        The file, itself where nothing had to go; kinds of chunks that went; what is wrong with its pixels although they
        may be decoded, or None.
    """
    found = list(chunks(data))
    lost = [chunk for chunk in found if not chunk.sound and ancillary(chunk.kind)]
    damage = next(
        (
            f"damaged picture (wrong checksum of {chunk.kind.decode('latin-1')})"
            for chunk in found
            if not chunk.sound and chunk.kind in PIXELS and not ancillary(chunk.kind)
        ),
        None,
    )
    if lost:
        parts, start = [], 0
        for chunk in lost:
            parts.append(data[start : chunk.start])
            start = chunk.end
        data = b"".join([*parts, data[start:]])
    names = sorted({chunk.kind.decode("latin-1") for chunk in lost})
    return data, names, damage
