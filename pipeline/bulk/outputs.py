"""Where results go: a folder, one picture, a zip, a tar, one Parquet file or a folder of Parquet shards.

Workers write every picture to a file of its own, at once under its final name in a folder, else in the run's work
folder, from where `assembly` puts it into the archive.
"""

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.codecs.reader import format_of
from pipeline.core.errors import FacesrError
from pipeline.storage.object_stores import scheme_of
from pipeline.storage.path import StorageError, StoragePath

KINDS = ("folder", "zip", "tar", "parquet")
NOT_WRITTEN = {
    *(".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".ppm"),
    *(".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".psd", ".ico", ".icns", ".svg", ".eps", ".pdf", ".exr", ".hdr", ".dds"),
    *(".pcx", ".qoi", ".apng", ".jng", ".mng", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
    *(".gz", ".tgz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".zst", ".tzst", ".lz4", ".7z", ".rar", ".cab", ".iso"),
    *(
        ".h5",
        ".hdf5",
        ".tfrecord",
        ".tfrecords",
        ".arrow",
        ".feather",
        ".lmdb",
        ".mp4",
        ".mov",
        ".mkv",
        ".avi",
        ".webm",
    ),
}
"""Suffixes of pictures and archives that are no folder's, and that nothing is written as."""
WRITTEN = "a folder, or a name ending in .png, .jpg, .webp, .zip, .tar or .parquet"
LONGEST_NAME = 255
"""Bytes of a file's name on the usual disks, where the disk itself does not say."""


class OutputError(FacesrError):
    """An OUTPUT that cannot be written as asked; the message says why."""


@dataclass(frozen=True)
class Output:
    """OUTPUT, as the command line names it."""

    path: StoragePath
    kind: str
    """`folder`, `picture`, `zip`, `tar`, `parquet` (one file) or `shards` (a folder of Parquet files)."""

    @classmethod
    def of(cls, text: str, to: str | None = None) -> "Output":
        """Parse a path or URI.

        Args:
            text: a path or URI.
            to: `folder`, `zip`, `tar` or `parquet`, instead of what its end says.

        Raises:
            OutputError: `to` is none of these, or OUTPUT's name cannot be written.
        """
        if not text:
            raise OutputError("OUTPUT is empty: a variable that is not set?")
        path = StoragePath.of(text)
        if scheme_of(text) in ("http", "https"):
            raise OutputError(f"{path}: web pages can only be read; name a folder, an archive or an object store")
        with _named(path):
            output = cls._of(path, to)
            longest = output.path.name if output.is_folder else output.manifest.name
        if path.local is not None and len(os.fsencode(longest)) > (most := _longest_name(path.local)):
            raise OutputError(f"{path}: its name is too long: {longest} has more than {most} bytes")
        return output

    @classmethod
    def _of(cls, path: StoragePath, to: str | None) -> "Output":
        if to not in (None, *KINDS):
            raise OutputError(f"--to {to}: one of {', '.join(KINDS)}")
        if to == "parquet" and path.suffix.lower() != ".parquet":
            to = "shards"
        if to in ("zip", "tar", "parquet"):
            _kind(path)  # a name that says otherwise
        return cls(path, to or _kind(path))

    @property
    def is_folder(self) -> bool:
        """True if OUTPUT is a folder rather than a file."""
        return self.kind in ("folder", "shards")

    @property
    def manifest(self) -> StoragePath:
        """The table of every file's outcome."""
        if self.is_folder:
            return self.path / "manifest.parquet"
        return self.path.with_name(f"{self.path.name}.manifest.parquet")

    @property
    def csv_manifest(self) -> StoragePath:
        """The same as CSV, on request."""
        return self.manifest.with_name(self.manifest.name.removesuffix(".parquet") + ".csv")

    @property
    def work(self) -> StoragePath:
        """Folder for partial work, on the same disk."""
        return self.path / ".facesr" if self.is_folder else self.path.with_name(f".{self.path.name}.facesr")

    @property
    def job(self) -> StoragePath:
        """The record of a run beside its partial work."""
        return self.work / "job.json"

    @property
    def unfinished(self) -> bool:
        """True if a run has begun and has not come to its end."""
        return self.job.is_file()

    @property
    def format(self) -> str | None:
        """The format that the name of one picture asks for."""
        return format_of(self.path.name) if self.kind == "picture" else None

    def result_path(self, target: str) -> StoragePath:
        """Where a worker writes a result."""
        if self.kind == "folder":
            return self.path / target
        if self.kind == "picture":
            return self.path
        # a flat name: archives may hold names that no file system takes
        return self.work / "pictures" / hashlib.sha256(target.encode()).hexdigest()[:32]

    @contextmanager
    def writing(self, target: str) -> Iterator[Path]:
        """A local path to write a result to; it gets its own name when the block ends without an error.

        Unfinished files lie in the work folder, which goes when the run is done, not among the results.
        """
        result = self.result_path(target)
        if result.local is None or self.work.local is None:
            with tempfile.TemporaryDirectory(prefix="facesr-") as folder:
                path = Path(folder) / "picture"
                yield path
                with result.writing() as handle, path.open("rb") as source:
                    shutil.copyfileobj(source, handle, 8 << 20)
            return
        path = self.work.local / "incoming" / secrets.token_hex(8)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield path
            with path.open("rb+") as handle:
                os.fsync(handle.fileno())
            result.local.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, result.local)
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _named(path: StoragePath) -> Iterator[None]:
    """Turn what a disk says of an impossible path into an OutputError."""
    try:
        yield
    except StorageError:
        raise
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _longest_name(path: Path) -> int:
    for folder in path.parents:
        with suppress(OSError, ValueError):
            return os.pathconf(folder, "PC_NAME_MAX")
    return LONGEST_NAME


def _kind(path: StoragePath) -> str:
    if path.is_dir():
        return "folder"
    by_suffix = {".zip": "zip", ".tar": "tar", ".parquet": "parquet"}
    if kind := by_suffix.get(path.suffix.lower(), "picture" if format_of(path.name) else None):
        return kind
    if path.suffix.lower() in NOT_WRITTEN:
        raise OutputError(f"{path}: {path.suffix} cannot be written; name {WRITTEN}")
    return "folder"
