"""Match files of two places by name: by path without suffix, else by the file's name alone where that is unique."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Generic, TypeVar

from pipeline.core.errors import FacesrError

T = TypeVar("T")


class MatchError(FacesrError):
    """Nothing belongs together: no file has the name of another."""


def bare(name: str) -> str:
    """A path without its suffix: `a/face.01.png` -> `a/face.01`; `face.01` is left as it is."""
    path = PurePosixPath(name.replace("\\", "/"))
    return str(path.with_suffix("")) if path.suffix and not path.suffix[1:].isdigit() else str(path)


def file_of(name: str) -> str:
    """The file's name alone, without suffix."""
    return PurePosixPath(bare(name)).name


def unique_files(names: Iterable[str]) -> set[str]:
    """File names without suffix that only one of the names has: these are known without their folder."""
    return {file for file, count in Counter(map(file_of, names)).items() if count == 1}


class NameIndex(Generic[T]):
    """Things by name, found again under a name with another suffix or folder."""

    def __init__(self, things: Iterable[tuple[str, T]]) -> None:
        self._paths: dict[str, list[T]] = {}
        self._files: dict[str, list[T]] = {}
        self._names: list[str] = []
        for name, thing in things:
            self._names.append(name)
            self._paths.setdefault(bare(name), []).append(thing)
            self._files.setdefault(file_of(name), []).append(thing)

    def find(self, name: str, by_file: bool) -> list[T]:
        """Those of this path; else, `by_file`, those of this file name in any folder."""
        exact = self._paths.get(bare(name))
        return exact or (self._files.get(file_of(name), []) if by_file else [])

    def names(self) -> list[str]:
        """Every name, in order."""
        return sorted(self._names)
