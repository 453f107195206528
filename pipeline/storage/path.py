"""A file or folder on a local disk or on an object store (s3://, gs:// …), named by one string.

Local paths go through pathlib, remote ones through pyarrow. A file appears under its name only when it is complete.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from pipeline.core.files import atomic
from pipeline.storage.object_stores import (
    RemoteFile,
    StorageError,
    connect,
    explained,
    join,
    missing,
    open_native,
    scheme_of,
    shown,
    split,
    upload,
)

__all__ = ["StorageError", "StoragePath"]

BUFFER = 1 << 16
"""Bytes that a remote handle reads at once, so that small reads of archive headers are not a request each."""


@dataclass(frozen=True, order=True)
class StoragePath:
    """A file or folder on an object store (`_LocalPath`: on a disk); picklable, as it is just its address."""

    uri: str
    """Local: absolute path. Remote: URI with its `?query`."""

    @staticmethod
    def of(text: "str | Path | StoragePath") -> "StoragePath":
        """The one that a path or URI names.

        Raises:
            StorageError: a URI of an unknown kind.
        """
        if isinstance(text, StoragePath):
            return text
        scheme = "" if isinstance(text, Path) else scheme_of(text)
        if scheme in ("", "file"):
            # unlike resolve, abspath keeps links
            return _LocalPath(os.path.abspath(unquote(urlsplit(str(text)).path) if scheme else text))  # noqa: PTH100
        return StoragePath(join(*split(str(text))))

    @property
    def local(self) -> Path | None:
        """As a path; None for a remote one."""
        return None

    @property
    def path(self) -> PurePosixPath:
        """The path alone: of a remote one bucket and key, without credentials and query."""
        root, key, _ = split(self.uri)
        return PurePosixPath(root.partition("://")[2].rpartition("@")[2], key)

    @property
    def name(self) -> str:
        """Last part of the path; of a bucket its name."""
        return self.path.name

    @property
    def suffix(self) -> str:
        """Ending of the name, with its dot."""
        return self.path.suffix

    @property
    def parent(self) -> "StoragePath":
        """The folder it lies in; a bucket is its own."""
        root, key, query = split(self.uri)
        return StoragePath(join(root, key.rpartition("/")[0], query))

    def with_name(self, name: str) -> "StoragePath":
        """Another name in the same folder."""
        return self.parent / name

    def __truediv__(self, relative: str) -> "StoragePath":
        """A path below this one.

        Raises:
            StorageError: `relative` points elsewhere.
        """
        inner = PurePosixPath(relative)
        if inner.is_absolute() or ".." in inner.parts:
            raise StorageError(f"{relative}: points out of {self}")
        return self._below(inner)

    def __str__(self) -> str:
        """As users may see it: without credentials."""
        return shown(self.uri)

    def __repr__(self) -> str:
        return f"StoragePath({str(self)!r})"

    def exists(self) -> bool:
        """True if there is a file or folder."""
        return self._kind() != "NotFound"

    def is_dir(self) -> bool:
        """True if it is a folder."""
        return self._kind() == "Directory"

    def is_file(self) -> bool:
        """True if it is a file."""
        return self._kind() == "File"

    def size(self) -> int:
        """Bytes of a file; FileNotFoundError where there is none."""
        return int(self.stamp()[0])

    def stamp(self) -> list[Any]:
        """Size and time (or version) of a file: what changes when the file does; FileNotFoundError, StorageError."""
        info = self._info()
        if info.type.name != "File":
            raise missing(str(self))
        return [info.size or 0, info.mtime_ns or 0]

    def arrow_file(self) -> pa.NativeFile:
        """Open for reading as pyarrow likes it; what is read with it may raise what pyarrow does (see `explained`)."""
        return open_native(self.uri)

    def open(self) -> IO[bytes]:
        """Open for reading, seekable."""
        return BufferedReader(RemoteFile(self.uri), BUFFER)

    def read_bytes(self) -> bytes:
        """The whole file; of a remote one in one request."""
        with self.open() as handle:
            return handle.read()

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, fewer where the file ends; of a remote file one request."""
        with explained(self.uri), self.arrow_file() as file:
            left = file.size() - offset
            return bytes(file.read_at(min(size, left), offset)) if left > 0 else b""

    def write_bytes(self, data: bytes) -> None:
        """Write a file: complete or not at all. Folders above are made."""
        with self.writing() as handle:
            handle.write(data)

    @contextmanager
    def writing(self) -> Iterator[IO[bytes]]:
        """A binary file to write to (and seek in) that appears under its name when the block ends without an error.

        A remote file is written to a temporary local one first and uploaded in one go. pyarrow's own output stream
        completes its upload whenever it is closed, also by an exception on its way out, and would leave half a file
        under the final name; a temporary key instead would have to be copied, which stores refuse beyond 5 GB.
        """
        with tempfile.TemporaryDirectory(prefix="facesr-") as folder:
            complete = Path(folder) / "complete"
            with complete.open("w+b") as handle:
                yield handle
            # an interrupt reaches the main thread only and waits there, so that it cannot cut the upload short
            with ThreadPoolExecutor(1) as thread, explained(self.uri):
                thread.submit(upload, complete, self.uri).result()

    def files(self, recursive: bool = True) -> Iterator[tuple[str, int, Any]]:
        """Files below a folder, hidden ones too, in name order: relative posix name, bytes, stamp.

        Linked folders are not followed. A folder that does not exist has none.
        """
        from pyarrow import fs

        with explained(self.uri):
            filesystem, path = connect(self.uri)
            found = filesystem.get_file_info(fs.FileSelector(path, recursive=recursive, allow_not_found=True))
        start = len(path.rstrip("/")) + 1
        for info in sorted(found, key=lambda info: tree_order(info.path)):
            if info.type == fs.FileType.File:
                yield info.path[start:], info.size, [info.size, info.mtime_ns]

    def remove(self) -> None:
        """Delete a file; none is fine."""
        with explained(self.uri), suppress(FileNotFoundError):
            filesystem, path = connect(self.uri)
            filesystem.delete_file(path)

    def remove_tree(self) -> None:
        """Delete a folder with all that is in it (of a bucket only what is in it); none is fine."""
        with explained(self.uri), suppress(FileNotFoundError):
            filesystem, path = connect(self.uri)
            filesystem.delete_dir_contents(path, missing_dir_ok=True)
            if "/" in path:
                filesystem.delete_dir(path)

    def free(self) -> int | None:
        """Free bytes of the disk it lies on, or would lie on; None for a remote path."""
        return None

    def _below(self, inner: PurePosixPath) -> "StoragePath":
        root, key, query = split(self.uri)
        return StoragePath(join(root, f"{key}/{inner}" if inner.parts else key, query))

    def _kind(self) -> str:
        return str(self._info().type.name)

    def _info(self) -> Any:
        with explained(self.uri):
            filesystem, path = connect(self.uri)
            return filesystem.get_file_info(path)


# the same few are asked for with every picture
_parsed = lru_cache(maxsize=1024)(Path)


class _LocalPath(StoragePath):
    """A file or folder on a disk."""

    @property
    def local(self) -> Path:
        return _parsed(self.uri)

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(self.local.as_posix())

    @property
    def name(self) -> str:
        return self.uri.rpartition("/")[2]

    @property
    def parent(self) -> StoragePath:
        return _LocalPath(self.uri.rpartition("/")[0] or "/")

    def __str__(self) -> str:
        return self.uri

    def stamp(self) -> list[Any]:
        status = self.local.stat()
        return [status.st_size, status.st_mtime_ns]

    def arrow_file(self) -> pa.NativeFile:
        return pa.OSFile(os.fsencode(self.uri))

    def open(self) -> IO[bytes]:
        return self.local.open("rb")

    def read_at(self, offset: int, size: int) -> bytes:
        with self.open() as handle:
            handle.seek(offset)
            return handle.read(size)

    @contextmanager
    def writing(self) -> Iterator[IO[bytes]]:
        with atomic(self.local) as temporary, temporary.open("w+b") as handle:
            yield handle

    def files(self, recursive: bool = True) -> Iterator[tuple[str, int, Any]]:
        root = self.local
        walk = os.walk(root) if recursive else islice(os.walk(root), 1)
        names = [Path(folder, name).relative_to(root).as_posix() for folder, _, inside in walk for name in inside]
        for name in sorted(names, key=tree_order):
            with suppress(FileNotFoundError):  # temporary files come and go
                if (root / name).is_file():
                    stamp = _LocalPath(str(root / name)).stamp()
                    yield name, stamp[0], stamp

    def remove(self) -> None:
        self.local.unlink(missing_ok=True)

    def remove_tree(self) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self.local)

    def free(self) -> int | None:
        return shutil.disk_usage(next(path for path in (self.local, *self.local.parents) if path.exists())).free

    def _below(self, inner: PurePosixPath) -> StoragePath:
        return _LocalPath(str(self.local / inner))

    def _kind(self) -> str:
        if not self.local.exists():
            return "NotFound"
        return "Directory" if self.local.is_dir() else "File" if self.local.is_file() else "Unknown"


def tree_order(name: str) -> list[str]:
    """Sorts names as a tree lists them: all of folder `a` together, before `a.png`."""
    return name.split("/")
