"""PNGs whose pixels are whole, but whose texts or profiles are too large: made so that a decoder takes them."""

import zlib

from pipeline.core.png import SIGNATURE, bare_png, chunks

_LARGEST_TEXT = 1 << 20
"""Bytes that a text or profile of a PNG may unpack to: Pillow refuses the picture for more."""


def without_bombs(data: bytes) -> tuple[bytes, str]:
    """A PNG without texts and profiles that unpack to more than is allowed, and what was left out."""
    assert data.startswith(SIGNATURE)  # noqa: S101
    parts, start, lost = [], 0, set()
    for chunk in chunks(data):
        if chunk.kind in (b"zTXt", b"iTXt", b"iCCP") and _unpacks_beyond(
            data[chunk.start + 8 : chunk.end - 4], chunk.kind
        ):
            parts.append(data[start : chunk.start])
            start = chunk.end
            lost.add("colour profile" if chunk.kind == b"iCCP" else "text")
    if not lost:
        return bare_png(data), "all but the pixels left out: it cannot be read"
    return b"".join([*parts, data[start:]]), f"{' and '.join(sorted(lost))} left out: too large"


def _unpacks_beyond(content: bytes, kind: bytes) -> bool:
    _, _, rest = content.partition(b"\0")
    if kind == b"iTXt":
        if rest[:1] != b"\1":
            return False
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    else:
        rest = rest[1:]
    try:
        return len(zlib.decompressobj().decompress(rest, _LARGEST_TEXT + 1)) > _LARGEST_TEXT
    except zlib.error:
        return False
