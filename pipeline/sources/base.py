"""Sources of pictures: named entries and their bytes, which names and sizes are refused, and errors."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.core.errors import FacesrError, first_line
from pipeline.sources.bounds import MAX_BYTES, MAX_NAME, most_entries
from pipeline.sources.content import HEAD, other_than
from pipeline.sources.names import UNNAMED, normalized, outside, printable, shortened
from pipeline.storage.path import StorageError, StoragePath

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
TFRECORDS = (".tfrecords", ".tfrecord")
HDF5 = (".h5", ".hdf5")
ARCHIVES = (".zip", ".parquet", *TARS, *TFRECORDS, *HDF5)
FOREIGN = (".7z", ".rar")
"""Archives that cannot be read."""


class SourceError(FacesrError):
    """A source or an entry that cannot be read; the message says which and why."""


_NO_LABELS: dict[str, str] = {}
"""One for all entries without: of a million each would have its own."""


@dataclass(frozen=True, slots=True)
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
    labels: dict[str, str] = field(default_factory=lambda: _NO_LABELS)
    """Values of the columns that were asked for when the source was opened; empty where a row has none."""


@dataclass(frozen=True)
class Reading:
    """What a user says of a source.

    Raises:
        SourceError: there is no such encoding.
    """

    zip_encoding: str | None = None
    """Encoding of a zip's names that are not marked as UTF-8."""
    column: str | None = None
    """Parquet's column of pictures."""
    columns: tuple[str, ...] = ()
    """Parquet's columns of text or numbers that entries carry as their labels."""

    def __post_init__(self) -> None:
        if self.zip_encoding is not None:
            try:
                # what is no encoding of text, such as hex, raises too
                b"name".decode(self.zip_encoding, "replace")
            except LookupError as error:
                raise SourceError(
                    f"--zip-encoding {self.zip_encoding}: no encoding of text; such as cp932 (Japanese), gbk (Chinese),"
                    " cp437 or utf-8"
                ) from error


class Source(Protocol):
    """Something that holds pictures. It can be pickled, and `read` may be called from several threads at once."""

    @property
    def passed_over(self) -> int:
        """Files beside the pictures that the last listing left out, but for hidden ones."""

    def entries(self) -> Iterator[Entry]:
        """All entries in a fixed order."""

    def read(self, key: Any) -> bytes:
        """Bytes of an entry.

        Raises:
            SourceError: it cannot be read.
        """


def entry_of(name: str, key: Any, problem: str | None = None, stamp: Any = None, size: int = 0) -> Entry:
    """The entry of a file, by the name that its container gives it.

    All names of files and archive members come through here. What comes out is a relative path of printable text
    without empty parts and `.`, or says why its entry is not read.

    Args:
        name: as it is stored, undecodable bytes as surrogates.
        key: what finds it.
        problem: why it cannot be read, as far as that is known.
        stamp: changes when it does.
        size: encoded bytes.
    """
    normal = normalized(printable(name))
    shown = shortened(normal)
    if not normal:
        shown, problem = UNNAMED, "its name is empty"
    elif shown != normal:
        problem = f"its name is too long ({len(name):,} characters, at most {MAX_NAME:,} bytes)"
    return Entry(shown, key, rejection_reason(name, size) or problem, stamp, size)


class FileSource:
    """Base of the sources that are one file."""

    def __init__(self, path: StoragePath):
        self.path, self.passed_over = path, 0

    def truncated(self, reason: str) -> Entry:
        """The entry that names where the file breaks off."""
        return Entry(printable(self.path.name), None, f"truncated archive ({reason}); what came before it was read")

    def overflow(self) -> Entry:
        """The entry that says where listing stopped: kilobytes can claim any number of pictures."""
        most = most_entries(self.path.size())
        reason = f"it lists more pictures than a file of its size can hold; the first {most:,} are read"
        return Entry(printable(self.path.name), None, reason)


def rejection_reason(name: str = "", size: int = 0) -> str | None:
    """Why an entry must not be read: its name points outside its archive, or it is too large; None where it may."""
    if outside(name):
        return "its path points outside the archive"
    return f"too large ({size:,} bytes, at most {MAX_BYTES:,} are read)" if size > MAX_BYTES else None


def archive_inside(name: str, holder: str) -> str | None:
    """Why a file that is an archive by its name is not read as part of a `holder` (folder, zip …)."""
    if name.lower().endswith(FOREIGN):
        return f"an archive inside the {holder}, of a kind that cannot be read: unpack it"
    if name.lower().endswith(ARCHIVES):
        what = "name it as the input itself" if holder == "folder" else "unpack it, and name it as the input itself"
        return f"an archive inside the {holder}: {what}"
    return None


def check_size(size: int) -> None:
    """Refuse to read an entry of that many bytes if it is too large.

    Raises:
        SourceError: it is.
    """
    if reason := rejection_reason(size=size):
        raise SourceError(reason)


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


def refuse_other(path: StoragePath, kind: str) -> None:
    """Say what a file is that turned out not to be of the kind that its name says, where that is known.

    Raises:
        SourceError: it is something else.
    """
    with suppress(OSError):
        if what := other_than(kind, path.read_at(0, HEAD)):
            raise SourceError(f"{path}: {what}")


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
