"""Stores that fsspec reaches and pyarrow itself does not: `hf://datasets/…`, `https://…`, `sftp://…`, `memory://…`."""

import re
import zlib
from typing import Any
from urllib.parse import parse_qsl

from pyarrow import fs

NO_STORES = {
    *("file", "local", "asynclocal", "async_wrapper", "dir", "data"),
    *("generic", "reference", "zip", "tar", "libarchive"),
}
"""Of fsspec's protocols: local disks, which have paths, and wrappers around other stores."""
INSTALL = {"hf": "pip install -e '.[hub]' in its checkout"}


def reaches(scheme: str) -> bool:
    """True if fsspec has a file system of that kind (what it needs may still have to be installed)."""
    try:
        import fsspec  # only here: local paths do without
    except ImportError:
        return False
    cached = ("cache" in scheme) or scheme in NO_STORES
    return not cached and scheme in fsspec.available_protocols()


def connect(root: str, query: str) -> tuple[Any, str]:
    """The file system of `scheme://host`, as pyarrow's, and the path of the root in it.

    Args:
        root: `scheme://user@host`; of an HTTP server or `hf://datasets` the same.
        query: `name=value&…`, options of the file system; of an HTTP address a part of it, and not used here.

    Raises:
        ImportError: what the protocol needs is not installed; the message says what to do.
    """
    from fsspec.core import url_to_fs

    scheme = root.partition("://")[0].lower()
    options = {} if scheme in ("http", "https") else dict(parse_qsl(query))
    try:
        filesystem, base = url_to_fs(root, **options)
    except ImportError as error:
        raise ImportError(f"needs a library that is not installed: {INSTALL.get(scheme, str(error))}") from error
    return fs.PyFileSystem(_Handler(filesystem)), base.rstrip("/")


def scrubbed(text: str) -> str:
    """An error's text without users, passwords and queries in the addresses that it names."""
    text = re.sub(r"://[^/\s@'\"]+@", "://", text)
    return re.sub(r"\?[^\s'\"<>)]+", "", text)


class _Handler(fs.FSSpecHandler):  # type: ignore[misc]  # pyarrow has no types
    """pyarrow's, which also knows when a file was changed, and that a server that refuses is not a missing file."""

    def get_file_info(self, paths: list[str]) -> list[Any]:
        found = []
        for path in paths:
            try:
                found.append(self._create_file_info(path, self.fs.info(path)))
            except FileNotFoundError as error:
                cause = error.__cause__  # of HTTP every failure is called a missing file
                gone = cause is None or isinstance(cause, FileNotFoundError) or getattr(cause, "status", 0) == 404
                if not gone:
                    raise OSError(str(cause)) from error
                found.append(fs.FileInfo(path, fs.FileType.NotFound))
        return found

    @staticmethod
    def _create_file_info(path: str, info: dict[str, Any]) -> Any:
        times = (info.get(key) for key in ("mtime", "LastModified", "last_modified", "modified", "created"))
        time = next((time for time in times if hasattr(time, "timestamp") or isinstance(time, int | float)), None)
        tag = info.get("ETag") or info.get("blob_id") or info.get("sha256")
        if time is None and tag:
            time = float(zlib.crc32(str(tag).encode()))  # no time, but it changes when the file does
        return fs.FSSpecHandler._create_file_info(path, {**info, "mtime": time})
