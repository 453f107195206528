"""Directories of a TIFF, or of EXIF, which is built like one: their entries without the values, before a decoder reads
those.

Decoders read every value of a directory at once, and any number of entries may claim the same megabytes.
"""

import struct
from dataclasses import dataclass

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value by its type."""
_BELOW = (0x8769, 0x8825, 0xA005)
"""Tags that hold the offset of another directory: EXIF, GPS, interoperability."""
_DNG_VERSION, _MAKE, _PHOTOMETRIC, _COMPRESSION, _SUBFILE, _BELOW_TIFF = 50706, 271, 262, 259, 254, 330
_BITS, _SAMPLE_FORMAT, _SAMPLES, _PLANAR, _PALETTE = 258, 339, 277, 284, 320
_SENSOR = {32803, 34892}
"""Photometric interpretations of sensors' values."""
_SENSOR_CODINGS = {32767, 32769, 32770, 34713, 65000, 65535}
"""Compressions of cameras' makers."""
_MAKERS = {"NIKON": "NEF", "SONY": "ARW", "PENTAX": "PEF", "RICOH": "PEF", "SAMSUNG": "SRW", "CANON": "CR2"}
_MAKERS |= {
    "EASTMAN KODAK": "DCR",
    "KODAK": "DCR",
    "EPSON": "ERF",
    "HASSELBLAD": "3FR",
    "LEAF": "MOS",
    "OLYMPUS": "ORF",
}


@dataclass(frozen=True)
class Entry:
    """An entry of a directory: the type of its values, how many there are, and where they begin in the block."""

    kind: int
    count: int
    offset: int

    @property
    def size(self) -> int:
        """Bytes that it claims."""
        return _SIZES.get(self.kind, 1) * self.count


class Blocks:
    """Directories of a block that begins with `II` or `MM`; what does not lie in it reads as nothing."""

    def __init__(self, block: bytes):
        self.block = block
        self._order = "<" if block[:2] == b"II" else ">"
        # a TIFF of more than 4 GB has wider numbers
        self._big = block[2:4] in (b"+\0", b"\0+")

    @property
    def first(self) -> int:
        """Where the main directory begins."""
        return self._number("Q", 8) if self._big else self._number("I", 4)

    def entries(self, offset: int) -> dict[int, Entry]:
        """Of the directory at `offset`, by tag."""
        found = {}
        count = self._count(offset)
        head, wide, size = ("HHQ", 8, 20) if self._big else ("HHI", 4, 12)
        offset += 8 if self._big else 2
        for start in range(offset, min(offset + count * size, len(self.block) - size + 1), size):
            tag, kind, values = struct.unpack_from(self._order + head, self.block, start)
            inside = start + size - wide
            far = _SIZES.get(kind, 1) * values > wide
            found[tag] = Entry(kind, values, self._number("Q" if self._big else "I", inside) if far else inside)
        return found

    def frames(self) -> int:
        """Directories that follow one another, the main one among them."""
        offset, seen = self.first, set[int]()
        while offset and offset not in seen and self._count(offset):
            seen.add(offset)
            size, wide, number = (20, 8, "Q") if self._big else (12, 2, "I")
            offset = self._number(number, offset + wide + size * self._count(offset))
        return len(seen)

    def whole(self, entry: Entry | None) -> int | None:
        """First value of an entry of whole numbers; None of any other."""
        number = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}.get(entry.kind) if entry else None
        return self._number(number, entry.offset) if entry and number else None

    def text(self, entry: Entry | None) -> str:
        """Value of an entry of text; empty of any other."""
        if entry is None or entry.kind != 2:
            return ""
        return self.block[entry.offset : entry.offset + min(entry.count, 64)].split(b"\0")[0].decode("latin-1").strip()

    def overlap(self) -> bool:
        """True if entries claim the same bytes over and over, so that reading all would take any amount of memory."""
        main = self.entries(self.first)
        claimed = self._claimed(main)
        for tag in _BELOW[:2]:
            below = self.entries(self.whole(main.get(tag)) or len(self.block))
            claimed += self._claimed(below)
            if (deeper := self.whole(below.get(_BELOW[2]))) is not None:
                claimed += self._claimed(self.entries(deeper))
        return claimed > 2 * len(self.block) + 65536

    def raw(self) -> str | None:
        """Kind of camera raw that a TIFF is ("NEF", "DNG" …); None for a TIFF of pixels."""
        tags = self.entries(self.first)
        make = self.text(tags.get(_MAKE)).upper()
        kind = next((kind for maker, kind in _MAKERS.items() if make.startswith(maker)), "of unknown make")
        if _DNG_VERSION in tags:
            return "DNG"
        if self.block[8:10] == b"CR":
            return "CR2"
        if self._of_sensor(tags):
            return kind
        # a preview in front of what the sensor saw
        reduced = bool((self.whole(tags.get(_SUBFILE)) or 0) & 1)
        below = self.whole(tags.get(_BELOW_TIFF))
        sensor = below is not None and self._of_sensor(self.entries(below))
        return kind if sensor or (make and reduced and _BELOW_TIFF in tags) else None

    def samples(self) -> tuple[int, bool]:
        """Bits of a TIFF's samples, and if they have a sign."""
        tags = self.entries(self.first)
        return self.whole(tags.get(_BITS)) or 1, self.whole(tags.get(_SAMPLE_FORMAT)) == 2

    def wide_planes(self) -> bool:
        """True if channels of more than 8 bits lie one after the other, as they are."""
        tags = self.entries(self.first)
        several = (self.whole(tags.get(_SAMPLES)) or 1) > 1 and self.whole(tags.get(_PLANAR)) == 2
        return several and self.samples()[0] > 8 and (self.whole(tags.get(_COMPRESSION)) or 1) == 1

    def small_palette(self) -> bool:
        """True if the values of a palette, which has 16 bits, fit in 8: old programs wrote such, and all is black."""
        entry = self.entries(self.first).get(_PALETTE)
        if entry is None or entry.kind != 3:
            return False
        values = self.block[entry.offset : entry.offset + 2 * entry.count]
        return any(values) and not any(values[self._order == "<" :: 2])

    def _of_sensor(self, tags: dict[int, Entry]) -> bool:
        return self.whole(tags.get(_PHOTOMETRIC)) in _SENSOR or self.whole(tags.get(_COMPRESSION)) in _SENSOR_CODINGS

    def _claimed(self, entries: dict[int, Entry]) -> int:
        length = len(self.block)
        return sum(min(entry.size, max(length - entry.offset, 0)) for entry in entries.values() if entry.size > 8)

    def _count(self, offset: int) -> int:
        return self._number("Q" if self._big else "H", offset)

    def _number(self, kind: str, offset: int) -> int:
        try:
            number: int = struct.unpack_from(self._order + kind, self.block, offset)[0]
        except struct.error:
            return 0
        return number
