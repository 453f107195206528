"""Metadata of a picture file: EXIF, profile, resolution, text and XMP, read and made fit to copy.

A copy must not speak of pixels that are no more: orientation (it is applied), thumbnails and old dimensions go.
"""

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, PngImagePlugin

KEYWORD = "facesr"
"""Keyword under which the text of a PNG says what made it."""

_PROVENANCE_TAG = 0x000B  # ProcessingSoftware
_ORIENTATION, _MAKER_NOTE = 0x0112, 0x927C
_RESOLUTION_X, _RESOLUTION_Y, _RESOLUTION_UNIT, _INCH = 0x011A, 0x011B, 0x0128, 2
_EXIF, _GPS, _INTEROP = 0x8769, 0x8825, 0xA005
_WIDTH, _HEIGHT = (0x0100, 0xA002), (0x0101, 0xA003)
# of IFD0: how the pixels of this one file lie, where its thumbnails are, and what other containers hold elsewhere
_LAYOUT = {_ORIENTATION, 0x00FE, 0x00FF, 0x0102, 0x0103, 0x0106, 0x0111, 0x0115, 0x0116, 0x0117, 0x011C, 0x0142, 0x0143}
_LAYOUT |= {0x0144, 0x0145, 0x014A, 0x0152, 0x0153, 0x0201, 0x0202, 0x02BC, 0x8649, 0x8773}
# most tags of a TIFF describe its layout: only these describe the picture
_DESCRIPTIVE = {270, 271, 272, 305, 306, 315, 33432, _EXIF, _GPS}

_STALE = rb"(?:tiff:(?:Orientation|ImageWidth|ImageLength)|exif:Pixel[XY]Dimension)"
_STALE_XMP = re.compile(
    rb"\s+" + _STALE + rb"""\s*=\s*(?:"[^"<]*"|'[^'<]*')"""
    rb"|<(" + _STALE + rb")\s*>[^<]*</\1\s*>"
    rb"|<(x[ma]p:Thumbnails)\s*>.*?</\2\s*>",
    re.DOTALL,
)


@dataclass(frozen=True)
class Metadata:
    """What a file says beside its pixels.

    Attributes:
        exif: TIFF-structured block that starts with `II*` or `MM`, without orientation and thumbnail.
        icc: colour profile that fits the channels.
        dpi: pixels per inch across and down.
        text: PNG text by keyword; the comment of a JPEG or GIF under `Comment`.
        xmp: XMP packet, without orientation and thumbnails.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: dict[str, str] = field(default_factory=dict)
    xmp: bytes | None = None


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation of a loaded picture, 1-8; EXIF that cannot be read says nothing about a picture that can."""
    try:
        return as_orientation(image.getexif().get(_ORIENTATION))
    except Exception:  # Pillow raises SyntaxError, struct.error, KeyError …
        return 1


def as_orientation(value: object) -> int:
    """`value` if it is one of the eight orientations, else 1: upright."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def read_metadata(image: Image.Image, channels: int, turned: bool) -> Metadata:
    """Read the metadata of a loaded picture.

    Args:
        image: loaded, so that what the file says behind its pixels is known too.
        channels: of the pixels that the metadata will go with, 1-4.
        turned: True if applying the orientation exchanged rows and columns.
    """
    icc = image.info.get("icc_profile")
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return Metadata(
        exif=_exif_of(image),
        icc=fitting_profile(icc, channels),
        dpi=_dpi_of(image, turned),
        text=_text_of(image),
        xmp=_STALE_XMP.sub(b"", xmp) if isinstance(xmp, bytes) and xmp else None,
    )


def fitting_profile(icc: Any, channels: int) -> bytes | None:
    """The profile if it describes colour for 3 or 4 channels, grey for 1 or 2; None otherwise."""
    if not isinstance(icc, bytes) or icc[36:40] != b"acsp":
        return None
    return icc if icc[16:20] == (b"GRAY" if channels < 3 else b"RGB ") else None


def exif_block(
    metadata: Metadata,
    width: int,
    height: int,
    provenance: Mapping[str, str] | None = None,
    dpi: bool = False,
    limit: int | None = None,
) -> bytes | None:
    """The EXIF block for a result of `width` x `height` pixels; None if there is nothing to say.

    Args:
        metadata: its `exif` is the base; tags that tell the pixels' size tell the new one.
        width: of the result in pixels.
        height: of the result in pixels.
        provenance: written as one JSON string to ProcessingSoftware, for containers that have no text of their own.
        dpi: True if EXIF must tell the resolution, as in containers that have no other place for it.
        limit: most bytes that the container takes. Beyond it the maker's note goes first, then all but the provenance.
    """
    tags = _parse(metadata.exif)
    for tag, value in [*((tag, width) for tag in _WIDTH), *((tag, height) for tag in _HEIGHT)]:
        for directory in (tags, tags.get(_EXIF, {})):
            if tag in directory:
                directory[tag] = value
    if dpi and metadata.dpi and _RESOLUTION_X not in tags:
        tags |= {_RESOLUTION_X: metadata.dpi[0], _RESOLUTION_Y: metadata.dpi[1], _RESOLUTION_UNIT: _INCH}
    own = {} if provenance is None else {_PROVENANCE_TAG: provenance_text(provenance)}
    block = _serialise(tags | own)
    if limit is not None and len(block or b"") > limit:
        tags.get(_EXIF, {}).pop(_MAKER_NOTE, None)
        block = _serialise(tags | own)
        if len(block or b"") > limit:
            block = _serialise(own)
    return block


def provenance_text(provenance: Mapping[str, str]) -> str:
    """One line of ASCII JSON with sorted keys: the same provenance gives the same text."""
    return json.dumps(dict(provenance), sort_keys=True)


def _exif_of(image: Image.Image) -> bytes | None:
    try:
        tags = _directories(image.getexif())
    except Exception:  # as in orientation_of
        return None
    if image.format == "TIFF":
        tags = {tag: value for tag, value in tags.items() if tag in _DESCRIPTIVE}
    # an earlier provenance is not true of the new file either
    return _serialise({tag: value for tag, value in tags.items() if tag not in _LAYOUT | {_PROVENANCE_TAG}})


def _parse(block: bytes | None) -> dict[int, Any]:
    if block is None:
        return {}
    exif = Image.Exif()
    exif.load(block)
    return _directories(exif)


def _directories(exif: Image.Exif) -> dict[int, Any]:
    """Tags of the main directory; those of the Exif, GPS and interoperability directories as dicts below theirs.

    The second main directory, which describes the thumbnail, is not followed.
    """
    tags: dict[int, Any] = {}
    for tag in sorted(exif):
        if tag not in (_EXIF, _GPS):
            tags[tag] = exif[tag]
        elif directory := dict(exif.get_ifd(tag)):
            if _INTEROP in directory:
                directory[_INTEROP] = dict(exif.get_ifd(_INTEROP))
            tags[tag] = directory
    return tags


def _serialise(tags: Mapping[int, Any]) -> bytes | None:
    """Tags as a block; those whose values cannot be written are left out, and nothing at all gives None."""
    if not tags:
        return None
    try:
        return _block(tags)
    except Exception:  # struct.error, TypeError, ValueError …: what Pillow reads it cannot always write
        kept = _writable(tags)
        return _block(kept) if kept else None


def _block(tags: Mapping[int, Any]) -> bytes:
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[tag] = value
    return exif.tobytes().removeprefix(b"Exif\0\0")


def _writable(tags: Mapping[int, Any], directory: int | None = None) -> dict[int, Any]:
    kept = {}
    for tag, value in tags.items():
        if tag in (_EXIF, _GPS) and isinstance(value, dict):
            value = _writable(value, tag)
        with suppress(Exception):  # as above
            _block({tag: value} if directory is None else {directory: {tag: value}})
            kept[tag] = value
    return kept


def _dpi_of(image: Image.Image, turned: bool) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    # 1 is what a TIFF that does not say is taken for
    if not all(math.isfinite(value) and 1 < value < 1e6 for value in (across, down)):
        return None
    return (down, across) if turned else (across, down)


def _text_of(image: Image.Image) -> dict[str, str]:
    if isinstance(image, PngImagePlugin.PngImageFile):
        # raw profiles are EXIF or IPTC in disguise
        return {
            key: str(value)
            for key, value in image.text.items()
            if not key.startswith("Raw profile type") and key not in ("XML:com.adobe.xmp", KEYWORD)
        }
    text = image.info.get("comment", "")
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError:
            text = text.decode("latin-1")
    text = str(text).rstrip("\0")
    return {"Comment": text} if text else {}
