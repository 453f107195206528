"""What every source of pictures is: named entries, and their bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

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


def wanted(name: str) -> bool:
    """Whether a file may be a picture: neither hidden nor one of the SIDECARS."""
    path = PurePosixPath(name.replace("\\", "/"))
    hidden = any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in path.parts)
    return not hidden and path.suffix.lower() not in SIDECARS


def unsafe(name: str) -> str:
    """Why a name inside an archive must not be used; empty where it may."""
    path = PurePosixPath(name.replace("\\", "/"))
    return "its path points outside the archive" if path.is_absolute() or ".." in path.parts else ""


def file_stamp(path: Path) -> list[int]:
    """Size and time of a file: what changes when the file does."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]


def read_file(path: Path) -> bytes:
    """Bytes of a file, or a SourceError that says why not."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot be read ({error.strerror})") from error
