"""XMP packets made fit for a copy: what they say of pixels, places and companions that are no more is taken out.

A packet is XML from anywhere, so it is parsed as such, within bounds of size and depth: the time is linear in both.
"""

import re
from collections.abc import Callable
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

LARGEST = 4 << 20
"""Bytes: editors' histories reach some megabytes; the worst packet of this size takes some 3 s to parse."""
_DEEPEST = 256
"""Elements inside each other; real packets have some 10."""

_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
_XAP, _NOTE = "http://ns.adobe.com/xap/1.0/", "http://ns.adobe.com/xmp/note/"
_CAMERA, _PHOTOSHOP = "http://ns.google.com/photos/1.0/camera/", "http://ns.adobe.com/photoshop/1.0/"
_KNOWN = {"tiff": _TIFF, "exif": _EXIF, "xmp": _XAP, "xap": _XAP, "xmpNote": _NOTE, "GCamera": _CAMERA}
_KNOWN |= {"photoshop": _PHOTOSHOP, "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/"}
"""Of prefixes that a packet uses without saying what they stand for, as some software writes it."""

_STALE = {(_TIFF, "Orientation"), (_TIFF, "ImageWidth"), (_TIFF, "ImageLength"), (_XAP, "Thumbnails")}
_STALE |= {(_EXIF, "PixelXDimension"), (_EXIF, "PixelYDimension")}
_COMPANIONS = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": "HDR gain map",
    "http://ns.apple.com/HDRGainMap/1.0/": "HDR gain map",
    "http://ns.google.com/photos/1.0/container/": "",
    "http://ns.google.com/photos/1.0/container/item/": "",
    "http://ns.google.com/photos/1.0/depthmap/": "depth map",
    "http://ns.google.com/photos/1.0/image/": "second picture",
    "http://ns.google.com/photos/1.0/audio/": "sound",
}
"""Namespaces that describe something else in the same file, which no result holds, and what that is."""
_LOCATIONS = re.compile(r"GPS.*|Location.*|City|State|Country.*|ProvinceState|Sublocation|WorldRegion")
_PLACES = {
    _EXIF,
    _PHOTOSHOP,
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
}

Verdict = Callable[[str, str], str | None]
"""(namespace, name) of a property: None keeps it, anything else is what goes with it, "" what is not worth a word."""


class XmpError(ValueError):
    """A packet that cannot be used; the message says why."""


def fit_for_copy(packet: bytes) -> tuple[bytes, list[str]]:
    """A packet without what is not true of a copy, byte for byte as it was where nothing had to go.

    Returns:
        The packet, and what it described that a copy does not hold ("HDR gain map").

    Raises:
        XmpError: too large, or not XML.
    """
    return _without(packet, _not_of_a_copy)


def without_location(packet: bytes) -> bytes:
    """A packet without GPS positions and names of places.

    Raises:
        XmpError: too large, or not XML.
    """
    return _without(packet, _of_a_place)[0]


def _not_of_a_copy(space: str, name: str) -> str | None:
    if (space, name) in _STALE:
        return ""
    if space in _COMPANIONS:
        return _COMPANIONS[space]
    if space == _CAMERA and name.startswith(("MotionPhoto", "MicroVideo")):
        return "motion video"
    return "extended XMP" if (space, name) == (_NOTE, "HasExtendedXMP") else None


def _of_a_place(space: str, name: str) -> str | None:
    return "location" if space in _PLACES and _LOCATIONS.fullmatch(name) else None


def _without(packet: bytes, verdict: Verdict) -> tuple[bytes, list[str]]:
    wide = packet.startswith((b"\xfe\xff", b"\xff\xfe"))  # containers want UTF-8
    packet = packet if wide else packet.strip(b"\0 \t\r\n")
    if len(packet) > LARGEST:
        raise XmpError(f"{len(packet):,} bytes, more than {LARGEST:,}")
    rewriter = _Rewriter(verdict)
    try:
        rewriter.parser.Parse(packet, True)
    except expat.ExpatError as error:
        raise XmpError(f"not XML ({error})") from error
    return ("".join(rewriter.parts).encode() if rewriter.removed or wide else packet), sorted(rewriter.removed - {""})


class _Rewriter:
    """Copies what a parser reads but for the properties that a verdict takes out."""

    def __init__(self, verdict: Verdict):
        self.parts: list[str] = []
        self.removed: set[str] = set()
        self._verdict = verdict
        self._spaces: dict[str, list[str]] = {}  # prefix -> what it stands for, innermost last
        self._declared: list[list[str]] = []  # prefixes of each open element
        self._skipping = 0  # open elements from the one that is taken out
        self.parser = parser = expat.ParserCreate()
        parser.ordered_attributes = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.XmlDeclHandler = lambda *_: None  # the copy is UTF-8, which needs none
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.DefaultHandler = self._rest

    def _doctype(self, *_: object) -> None:
        raise XmpError("it declares a document type, which XMP has not")

    def _start(self, name: str, attributes: list[str]) -> None:
        if len(self._declared) >= _DEEPEST:
            raise XmpError(f"more than {_DEEPEST} elements inside each other")
        pairs = list(zip(attributes[::2], attributes[1::2], strict=True))
        declared = [(key.partition(":")[2], value) for key, value in pairs if key.partition(":")[0] == "xmlns"]
        for prefix, space in declared:
            self._spaces.setdefault(prefix, []).append(space)
        self._declared.append([prefix for prefix, _ in declared])
        if self._skipping or self._goes(name):
            self._skipping += 1
            return
        kept = []
        for key, value in pairs:
            if key.startswith("xmlns:"):
                goes = _names_a_companion(value) and self._verdict(value, "") is not None
            else:
                goes = self._goes(key)
            if not goes:
                kept.append(f" {key}={_quoted(value)}")
        self.parts.append(f"<{name}{''.join(kept)}>")

    def _end(self, name: str) -> None:
        for prefix in self._declared.pop():
            self._spaces[prefix].pop()
        if self._skipping:
            self._skipping -= 1
        else:
            self.parts.append(f"</{name}>")

    def _rest(self, text: str) -> None:
        if not self._skipping:
            self.parts.append(text)

    def _goes(self, qualified: str) -> bool:
        prefix, _, name = qualified.rpartition(":")
        spaces = self._spaces.get(prefix)
        reason = self._verdict(spaces[-1] if spaces else _KNOWN.get(prefix, ""), name)
        if reason is None:
            return False
        self.removed.add(reason)
        return True


def _names_a_companion(space: str) -> bool:
    return space in _COMPANIONS


def _quoted(value: str) -> str:
    return quoteattr(value, {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})
