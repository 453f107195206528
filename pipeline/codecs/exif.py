"""EXIF read, made fit to copy, and written for a result.

A copy must not speak of pixels that are no more: orientation (it is applied), thumbnails and old dimensions go.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from PIL import Image

from pipeline.core.images import has_readable_exif

_PROVENANCE_TAG = 0x000B  # ProcessingSoftware
_ORIENTATION, _MAKER_NOTE = 0x0112, 0x927C
_RESOLUTION_X, _RESOLUTION_Y, _RESOLUTION_UNIT, _INCH = 0x011A, 0x011B, 0x0128, 2
_EXIF, _GPS, _INTEROP, _IPTC = 0x8769, 0x8825, 0xA005, 0x83BB
_WIDTH, _HEIGHT = (0x0100, 0xA002), (0x0101, 0xA003)
# of IFD0: how the pixels of this one file lie, where its thumbnails are, and what other containers hold elsewhere
_LAYOUT = {_ORIENTATION, 0x00FE, 0x00FF, 0x0102, 0x0103, 0x0106, 0x0111, 0x0115, 0x0116, 0x0117, 0x011C, 0x0142, 0x0143}
_LAYOUT |= {0x0144, 0x0145, 0x014A, 0x0152, 0x0153, 0x0201, 0x0202, 0x02BC, 0x8649, 0x8773}
# most tags of a TIFF describe its layout: only these describe the picture
_DESCRIPTIVE = {270, 271, 272, 305, 306, 315, 33432, _EXIF, _GPS}


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation of a loaded picture, 1-8; EXIF that cannot be read says nothing about a picture that can."""
    try:
        return as_orientation(image.getexif().get(_ORIENTATION)) if has_readable_exif(image) else 1
    except Exception:  # Pillow raises SyntaxError, struct.error, KeyError …
        return 1


def as_orientation(value: object) -> int:
    """`value` if it is one of the eight orientations, else 1: upright."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def exif_of(image: Image.Image) -> tuple[bytes | None, str | None]:
    """EXIF of a loaded picture, fit to copy, as a block that begins with `II` or `MM`; and what was left out."""
    try:
        if not has_readable_exif(image):
            return None, "EXIF left out: it claims the same bytes over and over"
        tags = _directories(image.getexif())
    except Exception:  # as in orientation_of
        return None, "EXIF left out: it cannot be read"
    if image.format == "TIFF":
        tags = {tag: value for tag, value in tags.items() if tag in _DESCRIPTIVE}
    # an earlier provenance is not true of the new file either
    kept = {tag: value for tag, value in tags.items() if tag not in _LAYOUT | {_PROVENANCE_TAG}}
    block, lost = _serialise(kept)
    return block, f"{lost} EXIF values left out: they cannot be written" if lost else None


def without_location(block: bytes | None) -> bytes | None:
    """A block without GPS positions, and without IPTC and the maker's note, in which some cameras name places."""
    tags = _parse(block)
    tags.get(_EXIF, {}).pop(_MAKER_NOTE, None)
    return _serialise({tag: value for tag, value in tags.items() if tag not in (_GPS, _IPTC)})[0]


def exif_block(
    block: bytes | None,
    width: int,
    height: int,
    provenance: str | None = None,
    dpi: tuple[float, float] | None = None,
    limit: int | None = None,
) -> tuple[bytes | None, str | None]:
    """The EXIF block for a result of `width` x `height` pixels, None if there is nothing to say; what was left out.

    Args:
        block: what it is made of; tags that tell the pixels' size tell the new one.
        width: of the result in pixels.
        height: of the result in pixels.
        provenance: written to ProcessingSoftware, for containers that have no text of their own.
        dpi: resolution, for containers that have no other place for it.
        limit: most bytes that the container takes. Beyond it the maker's note goes first, then all but the provenance.
    """
    tags = _parse(block)
    for tag, value in [*((tag, width) for tag in _WIDTH), *((tag, height) for tag in _HEIGHT)]:
        for directory in (tags, tags.get(_EXIF, {})):
            if tag in directory:
                directory[tag] = value
    if dpi and _RESOLUTION_X not in tags:
        tags |= {_RESOLUTION_X: dpi[0], _RESOLUTION_Y: dpi[1], _RESOLUTION_UNIT: _INCH}
    own = {} if provenance is None else {_PROVENANCE_TAG: provenance}
    written, lost = _serialise(tags | own)[0], None
    if limit is not None and len(written or b"") > limit:
        tags.get(_EXIF, {}).pop(_MAKER_NOTE, None)
        written, lost = _serialise(tags | own)[0], "maker's note of EXIF left out: too large"
        if len(written or b"") > limit:
            written, lost = _serialise(own)[0], "EXIF left out: too large"
    return written, lost


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


def _serialise(tags: Mapping[int, Any]) -> tuple[bytes | None, int]:
    """Tags as a block, None for none at all; and how many were left out because their values cannot be written."""
    if not tags:
        return None, 0
    try:
        return _block(tags), 0
    except Exception:  # struct.error, TypeError, ValueError …: what Pillow reads it cannot always write
        kept = _writable(tags)
        return (_block(kept) if kept else None), _count(tags) - _count(kept)


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


def _count(tags: Mapping[int, Any]) -> int:
    return sum(_count(value) if isinstance(value, dict) else 1 for value in tags.values())
