"""Where faces come from: folder, zip, tar, Parquet or procedural portraits, as named entries and their bytes.

Nothing is decoded here. `entries` lists in a fixed order without reading pictures; `read` gets one entry's bytes and
can be called from any process, so that workers read for themselves.
"""

import glob
import gzip
import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.images import encode_png
from pipeline.synthetic import VERSION, portrait

SIDECARS = {".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".html", ".xml", ".yaml", ".yml", ".npy", ".ini"}
"""Files beside the pictures that are passed over; anything else is tried, and named if it is no picture."""


class SourceError(ValueError):
    """A source or an entry that cannot be read; the message says which and why."""


@dataclass(frozen=True)
class Entry:
    """One file of a source."""

    name: str
    """Path inside the source."""
    key: Any
    """What `read` needs to find it; JSON-like."""
    problem: str = ""
    """Why it cannot be read, where listing shows that already."""
    stamp: Any = None
    """Changes when the file does, so that work done on an older one is not taken for this one's; JSON-like."""


class Source(Protocol):
    """Something that holds pictures."""

    def entries(self) -> Iterator[Entry]:
        """All entries in a fixed order."""

    def read(self, key: Any) -> bytes:
        """Bytes of an entry.

        Raises:
            SourceError: it cannot be read.
        """


def open_source(description: Mapping[str, Any], scratch: Path) -> Source:
    """Open what a `sources` item of params describes.

    Args:
        description: `{"kind": "synthetic", "count", "seed"}` or `{"kind": "archive", "path"}`.
        scratch: folder for unpacking what cannot be read from the middle (compressed tars).

    Raises:
        SourceError: missing, empty or of an unknown kind.
    """
    if description["kind"] == "synthetic":
        return Synthetic(description["count"], description["seed"])
    return open_archive(description["path"], scratch)


def open_archive(path: str, scratch: Path) -> Source:
    """Open a folder, .zip, .tar, .tar.gz, Parquet file or several Parquet files (a folder of them, or a `*`)."""
    matches = [Path(match) for match in sorted(glob.glob(path))] if "*" in path else [Path(path)]
    if not matches or not matches[0].exists():
        raise SourceError(f"{path}: no such file or folder")
    first = matches[0]
    if len(matches) == 1 and first.is_dir():
        shards = sorted(match for match in first.rglob("*.parquet") if not match.name.startswith("."))
        return ParquetFiles(shards) if shards else Folder(first)
    if all(match.suffix == ".parquet" for match in matches):
        return ParquetFiles(matches)
    if len(matches) > 1:
        raise SourceError(f"{path}: several files can be read together only where all are Parquet")
    if zipfile.is_zipfile(first) or first.suffix.lower() == ".zip":
        return Zip(first)
    if first.name.lower().endswith((".tar", ".tar.gz", ".tgz")):
        return Tar(first, scratch)
    return Single(first)


def _wanted(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    hidden = any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in path.parts)
    return not hidden and path.suffix.lower() not in SIDECARS


def _unsafe(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    return "its path points outside the archive" if path.is_absolute() or ".." in path.parts else ""


class Synthetic:
    """Procedural portraits, drawn when read."""

    def __init__(self, count: int, seed: int):
        self.count, self.seed = count, seed

    def entries(self) -> Iterator[Entry]:
        """portrait-000000.png and on."""
        for index in range(self.count):
            yield Entry(self.name(index), index, stamp=VERSION)

    @staticmethod
    def name(index: int) -> str:
        """File name of a portrait."""
        return f"portrait-{index:06d}.png"

    def read(self, key: Any) -> bytes:
        """Draw and encode one portrait."""
        return encode_png(portrait(self.seed, key))


class Single:
    """One picture file."""

    def __init__(self, path: Path):
        self.path = path

    def entries(self) -> Iterator[Entry]:
        """The file itself."""
        yield Entry(self.path.name, self.path.name, stamp=_stamp(self.path))

    def read(self, key: Any) -> bytes:
        """Its bytes."""
        return _read_file(self.path)


class Folder:
    """A folder and its sub-folders."""

    def __init__(self, path: Path):
        self.path = path

    def entries(self) -> Iterator[Entry]:
        """Files in name order; links that lead out of the folder are named, not followed."""
        root = self.path.resolve()
        for path in sorted(self.path.rglob("*")):
            name = path.relative_to(self.path).as_posix()
            if not _wanted(name):
                continue
            if path.is_symlink() and not path.exists():
                yield Entry(name, name, "a link that leads nowhere")
            elif path.is_file():
                outside = not path.resolve().is_relative_to(root)
                problem = "a link that points outside the folder" if outside else ""
                yield Entry(name, name, problem, _stamp(path))

    def read(self, key: Any) -> bytes:
        """Bytes of a file."""
        return _read_file(self.path / key)


class Zip:
    """A zip archive, read member by member."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def _archive(self) -> zipfile.ZipFile:
        return _open_zip(self.path)

    def entries(self) -> Iterator[Entry]:
        """Members in archive order; encrypted ones and paths that point outside are named as unusable."""
        stamp = _stamp(self.path)
        for index, info in enumerate(self._archive.infolist()):
            if not info.is_dir() and _wanted(info.filename):
                problem = _unsafe(info.filename) or ("encrypted" if info.flag_bits & 1 else "")
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
        if not path.name.lower().endswith(".tar"):
            # another archive of the same name, or a new version of this one, is unpacked anew
            key = hashlib.sha256(f"{path.resolve()}:{_stamp(path)}".encode()).hexdigest()[:16]
            self.plain = scratch / f"{path.name}-{key}.tar"
        self.broken = ""

    def entries(self) -> Iterator[Entry]:
        """Members in archive order; where the archive breaks off, what came before is kept and the break is named."""
        self._unpack()
        stamp = _stamp(self.path)
        try:
            with tarfile.open(self.plain, "r:") as archive:
                size = self.plain.stat().st_size
                for member in archive:
                    if member.offset_data + member.size > size:
                        self.broken = f"{member.name} is cut off"
                        break
                    if member.isfile() and _wanted(member.name):
                        yield Entry(member.name, [member.offset_data, member.size], _unsafe(member.name), stamp)
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
        with gzip.open(self.path) as packed, partial.open("wb") as handle:
            try:
                # read1 hands over what lies before a break, where read would lose its whole chunk
                while chunk := packed.read1(1 << 20):
                    handle.write(chunk)
            except (EOFError, OSError, zlib.error) as error:
                self.broken = str(error)
                note.write_text(self.broken)
        partial.rename(self.plain)


class ParquetFiles:
    """Parquet files with a picture column: a struct with `bytes`, or plain binary."""

    def __init__(self, paths: list[Path]):
        self.paths = paths

    def entries(self) -> Iterator[Entry]:
        """Rows in file order, named by the `path` or `name` beside the picture, else by file and row."""
        for index, path in enumerate(self.paths):
            file, stamp = _open_parquet(path), _stamp(path)
            picture, columns = _picture_columns(path, file.schema_arrow)
            row = 0
            for batch in file.iter_batches(columns=columns):
                for value in batch.to_pylist():
                    inner = value.get(picture)
                    name = (inner or {}).get("path") if isinstance(inner, dict) else None
                    name = value.get("name") or name or value.get("path") or value.get("id") or f"{path.stem}-{row:06d}"
                    yield Entry(str(name), [index, row], _unsafe(str(name)), stamp)
                    row += 1

    def read(self, key: Any) -> bytes:
        """Bytes of a row; the row group it lies in is kept, since neighbours are read next."""
        index, row = key
        path = self.paths[index]
        file = _open_parquet(path)
        picture, _ = _picture_columns(path, file.schema_arrow)
        group, first = 0, 0
        while row >= first + file.metadata.row_group(group).num_rows:
            first += file.metadata.row_group(group).num_rows
            group += 1
        value = _row_group(path, group, picture)[row - first].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data:
            raise SourceError("no bytes in its row")
        return bytes(data)


def _stamp(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot be read ({error.strerror})") from error


@lru_cache(maxsize=4)
def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise SourceError(f"{path}: not a readable zip archive ({error}); a download that broke off?") from error


@lru_cache(maxsize=4)
def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{path}: not a readable Parquet file ({error})") from error


@lru_cache(maxsize=2)
def _row_group(path: Path, group: int, column: str) -> pa.ChunkedArray:
    return _open_parquet(path).read_row_group(group, columns=[column]).column(column)


def _picture_columns(path: Path, schema: pa.Schema) -> tuple[str, list[str]]:
    """The picture column, and the columns to list names from (never the pictures themselves)."""
    for name in ("image", "img", "jpg", "png", *schema.names):
        kind = schema.field(name).type if name in schema.names else None
        if kind is not None and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            inner = [f"{name}.path"] if kind.get_field_index("path") >= 0 else []
            return name, inner + [column for column in ("name", "id") if column in schema.names]
        if kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            return name, [column for column in ("name", "id", "path") if column in schema.names]
    raise SourceError(f"{path}: no picture column (a struct with `bytes`, or binary)")
