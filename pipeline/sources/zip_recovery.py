"""Zip archives that lost their directory, as a download that broke off does: rebuild it from the members' own headers.

Each member is preceded by a header that repeats what the directory says of it (APPNOTE.TXT 4.3.7). Members are taken in
turn until one is cut off, or was streamed and states its length only behind itself.
"""

import io
import struct
import zipfile
from collections.abc import Callable
from typing import IO, Any

_LOCAL, _CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
_HEADER = struct.Struct("<4s5H3L2H")
_UTF8, _STREAMED, _FULL, _ZIP64 = 0x800, 0x8, 0xFFFFFFFF, 1


def rebuilt(open_file: Callable[[], IO[bytes]]) -> tuple[zipfile.ZipFile, str]:
    """The complete members of a zip without a directory as a zip, and why what follows them is missing.

    Args:
        open_file: opens the archive for reading; it is left open as long as the zip is used.

    Raises:
        zipfile.BadZipFile: there is not one complete member.
    """
    handle = open_file()
    size = handle.seek(0, 2)
    records, at, broken = [], 0, ""
    while not broken:
        handle.seek(at)
        head = handle.read(_HEADER.size)
        if len(head) < _HEADER.size or not head.startswith(_LOCAL):
            broken = "its directory is damaged" if head.startswith(_CENTRAL) else f"it ends at byte {at}"
            break
        _, version, flags, method, clock, date, crc, packed, plain, name_size, extra_size = _HEADER.unpack(head)
        rest = handle.read(name_size + extra_size)
        name, extra = rest[:name_size], rest[name_size:]
        if plain == _FULL or packed == _FULL:
            plain, packed = _long_sizes(extra, plain, packed)
        end = at + _HEADER.size + name_size + extra_size + packed
        if flags & _STREAMED and not packed:
            broken = f"a streamed member at byte {at}, whose length only the directory says"
        elif len(rest) < name_size + extra_size or end > size:
            broken = f"a member is cut off at byte {at}"
        else:
            common = (version, version, _readable(name, flags), method, clock, date, crc)
            long = struct.pack("<2H3Q", _ZIP64, 24, plain, packed, at)
            sizes = struct.pack("<2L5H2L", _FULL, _FULL, len(name), len(long), 0, 0, 0, 0, _FULL)
            records.append(_CENTRAL + struct.pack("<6HL", *common) + sizes + name + long)
            at = end
    if not records:
        handle.close()
        raise zipfile.BadZipFile("File is not a zip file")
    return zipfile.ZipFile(io.BufferedReader(_Joined(handle, at, _directory(records, at)))), broken


def _long_sizes(extra: bytes, plain: int, packed: int) -> tuple[int, int]:
    """Sizes that did not fit the header; as they are where the extra field does not tell them."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _ZIP64 and length >= 16 and at + 20 <= len(extra):
            return struct.unpack_from("<2Q", extra, at + 4)
        at += 4 + length
    return plain, packed


def _readable(name: bytes, flags: int) -> int:
    """The flags, without the one that says that a name is UTF-8 where it is not."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return flags & ~_UTF8
    return flags


def _directory(records: list[bytes], start: int) -> bytes:
    """The directory of these records, with the 64-bit form of its end (APPNOTE.TXT 4.3.14 to 4.3.16)."""
    body, count = b"".join(records), len(records)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(body), start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(body), 1)
    return body + end64 + locator + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, _FULL, _FULL, 0)


class _Joined(io.RawIOBase):
    """The first bytes of a file, followed by others."""

    def __init__(self, head: IO[bytes], length: int, tail: bytes):
        self.head, self.length, self.tail, self.at = head, length, tail, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self.at, self.length + len(self.tail))[whence]
        self.at = max(base + offset, 0)
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        if self.at < self.length:
            self.head.seek(self.at)
            data = self.head.read(min(len(buffer), self.length - self.at))
        else:
            data = self.tail[self.at - self.length :][: len(buffer)]
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)

    def close(self) -> None:
        self.head.close()
        super().close()
