"""Where JPEG and WebP hold what a picture says beside its pixels, as Pillow's options; and what has no place there."""

from collections.abc import Mapping
from typing import Any

from pipeline.codecs.exif import exif_block
from pipeline.codecs.metadata import Metadata, fitting_profile, provenance_text

_SEGMENT = 65533  # bytes in a marker segment of a JPEG
_XMP_SEGMENT = _SEGMENT - len(b"http://ns.adobe.com/xap/1.0/\0")
_PROFILE_SEGMENTS = 255 * (_SEGMENT - 14)

Options = dict[str, Any]
"""Keyword arguments of Pillow's `save`."""
Lost = list[str | None]
"""What a format has no room for, in words."""


def jpeg_options(
    metadata: Metadata, width: int, height: int, channels: int, provenance: Mapping[str, str]
) -> tuple[Options, Lost]:
    """Pillow's options for what a JPEG says, and what its segments cannot hold."""
    options: Options = {}
    exif, lost_exif = exif_block(metadata.exif, width, height, provenance_text(provenance), limit=_SEGMENT - 6)
    if exif:
        options["exif"] = b"Exif\0\0" + exif
    icc, lost = profile_of(metadata, channels, _PROFILE_SEGMENTS)
    lost += [lost_exif, _colour_lost(metadata, "JPEG")]
    if icc:
        options["icc_profile"] = icc
    if metadata.xmp and len(metadata.xmp) <= _XMP_SEGMENT:
        options["xmp"] = metadata.xmp
    elif metadata.xmp:
        lost.append("XMP left out: too large for JPEG")
    if metadata.dpi and all(1 <= value < 65535 for value in metadata.dpi):
        options["dpi"] = metadata.dpi
    comment = b""
    for key, value in metadata.text.items():
        line = (value if key == "Comment" else f"{key}: {value}").encode("utf-8", "replace")
        if len(comment) + 1 + len(line) <= _SEGMENT:
            comment += b"\n" * bool(comment) + line
        else:
            lost.append(f"text {key[:40]!r} left out: too large for JPEG")
    if comment:
        options["comment"] = comment
    return options, lost


def webp_options(metadata: Metadata, width: int, height: int, provenance: Mapping[str, str]) -> tuple[Options, Lost]:
    """Pillow's options for what a WebP says, and what it cannot hold."""
    exif, lost_exif = exif_block(metadata.exif, width, height, provenance_text(provenance), metadata.dpi)
    options: Options = {"exif": exif or b""}
    icc = fitting_profile(metadata.icc, 3)
    if icc:
        options["icc_profile"] = icc
    if metadata.xmp:
        options["xmp"] = metadata.xmp
    return options, [
        lost_exif,
        _colour_lost(metadata, "WebP"),
        "colour profile left out: WebP has no grey" if metadata.icc and not icc else None,
        "text left out: WebP holds none" if metadata.text else None,
    ]


def profile_of(metadata: Metadata, channels: int, longest: int) -> tuple[bytes | None, Lost]:
    """The profile that goes with the pixels, if there is one and it is not too long."""
    icc = fitting_profile(metadata.icc, channels)
    if icc and len(icc) <= longest:
        return icc, []
    return None, ["colour profile left out: too large or of other channels"] if metadata.icc else []


def _colour_lost(metadata: Metadata, name: str) -> str | None:
    """What a format other than PNG cannot say of colours; it is taken for sRGB, which is no loss."""
    kinds = [kind.decode() for kind, _ in metadata.colour]
    return None if "sRGB" in kinds or not kinds else f"{', '.join(kinds)} left out: {name} holds none"
