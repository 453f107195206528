"""Zip and tar archives."""

import bz2
import gzip
import hashlib
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import IO, Any

import pyarrow as pa

from pipeline.core.files import atomic, write_bytes
from pipeline.sources.base import (
    Entry,
    FileSource,
    SourceError,
    check_size,
    damaged,
    printable,
    readable,
    rejection_reason,
    wanted,
)
from pipeline.sources.celeba import numeric_order, pictures_folder
from pipeline.sources.zip_recovery import rebuilt
from pipeline.storage.path import StorageError, StoragePath


def _open_zstd(handle: IO[bytes]) -> io.BufferedReader:
    return io.BufferedReader(pa.CompressedInputStream(handle, "zstd"), 1 << 16)


_OPENERS: dict[str, Callable[[IO[bytes]], Any]] = {
    **dict.fromkeys((".tar.gz", ".tgz"), gzip.open),
    **dict.fromkeys((".tar.bz2", ".tbz2"), bz2.open),
    **dict.fromkeys((".tar.xz", ".txz"), lzma.open),
    **dict.fromkeys((".tar.zst", ".tzst"), _open_zstd),
}
"""Suffix of a compressed tar -> what opens its compression."""

_BREAKS = (EOFError, OSError, zlib.error, lzma.LZMAError, pa.ArrowException)
"""What a compressed stream raises where it is damaged or ends too soon."""
_UNPACKING = Lock()


class Zip(FileSource):
    """A zip archive, read member by member."""

    def entries(self) -> Iterator[Entry]:
        """Members in archive order; encrypted ones and paths that point outside are named as unusable.

        Where the directory is lost, complete members are read by their own headers, and the break is named last.
        Of CelebAMask-HQ only the pictures are listed, by number, named as in their folder.

        A member's stamp is its checksum and size, so that it stays the same in an archive that has grown.
        """
        with readable(self.path):
            archive = self._archive
        members = [(archive.name(info), index, info) for index, info in enumerate(archive.members)]
        pictures = pictures_folder(name for name, _, _ in members)
        if pictures:
            inside = (member for member in members if member[0].startswith(pictures))
            members = [(name[len(pictures) :], index, info) for name, index, info in inside]
            members.sort(key=lambda member: numeric_order(member[0]))
        for name, index, info in members:
            if not info.is_dir() and wanted(name):
                problem = "encrypted" if info.flag_bits & 1 else None
                problem = problem or rejection_reason(name, info.file_size)
                yield Entry(name, index, problem, [info.CRC, info.file_size], info.file_size)
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
        self.members = self.archive.infolist()
        self.lock = Lock()

    def name(self, info: zipfile.ZipInfo) -> str:
        name = info.filename
        if self.repaired and not info.flag_bits & _UTF8:
            name = name.encode("cp437").decode("utf-8", "replace")
        return printable(name)

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


_UTF8 = 0x800
"""Flag of a zip member: its name is UTF-8."""


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
        return _OpenZip(path)


class Tar(FileSource):
    """A tar archive. A compressed one is unpacked to a plain tar once, because it cannot be read from the middle.

    Args:
        path: the archive.
        scratch: folder for unpacking; what is missing there is unpacked by whoever reads.
    """

    def __init__(self, path: StoragePath, scratch: Path):
        super().__init__(path)
        self.scratch = scratch
        self.opener = next((opener for end, opener in _OPENERS.items() if path.name.lower().endswith(end)), None)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "plain"}

    @cached_property
    def plain(self) -> StoragePath:
        """The plain tar, not necessarily unpacked yet."""
        if self.opener is None:
            return self.path
        # another archive of the same name, or a new version of this one, is unpacked anew
        key = hashlib.sha256(repr((str(self.path), self.path.stamp())).encode("utf-8", "surrogateescape")).hexdigest()
        return StoragePath.of(self.scratch / f"{self.path.name[:40]}-{key[:16]}.tar")

    def entries(self) -> Iterator[Entry]:
        """Members in archive order; where the archive breaks off, what came before is kept and the break is named."""
        with readable(self.path):
            broken, stamp, size = self._unpack(), self.path.stamp(), self.plain.size()
        with readable(self.path), self.plain.open() as handle:
            try:
                with tarfile.open(fileobj=handle, mode="r:") as archive:
                    for member in archive:
                        if member.offset_data + member.size > size and not member.issparse():
                            broken = f"{printable(member.name)} is cut off"
                            break
                        if entry := _entry(member, stamp):
                            yield entry
                    else:
                        # tarfile takes a damaged header, or a cut between two members, for the end
                        handle.seek(archive.offset)
                        if handle.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                            broken = f"no end mark at byte {archive.offset}"
            except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
                broken = str(error)
        if broken is not None:
            yield self.truncated(broken)

    def stream(self) -> Iterator[tuple[Entry, bytes]]:
        """Members from the beginning, not unpacked, with their bytes; the break last, if any.

        Nothing is written, so a look at the first of many costs no more than those.
        """
        with readable(self.path), self.path.open() as handle:
            try:
                packed = self.opener(handle) if self.opener else handle
                with packed, tarfile.open(fileobj=packed, mode="r|") as archive:
                    for member in archive:
                        if entry := _entry(member, None):
                            file = None if entry.problem else archive.extractfile(member)
                            yield entry, file.read() if file else b""
            except StorageError:
                raise
            except (*_BREAKS, tarfile.TarError, ValueError, OverflowError) as error:
                yield self.truncated(str(error)), b""

    def read(self, key: Any) -> bytes:
        """Bytes of a member."""
        offset, size = key
        check_size(size)
        with readable():
            self._unpack()
            data = self.plain.read_at(offset, size)
        if len(data) != size:
            raise SourceError("cut off in the archive")
        return data

    def _unpack(self) -> str | None:
        """Unpack what is compressed, unless that is done; why its stream broke off, None where it did not."""
        plain = self.plain.local
        if self.opener is None or plain is None:
            return None
        note = plain.with_suffix(".broken")
        with _UNPACKING:  # other processes may do it at the same time: the last rename wins, and all are the same
            if not plain.exists():
                with self.path.open() as handle, atomic(plain) as temporary:
                    # the note first: whoever sees the tar must see what is wrong with it
                    if broken := _decompress(self.opener(handle), temporary):
                        write_bytes(note, broken.encode())
        return note.read_text() if note.exists() else None


def _entry(member: tarfile.TarInfo, stamp: Any) -> Entry | None:
    """The entry of a member; None where it is no file that may be a picture."""
    name = printable(member.name)
    if not (member.isfile() and wanted(name)):
        return None
    problem = "a sparse file" if member.issparse() else None
    problem = problem or rejection_reason(name, member.size)
    return Entry(name, [member.offset_data, member.size], problem, stamp, member.size)


def _decompress(packed: Any, target: Path) -> str | None:
    with packed, target.open("wb") as handle:
        while True:
            try:
                # read1 hands over what lies before a break, where read would lose its whole chunk
                chunk = packed.read1(1 << 16)
            except StorageError:
                raise
            except _BREAKS as error:
                return str(error)
            if not chunk:
                return None
            handle.write(chunk)
