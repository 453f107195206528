"""Zip archives that lost their directory, as a download that broke off does: rebuild it from the members' own headers.

Each member is preceded by a header that repeats what the directory says of it (APPNOTE.TXT 4.3.7). Members are taken in
turn until one is cut off, or was streamed and states its length only behind itself.
"""

import io
import struct
import zipfile
from collections.abc import Callable
from typing import IO

_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
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
    archive, start, broken = zipfile.ZipFile(io.BytesIO(_END + bytes(18))), 0, ""
    while not broken:
        handle.seek(start)
        head = handle.read(_HEADER.size)
        if len(head) < _HEADER.size or not head.startswith(_LOCAL):
            broken = "its directory is damaged" if head.startswith(_CENTRAL) else f"it ends at byte {start}"
            break
        _, _, flags, method, _, _, crc, packed, plain, name_size, extra_size = _HEADER.unpack(head)
        rest = handle.read(name_size + extra_size)
        if plain == _FULL or packed == _FULL:
            plain, packed = _long_sizes(rest[name_size:], plain, packed)
        end = start + _HEADER.size + name_size + extra_size + packed
        if flags & _STREAMED and not packed:
            broken = f"a streamed member at byte {start}, whose length only the directory says"
        elif len(rest) < name_size + extra_size or end > size:
            broken = f"a member is cut off at byte {start}"
        else:
            name, flags = _decoded(rest[:name_size], flags)
            member = zipfile.ZipInfo(name)
            member.flag_bits, member.compress_type, member.CRC = flags, method, crc
            member.header_offset, member.compress_size, member.file_size = start, packed, plain
            archive.filelist.append(member)
            start = end
    if not archive.filelist:
        handle.close()
        raise zipfile.BadZipFile("File is not a zip file")
    archive.fp = handle
    return archive, broken


def _long_sizes(extra: bytes, plain: int, packed: int) -> tuple[int, int]:
    """Sizes that did not fit the header; as they are where the extra field does not tell them."""
    start = 0
    while start + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, start)
        if kind == _ZIP64 and length >= 16 and start + 20 <= len(extra):
            return struct.unpack_from("<2Q", extra, start + 4)
        start += 4 + length
    return plain, packed


def _decoded(name: bytes, flags: int) -> tuple[str, int]:
    """A name as zipfile decodes it, and flags; one that is not the UTF-8 that its flag says loses the flag."""
    try:
        return name.decode("utf-8" if flags & _UTF8 else "cp437"), flags
    except UnicodeDecodeError:
        return name.decode("cp437"), flags & ~_UTF8
