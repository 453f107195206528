"""Tar archives."""

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import IO, Any

import pyarrow as pa

from pipeline.core.errors import first_line
from pipeline.core.files import atomic, write_bytes
from pipeline.sources.base import (
    Entry,
    FileSource,
    SourceError,
    archive_inside,
    check_size,
    entry_of,
    readable,
    refuse_other,
)
from pipeline.sources.bounds import MAX_HEADER, UNPACKED_VARIABLE, most_unpacked
from pipeline.sources.names import is_hidden, printable, wanted
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

    @property
    def kind(self) -> str:
        """Give `tar`, or with its compression `tar.gz` and so on."""
        return next((end[1:] for end in _OPENERS if end.startswith(".tar") and _OPENERS[end] is self.opener), "tar")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "plain"}

    @cached_property
    def plain(self) -> StoragePath:
        """The plain tar, not necessarily unpacked yet."""
        if self.opener is None:
            return self.path
        # another archive of the same name, a new version of this one, or this one to another limit, is unpacked anew
        stamp = self.path.stamp()
        key = hashlib.sha256(
            repr((str(self.path), stamp, most_unpacked(stamp[0]))).encode("utf-8", "surrogateescape")
        ).hexdigest()
        return StoragePath.of(self.scratch / f"{self.path.name[:40]}-{key[:16]}.tar")

    def entries(self) -> Iterator[Entry]:
        """Members in archive order; where the archive breaks off, what came before is kept and the break is named.

        A hard link is the picture that it is a link to; what else is no file is named as what it is.
        """
        with readable(self.path):
            broken, stamp, size = self._unpack(), self.path.stamp(), self.plain.size()
        links: Iterator[list[int] | None] | None = None
        self.passed_over, first = 0, True
        with readable(self.path), self.plain.open() as handle:
            try:
                with tarfile.open(fileobj=handle, mode="r:", tarinfo=_Member) as archive:
                    for member in _members(archive):
                        if member.isreg() and member.offset_data + member.size > size and not member.issparse():
                            broken = broken or f"{printable(member.name)[:200]} is cut off"
                            break
                        target, first = None, False
                        if member.islnk():
                            links = iter(self._targets()) if links is None else links
                            target = next(links, None)
                        if entry := _entry(member, stamp, target):
                            yield entry
                        else:
                            self.passed_over += member.isfile() and not is_hidden(member.name)
                    else:
                        # tarfile takes a damaged header, or a cut between two members, for the end
                        handle.seek(archive.offset)
                        if broken is None and handle.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                            broken = f"no end mark at byte {archive.offset}"
            except (OSError, SourceError):
                raise
            except Exception as error:  # TarError, ValueError, OverflowError, EOFError, RecursionError …
                broken = broken or first_line(error)
        if broken is not None:
            if first:
                refuse_other(self.path, self.kind)
            yield self.truncated(broken)

    def stream(self) -> Iterator[tuple[Entry, bytes]]:
        """Members from the beginning, not unpacked, with their bytes; the break last, if any.

        Nothing is written, so a look at the first of many costs no more than those. A stream cannot go back to what a
        hard link is a link to: they are left out.
        """
        with readable(self.path), self.path.open() as handle:
            try:
                packed: Any = handle
                if self.opener:
                    packed = _Bounded(self.opener(handle), most_unpacked(self.path.size()))
                with packed, tarfile.open(fileobj=packed, mode="r|", tarinfo=_Member) as archive:
                    for member in _members(archive):
                        if not member.islnk() and (entry := _entry(member, None)):
                            file = None if entry.problem else archive.extractfile(member)
                            yield entry, file.read() if file else b""
            except StorageError:
                raise
            except Exception as error:  # of the compression and of tarfile
                refuse_other(self.path, self.kind)
                yield self.truncated(first_line(error)), b""

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

    def _targets(self) -> list[list[int] | None]:
        """Where the content of each hard link lies; None where what it is a link to does not come before it.

        Read only where there are any: the names of all other members are not worth their memory.
        """
        with self.plain.open() as handle, tarfile.open(fileobj=handle, mode="r:", tarinfo=_Member) as archive:
            known: dict[str, list[int] | None] = {}
            for member in _members(archive):
                if member.islnk():
                    known[member.linkname] = None
        found = []
        with self.plain.open() as handle, tarfile.open(fileobj=handle, mode="r:", tarinfo=_Member) as archive:
            for member in _members(archive):
                span = [member.offset_data, member.size] if member.isreg() and not member.issparse() else None
                if member.islnk():
                    span = known[member.linkname]
                    found.append(span)
                if member.name in known and span:
                    known[member.name] = span
        return found

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
                    packed = _Bounded(self.opener(handle), most_unpacked(self.path.size()))
                    if broken := _decompress(packed, temporary):
                        write_bytes(note, broken.encode())
        return note.read_text() if note.exists() else None


class _Member(tarfile.TarInfo):
    """A member whose extended headers are bounded: tarfile reads them whole. What follows an end mark is read too."""

    @classmethod
    def fromtarfile(cls, archive: Any) -> "_Member":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # zeros: the end, or another tar was put behind
            block = next(filter(any, iter(lambda: archive.fileobj.read(tarfile.BLOCKSIZE), b"")), None)
            if block is None:
                raise
            where = archive.fileobj.tell() - len(block)
            try:
                member = cls.frombuf(block, archive.encoding, archive.errors)
            except tarfile.HeaderError as error:
                raise tarfile.ReadError(f"what follows the end mark, at byte {where}, is no tar") from error
            member.offset = where
            return member._proc_member(archive)

    def _proc_member(self, archive: tarfile.TarFile) -> "_Member":
        header = self.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, *_EXTENDED)
        if self.size < 0 or (header and self.size > MAX_HEADER):
            raise tarfile.ReadError(f"a header of {self.size:,} bytes at byte {self.offset}")
        return super()._proc_member(archive)  # type: ignore[misc]  # not in typeshed


def _members(archive: Any) -> Iterator[tarfile.TarInfo]:
    """Members of a tarfile, which would keep them all, and go back, for ever, where a size is negative."""
    end = 0
    for member in archive:
        archive.members.clear()
        if member.size < 0 or archive.offset <= end:
            raise tarfile.ReadError(f"a size of {member.size} bytes at byte {member.offset}")
        end = archive.offset
        yield member


_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_NO_FILES = {
    tarfile.SYMTYPE: "a symbolic link, not followed",
    tarfile.FIFOTYPE: "a FIFO, no file",
    tarfile.CHRTYPE: "a device, no file",
    tarfile.BLKTYPE: "a device, no file",
}
_VOLUME_LABEL = b"V"


def _entry(member: tarfile.TarInfo, stamp: Any, target: list[int] | None = None) -> Entry | None:
    """The entry of a member; None where it is a folder or passed over.

    Args:
        member: as tarfile lists it.
        stamp: of the archive.
        target: of a hard link, offset and bytes of what it is a link to.
    """
    if member.isdir() or member.type == _VOLUME_LABEL or not wanted(member.name, reports=True):
        return None
    key = [member.offset_data, member.size]
    problem = archive_inside(member.name, "tar") or ("a sparse file" if member.issparse() else None)
    if member.islnk():
        key = target or key
        problem = problem if target else "a hard link to nothing that comes before it"
    elif not member.isfile():
        problem = _NO_FILES.get(member.type, "no file")
    return entry_of(member.name, key, problem, stamp, key[1] if problem is None else member.size)


class _Bounded:
    """A stream of unpacked bytes that fails where there are more than may be."""

    def __init__(self, packed: Any, most: int):
        self.packed, self.most, self.left = packed, most, most

    def __enter__(self) -> "_Bounded":
        return self

    def __exit__(self, *_: object) -> None:
        self.packed.close()

    def read(self, size: int) -> bytes:
        """As the stream's."""
        return self._counted(self.packed.read(size))

    def read1(self, size: int) -> bytes:
        """As the stream's."""
        return self._counted(self.packed.read1(size))

    def _counted(self, data: bytes) -> bytes:
        self.left -= len(data)
        if self.left < 0:
            advice = f"if it is to be trusted, set the environment variable {UNPACKED_VARIABLE}"
            raise EOFError(f"it unpacks to more than {self.most:,} bytes: {advice}")
        return data


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
