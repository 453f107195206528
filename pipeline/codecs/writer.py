"""Write pictures as PNG, JPEG or WebP with what they say beside their pixels, a band of rows at a time.

A result may be a canvas of gigabytes on disk. PNG and JPEG are written from bands of some megabytes, by the same code
for every size, so that memory is bounded and a file does not depend on how it was written.
"""

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from pipeline.codecs.exif import exif_block
from pipeline.codecs.metadata import (
    KEYWORD,
    Lost,
    Metadata,
    Options,
    jpeg_options,
    profile_of,
    provenance_text,
    webp_options,
)
from pipeline.core.images import ImageError, Planes, on_white
from pipeline.core.png import chunk_of, header, pixel_chunks

FORMATS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
"""Format -> suffix of its files."""

_LONGEST = {"png": 2**31 - 1, "jpeg": 65500, "webp": 16383}  # pixels a side; libjpeg stops short of the format's 65,535
_NAMES = {"png": "PNG", "jpeg": "JPEG", "webp": "WebP"}
_BAND = 8 << 20  # bytes of pixels
# Pillow refuses a PNG whose profile is larger
_PNG_PROFILE = 1 << 20


def loss_note(format: str, width: int, height: int, channels: int, depth: int) -> str | None:  # noqa: A002
    """What a format cannot hold of a picture, in words; None if it holds all.

    Args:
        format: "png", "jpeg" or "webp".
        width: pixels.
        height: pixels.
        channels: 1-4.
        depth: bits of a sample, 8 or 16.

    Raises:
        ImageError: the format is unknown or ends below this size.
    """
    if format not in FORMATS:
        raise ImageError(f"{format} is not a format that can be written: use {', '.join(FORMATS)}")
    name, longest = _NAMES[format], _LONGEST[format]
    if max(width, height) > longest:
        advice = "" if format == "png" else ": use --format png"
        raise ImageError(f"{width}x{height} is too large for {name}, which ends at {longest} pixels a side{advice}")
    notes = []
    if format != "png" and depth > 8:
        notes.append(f"16 bit reduced to 8: {name} holds no more")
    if format == "jpeg" and channels in (2, 4):
        notes.append("alpha laid on white: JPEG holds none")
    if format == "webp" and channels < 3:
        notes.append("grey written as RGB: WebP has no grey")
    return "; ".join(notes) or None


def encode_picture(
    pixels: Planes,
    metadata: Metadata,
    format: str,  # noqa: A002
    quality: int,
    provenance: Mapping[str, str],
) -> bytes:
    """Encode a picture with its metadata and provenance; on like machines the same arguments give the same bytes.

    Args:
        pixels: uint8 or uint16 (height, width, 1-4).
        metadata: go where the format has a place for them; a profile only if it fits the channels.
        format: "png", "jpeg" (4:4:4, alpha laid on white, 8 bit) or "webp" (lossy, 8 bit).
        quality: 1-100, of JPEG and WebP.
        provenance: what made it: text of a PNG under `facesr`, JSON in EXIF's ProcessingSoftware of the others.

    Raises:
        ImageError: the format cannot hold the size, or the encoder refused.
    """
    handle = io.BytesIO()
    write_picture(handle, pixels, metadata, format, quality, provenance)
    return handle.getvalue()


def write_picture(
    file: Path | IO[bytes],
    pixels: Planes,
    metadata: Metadata,
    format: str,  # noqa: A002
    quality: int,
    provenance: Mapping[str, str],
) -> list[str]:
    """Write what `encode_picture` returns to a file, without holding it, and without a copy of the pixels.

    `pixels` may be a np.memmap of gigabytes: PNG and JPEG take some 50 MB beside it. WebP, which ends at 16,383 pixels
    a side, takes several times the picture.

    Returns:
        What of the metadata the format has no room for, in words.

    Raises:
        ImageError: as `encode_picture`.
        OSError: the disk.
    """
    height, width, channels = pixels.shape
    with file.open("wb") if isinstance(file, Path) else nullcontext(file) as handle:
        loss_note(format, width, height, channels, 8 * pixels.itemsize)
        write = {"png": _write_png, "jpeg": _write_jpeg, "webp": _write_webp}[format]
        return list(filter(None, write(handle, pixels, metadata, quality, provenance)))


def _bands(pixels: Planes, multiple: int = 1, most: int = 1 << 31) -> Iterator[Planes]:
    """Cut rows into bands of about `_BAND` bytes, of `most` rows at most, a `multiple` of rows each but the last."""
    rows = max(min(_BAND // pixels[:1].nbytes, most) // multiple, 1) * multiple
    for start in range(0, len(pixels), rows):
        yield pixels[start : start + rows]


# PNG


def _write_png(
    handle: IO[bytes], pixels: Planes, metadata: Metadata, quality: int, provenance: Mapping[str, str]
) -> Lost:
    height, width, channels = pixels.shape
    handle.write(header(height, width, channels, 8 * pixels.itemsize))
    for kind, content in metadata.colour:
        handle.write(chunk_of(kind, content))
    icc, lost = profile_of(metadata, channels, _PNG_PROFILE)
    if icc:
        handle.write(chunk_of(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)))
    if metadata.dpi:
        handle.write(chunk_of(b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in metadata.dpi), 1)))
    exif, _ = exif_block(metadata.exif, width, height)
    if exif:
        handle.write(chunk_of(b"eXIf", exif))
    text = {"Software": provenance["software"]} if "software" in provenance else {}
    for key, value in {**text, **metadata.text, KEYWORD: provenance_text(provenance)}.items():
        _text_chunk(handle, key, value.replace("\0", ""))
    if metadata.xmp:
        handle.write(chunk_of(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp))
    for part in pixel_chunks(_bands(pixels)):
        handle.write(part)
    return lost


def _text_chunk(handle: IO[bytes], key: str, value: str) -> None:
    keyword = key.encode("latin-1", "replace")[:79]
    try:
        handle.write(chunk_of(b"tEXt", keyword + b"\0" + value.encode("latin-1")))
    except UnicodeEncodeError:
        handle.write(chunk_of(b"iTXt", keyword + b"\0\0\0\0\0" + value.encode("utf-8", "replace")))


# JPEG


def _write_jpeg(
    handle: IO[bytes], pixels: Planes, metadata: Metadata, quality: int, provenance: Mapping[str, str]
) -> Lost:
    """Write bands as restart intervals of one scan.

    No library takes a JPEG's rows one by one, but a decoder starts afresh at each restart marker. So the pixels of a
    file of one band, which begin afresh too, can stand behind a marker of the whole file.
    """
    height, width, channels = pixels.shape
    across = -(-width // 8)
    # blocks in an interval are counted with 16 bits
    bands = list(_bands(pixels, multiple=8, most=65535 // across * 8))
    options: Options = {"quality": quality, "subsampling": 0}
    if len(bands) > 1:
        options["restart_marker_blocks"] = across * len(bands[0]) // 8
    described, lost = jpeg_options(metadata, width, height, channels, provenance)
    first = options | described
    for index, band in enumerate(bands):
        encoded = _encode(band, "JPEG", options if index else first)
        frame, scan = _jpeg_offsets(encoded)
        if index == 0:
            handle.write(encoded[: frame + 5] + struct.pack(">H", height) + encoded[frame + 7 : scan])
        else:
            handle.write(bytes((0xFF, 0xD0 + (index - 1) % 8)))
        handle.write(encoded[scan:-2])
    handle.write(b"\xff\xd9")
    return lost


def _jpeg_offsets(data: bytes) -> tuple[int, int]:
    """Where the frame header of a JPEG begins, and where its pixels do."""
    start, frame = 2, 0
    while True:
        marker, length = struct.unpack_from(">HH", data, start)
        if marker in (0xFFC0, 0xFFC1):
            frame = start
        start += 2 + length
        if marker == 0xFFDA:
            return frame, start


# WebP


def _write_webp(
    handle: IO[bytes], pixels: Planes, metadata: Metadata, quality: int, provenance: Mapping[str, str]
) -> Lost:
    height, width = pixels.shape[:2]
    described, lost = webp_options(metadata, width, height, provenance)
    handle.write(_encode(pixels, "WEBP", {"quality": quality} | described))
    return lost


def _encode(pixels: Planes, kind: str, options: Options) -> bytes:
    """Encode by Pillow, reduced to what JPEG or WebP holds."""
    if kind == "JPEG" and pixels.shape[2] in (2, 4):
        pixels = on_white(pixels)
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if kind == "WEBP" and pixels.shape[2] < 3:
        pixels = pixels[..., [0, 0, 0, 1][: pixels.shape[2] + 2]]
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **options)
    except (OSError, ValueError) as error:
        raise ImageError(f"the {kind} encoder refused {image.width}x{image.height} pixels ({error})") from error
    return buffer.getvalue()
