"""Metadata of a picture file: EXIF, profile, resolution, text, XMP and a PNG's colours, read and made fit to copy; and
where JPEG and WebP hold it, as Pillow's options.

Whatever is not copied is told in words.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image, PngImagePlugin

from pipeline.codecs import exif, xmp
from pipeline.core.png import SIGNATURE, chunks

KEYWORD = "facesr"
"""Keyword under which the text of a PNG says what made it."""

_COLOUR_CHUNKS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"mDCV": 24, b"cLLI": 8}
"""Chunks of a PNG that say how its values are to be shown, and their lengths."""
_IPTC = 0x0404  # among Photoshop's resources in a JPEG

_RAW = "Raw profile type "
"""Keyword of a PNG's text under which ImageMagick hides what PNG once had no place for."""
_PLACE = re.compile(
    r"(sub|photo|image|geo)?location.*|.*latitude.*|.*longitude.*|lat|lon|long|lng|geo((coord|tag|name|code).*)?|address"
    r"|altitude|city.*|country.*|place(name|taken)?|(province)?state|province|region|worldregion"
)
"""Words of keywords."""

_SEGMENT = 65533  # bytes in a marker segment of a JPEG
_XMP_SEGMENT = _SEGMENT - len(b"http://ns.adobe.com/xap/1.0/\0")
_PROFILE_SEGMENTS = 255 * (_SEGMENT - 14)

Options = dict[str, Any]
"""Keyword arguments of Pillow's `save`."""
Lost = list[str | None]
"""What a format has no room for, in words."""


@dataclass(frozen=True)
class Metadata:
    """What a file says beside its pixels.

    Attributes:
        exif: TIFF-structured block that starts with `II*` or `MM`, without orientation and thumbnail.
        icc: colour profile that fits the channels.
        dpi: pixels per inch across and down.
        text: PNG text by keyword; the comment of a JPEG or GIF under `Comment`.
        xmp: XMP packet, without orientation and thumbnails.
        colour: chunks of a PNG that say how its values are to be shown (gAMA, cHRM, sRGB, cICP …): kind and content.
        lost: what the file said and is not here, in words.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: dict[str, str] = field(default_factory=dict)
    xmp: bytes | None = None
    colour: tuple[tuple[bytes, bytes], ...] = ()
    lost: tuple[str, ...] = ()


def read_metadata(image: Image.Image, data: bytes, channels: int, turned: bool) -> Metadata:
    """Read the metadata of a loaded picture.

    Args:
        image: loaded, so that what the file says behind its pixels is known too.
        data: the file.
        channels: of the pixels that the metadata will go with, 1-4.
        turned: True if applying the orientation exchanged rows and columns.
    """
    lost: list[str | None] = []
    profile = image.info.get("icc_profile")
    icc = fitting_profile(profile, channels)
    if profile and icc is None and image.mode != "CMYK":  # that of CMYK has been applied
        lost.append("colour profile left out: it does not fit the pixels")
    block, problem = exif.exif_of(image)
    lost.append(problem)
    packet, problems = _xmp_of(image)
    lost += problems
    photoshop = image.info.get("photoshop")
    # the one of EXIF is read as EXIF
    raw = [key.removeprefix(_RAW) for key in map(str, image.info) if key.startswith(_RAW)]
    named = [re.sub(r"[^\w-]", "?", kind[:20]) for kind in raw if kind.lower() not in ("exif", "iptc")]
    lost += [f"{kind} profile in text left out" for kind in named[:5]]
    if f"{_RAW}iptc" in image.info or (isinstance(photoshop, dict) and _IPTC in photoshop):
        lost.append("IPTC left out")
    return Metadata(
        exif=block,
        icc=icc,
        dpi=_dpi_of(image, turned),
        text=_text_of(image),
        xmp=packet,
        colour=_colour_of(data) if data.startswith(SIGNATURE) else (),
        lost=tuple(filter(None, lost)),
    )


def without_location(metadata: Metadata) -> Metadata:
    """Metadata without GPS positions and names of places in EXIF, XMP and text."""
    packet = metadata.xmp
    return replace(
        metadata,
        exif=exif.without_location(metadata.exif),
        xmp=packet and xmp.without_location(packet),
        text={key: value for key, value in metadata.text.items() if not _names_place(key)},
    )


def _names_place(keyword: str) -> bool:
    """True if text under this keyword (`Sub-location`, `photoshop:City`, `exif:GPSLatitude`) says where it was."""
    lower = keyword.lower()
    return "gps" in lower or any(_PLACE.fullmatch(word) for word in re.findall("[a-z]+", lower))


def fitting_profile(icc: Any, channels: int) -> bytes | None:
    """The profile if it describes colour for 3 or 4 channels, grey for 1 or 2; None otherwise."""
    if not isinstance(icc, bytes) or icc[36:40] != b"acsp":
        return None
    return icc if icc[16:20] == (b"GRAY" if channels < 3 else b"RGB ") else None


def provenance_text(provenance: Mapping[str, str]) -> str:
    """One line of ASCII JSON with sorted keys: the same provenance gives the same text."""
    return json.dumps(dict(provenance), sort_keys=True)


def jpeg_options(
    metadata: Metadata, width: int, height: int, channels: int, provenance: Mapping[str, str]
) -> tuple[Options, Lost]:
    """Pillow's options for what a JPEG says, and what its segments cannot hold."""
    options: Options = {}
    block, lost_exif = exif.exif_block(metadata.exif, width, height, provenance_text(provenance), limit=_SEGMENT - 6)
    if block:
        options["exif"] = b"Exif\0\0" + block
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
    block, lost_exif = exif.exif_block(metadata.exif, width, height, provenance_text(provenance), metadata.dpi)
    options: Options = {"exif": block or b""}
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


def _xmp_of(image: Image.Image) -> tuple[bytes | None, list[str]]:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(packet, str):
        packet = packet.encode("utf-8", "replace")
    if not isinstance(packet, bytes) or not packet:
        return None, []
    try:
        kept, gone = xmp.fit_for_copy(packet)
    except xmp.XmpError as error:
        return None, [f"XMP left out: {error}"]
    return kept, [f"{part} left out" for part in gone]


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
            if not key.startswith(_RAW) and key not in ("XML:com.adobe.xmp", KEYWORD)
        }
    text = image.info.get("comment", "")
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError:
            text = text.decode("latin-1")
    text = str(text).rstrip("\0")
    return {"Comment": text} if text else {}


def _colour_of(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    found: dict[bytes, bytes] = {}
    for chunk in chunks(data):
        if chunk.kind == b"IDAT":
            break
        length = _COLOUR_CHUNKS.get(chunk.kind)
        if length == chunk.end - chunk.start - 12 and chunk.sound:
            found.setdefault(chunk.kind, data[chunk.start + 8 : chunk.end - 4])
    return tuple(found.items())
