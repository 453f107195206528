"""Zip and tar archives."""

import bz2
import gzip
import hashlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.sources.base import Entry, SourceError, file_stamp, unsafe, wanted

TAR_OPENERS = {
    ".tar": None,
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tbz2": bz2.open,
    ".tar.xz": lzma.open,
    ".txz": lzma.open,
}
"""Suffix of a tar -> what opens its compression."""


class Zip:
    """A zip archive, read member by member."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def _archive(self) -> zipfile.ZipFile:
        return _open_zip(self.path, *file_stamp(self.path))

    def entries(self) -> Iterator[Entry]:
        """Members in archive order; encrypted ones and paths that point outside are named as unusable."""
        stamp = file_stamp(self.path)
        for index, info in enumerate(self._archive.infolist()):
            if not info.is_dir() and wanted(info.filename):
                problem = unsafe(info.filename) or ("encrypted" if info.flag_bits & 1 else "")
                yield Entry(info.filename, index, problem, stamp)

    def read(self, key: Any) -> bytes:
        """Bytes of a member, its checksum verified."""
        try:
            return self._archive.read(self._archive.infolist()[key])
        except Exception as error:  # BadZipFile, zlib.error, NotImplementedError, EOFError, OSError …
            raise SourceError(f"damaged in the archive ({error})") from error


class Tar:
    """A tar archive. A compressed one is unpacked to a plain tar once, because it cannot be read from the middle."""

    def __init__(self, path: Path, scratch: Path):
        self.path = path
        self.plain = path
        self.opener: Any = next(opener for end, opener in TAR_OPENERS.items() if path.name.lower().endswith(end))
        if self.opener is not None:
            # another archive of the same name, or a new version of this one, is unpacked anew
            key = hashlib.sha256(f"{path.resolve()}:{file_stamp(path)}".encode()).hexdigest()[:16]
            self.plain = scratch / f"{path.name}-{key}.tar"
        self.broken = ""

    def entries(self) -> Iterator[Entry]:
        """Members in archive order; where the archive breaks off, what came before is kept and the break is named."""
        self._unpack()
        stamp = file_stamp(self.path)
        try:
            with tarfile.open(self.plain, "r:") as archive:
                size = self.plain.stat().st_size
                for member in archive:
                    if member.offset_data + member.size > size:
                        self.broken = f"{member.name} is cut off"
                        break
                    if member.isfile() and wanted(member.name):
                        yield Entry(member.name, [member.offset_data, member.size], unsafe(member.name), stamp)
                else:
                    # tarfile takes a damaged header, or a cut between two members, for the end
                    with self.plain.open("rb") as handle:
                        handle.seek(archive.offset)
                        if handle.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                            self.broken = f"no end mark at byte {archive.offset}"
        except tarfile.TarError as error:
            self.broken = str(error)
        if self.broken:
            yield Entry(self.path.name, None, f"truncated archive ({self.broken}); what came before it was read")

    def read(self, key: Any) -> bytes:
        """Bytes of a member."""
        offset, size = key
        with self.plain.open("rb") as handle:
            handle.seek(offset)
            return handle.read(size)

    def _unpack(self) -> None:
        note = self.plain.with_suffix(".broken")
        if self.plain == self.path:
            return
        if self.plain.exists():
            self.broken = note.read_text() if note.exists() else ""
            return
        self.plain.parent.mkdir(parents=True, exist_ok=True)
        partial = self.plain.with_suffix(".part")
        with self.opener(self.path) as packed, partial.open("wb") as handle:
            try:
                # read1 hands over what lies before a break, where read would lose its whole chunk
                while chunk := packed.read1(1 << 20):
                    handle.write(chunk)
            except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                self.broken = str(error)
                note.write_text(self.broken)
        partial.rename(self.plain)


@lru_cache(maxsize=4)
def _open_zip(path: Path, size: int, time: int) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise SourceError(f"{path}: not a readable zip archive ({error}); a download that broke off?") from error
