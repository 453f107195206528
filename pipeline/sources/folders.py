"""Procedural portraits, one picture file, a folder of them, and several sources as one."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.core.images import encode_png
from pipeline.sources.base import (
    Entry,
    FileSource,
    Source,
    SourceError,
    archive_inside,
    entry_of,
    read_file,
    readable,
    short_text,
)
from pipeline.sources.names import is_hidden, normalized, wanted
from pipeline.storage.path import StoragePath, tree_order


class Synthetic:
    """Procedural portraits, drawn when read."""

    def __init__(self, count: int, seed: int):
        self.count, self.seed, self.passed_over = count, seed, 0

    def entries(self) -> Iterator[Entry]:
        """portrait-000000.png and on."""
        # here, as it imports OpenCV, which most have no use for
        from pipeline.synthetic.portrait import VERSION, file_name

        for index in range(self.count):
            yield Entry(file_name(index), index, stamp=VERSION)

    def read(self, key: Any) -> bytes:
        """Draw and encode one portrait."""
        from pipeline.synthetic.portrait import portrait

        return encode_png(portrait(self.seed, key))


class Single(FileSource):
    """One picture file."""

    def entries(self) -> Iterator[Entry]:
        """The file itself."""
        with readable(self.path):
            stamp = self.path.stamp()
        yield entry_of(self.path.name, self.path.name, None, stamp, stamp[0])

    def read(self, key: Any) -> bytes:
        """Its bytes."""
        return read_file(self.path)


class Folder:
    """A folder and its sub-folders.

    Args:
        path: the folder.
        listing: its files, as `path.files` gives them, where they are known.
        order: what its files are sorted by, given their names.
    """

    def __init__(
        self,
        path: StoragePath,
        listing: list[tuple[str, int, Any]] | None = None,
        order: Callable[[str], Any] = tree_order,
    ):
        self.path, self.listing, self.order, self.passed_over = path, listing, order, 0

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "listing": None}  # readers do not need it

    def entries(self) -> Iterator[Entry]:
        """Files in order; links that lead out of the folder are named, not followed."""
        local = self.path.local
        self.passed_over = 0
        if local is not None:
            yield from self._local_entries(local)
            return
        with readable(self.path):
            listing = list(self.path.files()) if self.listing is None else self.listing
        for name, size, stamp in sorted(listing, key=lambda item: self.order(item[0])):
            if wanted(name):
                # a store takes any key for a name; a path would be another key
                problem = None if normalized(name) == name else "its key has empty parts or dots for parts"
                yield entry_of(name, name, problem or archive_inside(name, "folder"), stamp, size)
            else:
                self.passed_over += not is_hidden(name)

    def read(self, key: Any) -> bytes:
        """Bytes of a file."""
        return read_file(self.path / key)

    def _local_entries(self, folder: Path) -> Iterator[Entry]:
        def count(_: str) -> None:
            self.passed_over += 1

        root = folder.resolve()
        for name, problem in sorted(walk(folder, count), key=lambda item: self.order(item[0])):
            path = folder / name
            try:
                link = path.is_symlink()
                if problem is None and link and not path.exists():
                    problem = "a link that leads nowhere"
                if problem is not None:
                    yield entry_of(name, name, problem)
                elif path.is_file():
                    stamp = StoragePath.of(path).stamp()
                    outside = link and not path.resolve().is_relative_to(root)
                    problem = "a link that points outside the folder" if outside else archive_inside(name, "folder")
                    yield entry_of(name, name, problem, stamp, stamp[0])
                elif path.exists():
                    yield entry_of(name, name, "a FIFO, socket or device, no file")
            except OSError as error:
                yield entry_of(name, name, f"cannot be read ({short_text(error)})")


class Several:
    """Sources one after the other, such as the tars of a WebDataset.

    Args:
        parts: what each is called, and the source. Entries are named `label/name`, of a single picture just `label`.
    """

    def __init__(self, parts: Sequence[tuple[str, Source]]):
        self.parts = list(parts)

    @property
    def passed_over(self) -> int:
        """Of all parts."""
        return sum(part.passed_over for _, part in self.parts)

    def entries(self) -> Iterator[Entry]:
        """All entries, part by part; a part that cannot be read is named and the others are read."""
        for number, (label, part) in enumerate(self.parts):
            try:
                for entry in part.entries():
                    name = label if isinstance(part, Single) else f"{label}/{entry.name}"
                    yield replace(entry, name=name, key=[number, entry.key])
            except (SourceError, OSError) as error:
                yield Entry(label, None, str(error))

    def read(self, key: Any) -> bytes:
        """Bytes of an entry."""
        number, inner = key
        return self.parts[number][1].read(inner)


def walk(root: Path, passed_over: Callable[[str], object] = bool) -> Iterator[tuple[str, str | None]]:
    """Files below a folder that may be pictures, in no certain order: relative posix name, what is wrong with it.

    Args:
        root: the folder.
        passed_over: is told of each other file that is not hidden.
    """
    failed: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=failed.append):
        inner = Path(folder).relative_to(root)
        linked = {name for name in folders if Path(folder, name).is_symlink()}
        # hidden folders can be large and are passed over anyway
        folders[:] = sorted(name for name in folders if wanted(f"{name}/x"))
        # img2dataset keeps what it knows of the pictures in folder `00000` in `00000.parquet`
        tables = {f"{name}.parquet" for name in folders if name.isdecimal()}
        for name in (*files, *linked):
            if wanted(path := (inner / name).as_posix()) and name not in tables:
                yield path, "a linked folder, not followed" if name in linked else None
            elif not is_hidden(path):
                passed_over(path)
    for error in failed:
        yield Path(error.filename).relative_to(root).as_posix(), f"a folder that cannot be read ({short_text(error)})"
