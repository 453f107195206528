"""Procedural portraits, one picture file, a folder of them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.core.images import encode_png
from pipeline.sources.base import Entry, FileSource, archive_inside, entry_of, read_file, readable, short_text
from pipeline.sources.names import normalized, wanted
from pipeline.storage.path import StoragePath, tree_order
from pipeline.synthetic.portrait import VERSION, file_name, portrait


class Synthetic:
    """Procedural portraits, drawn when read."""

    def __init__(self, count: int, seed: int):
        self.count, self.seed = count, seed

    def entries(self) -> Iterator[Entry]:
        """portrait-000000.png and on."""
        for index in range(self.count):
            yield Entry(file_name(index), index, stamp=VERSION)

    def read(self, key: Any) -> bytes:
        """Draw and encode one portrait."""
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
        self.path, self.listing, self.order = path, listing, order

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "listing": None}  # readers do not need it

    def entries(self) -> Iterator[Entry]:
        """Files in order; links that lead out of the folder are named, not followed."""
        local = self.path.local
        if local is not None:
            yield from _local_entries(local, self.order)
            return
        with readable(self.path):
            listing = list(self.path.files()) if self.listing is None else self.listing
        for name, size, stamp in sorted(listing, key=lambda item: self.order(item[0])):
            if wanted(name):
                # a store takes any key for a name; a path would be another key
                problem = None if normalized(name) == name else "its key has empty parts or dots for parts"
                yield entry_of(name, name, problem or archive_inside(name, "folder"), stamp, size)

    def read(self, key: Any) -> bytes:
        """Bytes of a file."""
        return read_file(self.path / key)


def walk(root: Path) -> Iterator[tuple[str, str | None]]:
    """Files below a folder that may be pictures, in no certain order: relative posix name, what is wrong with it."""
    failed: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=failed.append):
        inner = Path(folder).relative_to(root)
        linked = {name for name in folders if Path(folder, name).is_symlink()}
        # hidden folders can be large and are passed over anyway
        folders[:] = sorted(name for name in folders if wanted(f"{name}/x"))
        for name in (*files, *linked):
            if wanted(path := (inner / name).as_posix()):
                yield path, "a linked folder, not followed" if name in linked else None
    for error in failed:
        yield Path(error.filename).relative_to(root).as_posix(), f"a folder that cannot be read ({short_text(error)})"


def _local_entries(folder: Path, order: Callable[[str], Any]) -> Iterator[Entry]:
    root = folder.resolve()
    for name, problem in sorted(walk(folder), key=lambda item: order(item[0])):
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
        except OSError as error:
            yield entry_of(name, name, f"cannot be read ({short_text(error)})")
