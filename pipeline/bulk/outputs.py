"""Where results go: a folder, one picture, a zip, a tar, one Parquet file or a folder of Parquet shards.

Workers write every picture to a place of its own, at once under its final name in a folder, else in the run's work
folder, from where `assembly` puts it into the archive.
"""

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.codecs.reader import format_of
from pipeline.core.errors import FacesrError
from pipeline.storage.path import StoragePath

KINDS = ("folder", "zip", "tar", "parquet")


class OutputError(FacesrError):
    """An OUTPUT that cannot be written as asked; the message says why."""


@dataclass(frozen=True)
class Output:
    """OUTPUT, as the command line names it."""

    place: StoragePath
    kind: str
    """`folder`, `picture`, `zip`, `tar`, `parquet` (one file) or `shards` (a folder of Parquet files)."""

    @classmethod
    def of(cls, text: str, to: str | None = None) -> "Output":
        """What a path means.

        Args:
            text: a path or URI.
            to: `folder`, `zip`, `tar` or `parquet`, instead of what its end says.

        Raises:
            OutputError: `to` is none of these.
        """
        place = StoragePath.of(text)
        if to is not None and to not in KINDS:
            raise OutputError(f"--to {to}: one of {', '.join(KINDS)}")
        if to == "parquet":
            return cls(place, "parquet" if place.suffix.lower() == ".parquet" else "shards")
        if to is not None:
            return cls(place, to)
        return cls(place, _kind(place))

    @property
    def is_folder(self) -> bool:
        """Whether OUTPUT is a folder rather than a file."""
        return self.kind in ("folder", "shards")

    @property
    def manifest(self) -> StoragePath:
        """Where every file's fate is written."""
        if self.is_folder:
            return self.place / "manifest.parquet"
        return self.place.with_name(f"{self.place.name}.manifest.parquet")

    @property
    def work(self) -> StoragePath:
        """Folder for partial work, on the same disk."""
        return self.place / ".facesr" if self.is_folder else self.place.with_name(f".{self.place.name}.facesr")

    @property
    def format(self) -> str | None:
        """The format that the name of one picture asks for."""
        return format_of(self.place.name) if self.kind == "picture" else None

    def slot(self, target: str) -> StoragePath:
        """Where a worker writes a result."""
        if self.kind == "folder":
            return self.place / target
        if self.kind == "picture":
            return self.place
        # a flat name: archives may hold names that no file system takes
        return self.work / "pictures" / hashlib.sha256(target.encode()).hexdigest()[:32]

    @contextmanager
    def writing(self, target: str) -> Iterator[Path]:
        """A local path to write a result to; it takes its place when the block ends without an error.

        Unfinished files lie in the work folder, which goes when the run is done, not among the results.
        """
        slot = self.slot(target)
        if slot.local is None or self.work.local is None:
            with tempfile.TemporaryDirectory(prefix="facesr-") as folder:
                path = Path(folder) / "picture"
                yield path
                with slot.writing() as handle, path.open("rb") as source:
                    while chunk := source.read(8 << 20):
                        handle.write(chunk)
            return
        path = self.work.local / "incoming" / secrets.token_hex(8)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield path
            with path.open("rb+") as handle:
                os.fsync(handle.fileno())
            slot.local.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, slot.local)
        finally:
            path.unlink(missing_ok=True)


def _kind(place: StoragePath) -> str:
    if place.is_dir():
        return "folder"
    by_suffix = {".zip": "zip", ".tar": "tar", ".parquet": "parquet"}
    return by_suffix.get(place.suffix.lower(), "picture" if format_of(place.name) else "folder")
