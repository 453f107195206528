"""Chunks of a PNG: which are sound, and a file of those that its pixels need."""

import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
"""Chunks that decide what is seen."""


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
