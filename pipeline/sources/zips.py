"""Zip archives."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.sources.base import (
    Entry,
    FileSource,
    archive_inside,
    check_size,
    damaged,
    entry_of,
    readable,
    refuse_other,
)
from pipeline.sources.names import is_hidden, numeric_order, pictures_folder, wanted
from pipeline.sources.zip_recovery import rebuilt
from pipeline.storage.path import StoragePath


class Zip(FileSource):
    """A zip archive, read member by member.

    Args:
        path: the archive.
        encoding: of names that are not marked as UTF-8; None for UTF-8 where all of them are that, else code page 437.
    """

    def __init__(self, path: StoragePath, encoding: str | None = None):
        super().__init__(path)
        self.encoding = encoding

    def entries(self) -> Iterator[Entry]:
        """Members in archive order; encrypted ones and paths that point outside are named as unusable.

        Where the directory is lost, complete members are read by their own headers, and the break is named last.
        Of CelebAMask-HQ only the pictures are listed, by number, named as in their folder.

        A member's stamp is its checksum and size, so that it stays the same in an archive that has grown.
        """
        with readable(self.path):
            archive = self._archive
        members = list(enumerate(archive.names(self.encoding)))
        pictures = pictures_folder(name for _, name in members)
        if pictures:
            members = [(index, name[len(pictures) :]) for index, name in members if name.startswith(pictures)]
            members.sort(key=lambda member: numeric_order(member[1]))
        self.passed_over = 0
        for index, name in members:
            # of Windows; zip itself separates folders by slashes alone
            name = name.replace("\\", "/")
            if not name.endswith("/") and not wanted(name, reports=True):
                self.passed_over += not is_hidden(name)
            elif not name.endswith("/"):
                info = archive.members[index]
                problem = "encrypted" if info.flag_bits & 1 else archive_inside(name, "zip")
                yield entry_of(name, index, problem, [info.CRC, info.file_size], info.file_size)
        if archive.broken:
            yield self.truncated(archive.broken)

    def read(self, key: Any) -> bytes:
        """Bytes of a member, its checksum verified."""
        # BadZipFile, zlib.error, NotImplementedError, EOFError …
        with damaged("damaged in the archive"), readable():
            return self._archive.read(key)

    @property
    def _archive(self) -> "_OpenZip":
        # a replaced archive has another stamp, and is opened anew
        return _open_zip(self.path, *self.path.stamp())


class _OpenZip:
    """An open archive that several threads can read at once."""

    def __init__(self, path: StoragePath):
        self.repaired = False
        self.broken: str | None = None
        try:
            # a path where there is one: zipfile closes what it opened
            self.archive = zipfile.ZipFile(path.local or path.open())
        except UnicodeDecodeError:
            self.archive, self.repaired = zipfile.ZipFile(_Unmarked(path.open())), True
        except zipfile.BadZipFile:
            self.archive, self.broken = rebuilt(path.open)
        self.members = _Members(self.archive.infolist())
        self.archive.filelist.clear()
        self.archive.NameToInfo.clear()
        self.lock = Lock()

    def names(self, encoding: str | None) -> list[str]:
        """Names of the members as text, decoded before anything looks at what separates folders in them."""
        stored = [_stored(info) for info in self.members]
        unmarked = [name for name in stored if isinstance(name, bytes)]
        if encoding is None:
            # names that are marked as UTF-8 and are not were meant to be
            encoding = "utf-8" if self.repaired or all(map(_is_utf8, unmarked)) else "cp437"
        return [name if isinstance(name, str) else name.decode(encoding, "replace") for name in stored]

    def read(self, index: int) -> bytes:
        info = self.members[index]
        check_size(info.file_size)
        # Members are inflated in parallel: zipfile guards its reads of the file, but not its count of open members.
        with self.lock:
            member = self.archive.open(info)
        try:
            # Never without a limit, or zipfile inflates beyond the stated size before it cuts. It passes no limit on
            # to other methods than deflate, so those are fed in small pieces.
            plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            step = max(info.file_size, 1) if plain else 1 << 12
            return b"".join(iter(lambda: member.read(step), b""))
        finally:
            with self.lock:
                member.close()


class _Members:
    """What a zip's directory says, in a tenth of the memory of its ZipInfos: every worker has a million of them open.

    Args:
        infos: all members.
    """

    def __init__(self, infos: Sequence[zipfile.ZipInfo]):
        self._names = pa.array([info.orig_filename for info in infos], pa.large_string())
        rows = ([min(getattr(info, name, None) or 0, _LARGEST) for name in _FIELDS] for info in infos)
        self._values = np.fromiter(chain.from_iterable(rows), np.int64, len(infos) * len(_FIELDS))
        mark = struct.pack("<H", _UNICODE_PATH)
        self._extra = {index: info.extra for index, info in enumerate(infos) if mark in info.extra}

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(self._names[index].as_py())
        row = self._values[index * len(_FIELDS) : (index + 1) * len(_FIELDS)].tolist()
        for name, value in zip(_FIELDS, row, strict=True):
            if value or name != _END:  # Pythons before 3.12 have no such field
                setattr(info, name, value)
        info.extra = self._extra.get(index, b"")
        return info

    def __iter__(self) -> Iterator[zipfile.ZipInfo]:
        return (self[index] for index in range(len(self)))


_END = "_end_offset"
"""Where a member ends at the latest; newer Pythons refuse those that overlap by it."""
_LARGEST = 2**63 - 1
"""No true size or place is larger, whatever a damaged directory says; places before the file's start are negative."""
_FIELDS = ("header_offset", "compress_size", "file_size", "CRC", "compress_type", "flag_bits", _END)
_UTF8 = 0x800
"""Flag of a zip member: its name is UTF-8."""
_UNICODE_PATH = 0x7075
"""Extra field of Info-ZIP: the name in UTF-8, beside one of another encoding."""


def _stored(info: zipfile.ZipInfo) -> str | bytes:
    """A member's name; as bytes where nothing says what encoding it is."""
    if info.flag_bits & _UTF8:
        return info.orig_filename
    raw, extra = info.orig_filename.encode("cp437"), info.extra  # as zipfile decodes it, which loses nothing
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_PATH and field[1:5] == struct.pack("<I", zlib.crc32(raw)) and _is_utf8(field[5:]):
            return field[5:].decode()
    return raw


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Unmarked(io.BufferedReader):
    """A zip file that no longer claims of undecodable names that they are UTF-8, which zipfile would give up on."""

    def __init__(self, raw: Any):
        super().__init__(raw)
        self.headers: set[int] = set()  # where members with such names begin

    def read(self, size: int | None = -1) -> bytes:
        start = self.tell()
        data = bytearray(super().read(size))
        if start in self.headers:
            _unmark(data, 6)
        at = 0
        while data[at : at + 4] == b"PK\x01\x02":  # the directory, which is read as a whole
            lengths = struct.unpack_from("<3H", data, at + 28)
            try:
                data[at + 46 : at + 46 + lengths[0]].decode()
            except UnicodeDecodeError:
                _unmark(data, at + 8)
                self.headers.add(struct.unpack_from("<I", data, at + 42)[0])
            at += 46 + sum(lengths)
        return bytes(data)


def _unmark(data: bytearray, at: int) -> None:
    struct.pack_into("<H", data, at, struct.unpack_from("<H", data, at)[0] & ~_UTF8)


@lru_cache(maxsize=8)
def _open_zip(path: StoragePath, *stamp: Any) -> _OpenZip:
    # BadZipFile, OSError, struct.error, NotImplementedError …
    with damaged(f"{path}: not a readable zip archive", "; a download that broke off?"):
        try:
            return _OpenZip(path)
        except Exception:
            refuse_other(path, "zip")
            raise
