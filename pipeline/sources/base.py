"""Sources of pictures: named entries and their bytes, which names and sizes are refused, and errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Protocol
from unicodedata import category

from pipeline.core.errors import FacesrError, first_line
from pipeline.storage.path import StorageError, StoragePath

SIDECARS = {
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".html", ".xml", ".yaml", ".yml", ".npy", ".ini"),
    # of WebDataset; pickles among them are never opened
    *(".cls", ".cls2", ".index", ".inx", ".id", ".ids", ".text", ".caption", ".transcript", ".jsn", ".count"),
    *(".npz", ".pyd", ".pickle", ".pkl", ".mp", ".msg", ".ten", ".tb", ".pt", ".pth", ".safetensors", ".mat"),
    *(".bbox", ".lbl", ".labels", ".md5", ".sha1", ".sha256"),
}
"""Files beside the pictures that are passed over; anything else is tried, and named if it is no picture."""
REPORTS = ("manifest.parquet", "manifest.csv")
"""What this project writes beside pictures: files of these names, or that end in a dot and one of these."""
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
TFRECORDS = (".tfrecords", ".tfrecord")
HDF5 = (".h5", ".hdf5")
ARCHIVES = (".zip", ".parquet", *TARS, *TFRECORDS, *HDF5)
FOREIGN = (".7z", ".rar")
"""Archives that cannot be read."""
MAX_BYTES = 1 << 30
"""Largest entry that is read; the encoded pictures that are decoded at all are smaller."""


class SourceError(FacesrError):
    """A source or an entry that cannot be read; the message says which and why."""


@dataclass(frozen=True)
class Entry:
    """One file of a source."""

    name: str
    """Path inside the source, printable: undecodable bytes and control characters are replaced."""
    key: Any
    """What `read` needs to find it; JSON-like."""
    problem: str | None = None
    """Why it cannot be read, where listing shows that already."""
    stamp: Any = None
    """Changes when the file does, so that work done on an older one is not taken for this one's; JSON-like."""
    size: int = 0
    """Encoded bytes; 0 where listing does not know."""
    labels: dict[str, str] = field(default_factory=dict)
    """Values of the columns that were asked for when the source was opened; empty where a row has none."""


class Source(Protocol):
    """Something that holds pictures. It can be pickled, and `read` may be called from several threads at once."""

    def entries(self) -> Iterator[Entry]:
        """All entries in a fixed order."""

    def read(self, key: Any) -> bytes:
        """Bytes of an entry.

        Raises:
            SourceError: it cannot be read.
        """


def listed(name: str, problem: str | None = None, stamp: Any = None, size: int = 0) -> Entry:
    """The entry of a file in a folder; of one that is too large with that reason."""
    return Entry(printable(name), name, problem or rejection_reason(size=size), stamp, size)


class FileSource:
    """Base of the sources that are one file."""

    def __init__(self, path: StoragePath):
        self.path = path

    def truncated(self, reason: str) -> Entry:
        """The entry that names where the file breaks off."""
        return Entry(printable(self.path.name), None, f"truncated archive ({reason}); what came before it was read")


def wanted(name: str) -> bool:
    """True if a file may be a picture: neither hidden nor one of the SIDECARS or REPORTS."""
    path = PurePosixPath(name.replace("\\", "/"))
    hidden = any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in path.parts)
    report = f".{path.name.lower()}".endswith(tuple(f".{name}" for name in REPORTS))
    return not hidden and not report and path.suffix.lower() not in SIDECARS


def rejection_reason(name: str = "", size: int = 0) -> str | None:
    """Why an entry must not be read: its name points outside its archive, or it is too large; None where it may."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        return "its path points outside the archive"
    return f"too large ({size:,} bytes, at most {MAX_BYTES:,} are read)" if size > MAX_BYTES else None


def check_size(size: int) -> None:
    """Refuse to read an entry of that many bytes if it is too large.

    Raises:
        SourceError: it is.
    """
    if reason := rejection_reason(size=size):
        raise SourceError(reason)


def printable(name: str) -> str:
    """A name as text that can be shown and stored; what is no text in it becomes U+FFFD."""
    if name.isprintable():
        return name
    text = name.encode("utf-8", "surrogateescape" if not _lone(name) else "replace").decode("utf-8", "replace")
    return "".join("\ufffd" if category(character) == "Cc" else character for character in text)


def short_text(error: OSError) -> str:
    """What an operating system's or store's error says, short."""
    return error.strerror or str(error)


@contextmanager
def readable(path: StoragePath | None = None) -> Iterator[None]:
    """Turn what a disk or store raises into a SourceError that names the path, or none of an entry of a source."""
    try:
        yield
    except OSError as error:
        if path is not None and isinstance(error, StorageError):
            raise SourceError(str(error)) from error
        prefix = "" if path is None else f"{path}: "
        raise SourceError(f"{prefix}cannot be read ({short_text(error)})") from error


@contextmanager
def damaged(what: str, advice: str = "") -> Iterator[None]:
    """Turn whatever a library raises into a SourceError, `what (its reason)advice`; what a store raises stays."""
    try:
        yield
    except (SourceError, StorageError):
        raise
    except Exception as error:
        raise SourceError(f"{what} ({first_line(error)}){advice}") from error


def read_file(path: StoragePath) -> bytes:
    """Bytes of a file, or a SourceError that says why not."""
    with readable(), path.open() as handle:
        check_size(handle.seek(0, 2))
        handle.seek(0)
        return handle.read()


def _lone(name: str) -> bool:
    """True if a surrogate in it does not stand for an undecodable byte."""
    return any(category(character) == "Cs" and not "\udc80" <= character <= "\udcff" for character in name)
