"""Procedural portraits, one picture file, a folder of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.images import encode_png
from pipeline.sources.base import Entry, file_stamp, read_file, wanted
from pipeline.synthetic import VERSION, portrait


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
        yield Entry(self.path.name, self.path.name, stamp=file_stamp(self.path))

    def read(self, key: Any) -> bytes:
        """Its bytes."""
        return read_file(self.path)


class Folder:
    """A folder and its sub-folders."""

    def __init__(self, path: Path):
        self.path = path

    def entries(self) -> Iterator[Entry]:
        """Files in name order; links that lead out of the folder are named, not followed."""
        root = self.path.resolve()
        for path in sorted(self.path.rglob("*")):
            name = path.relative_to(self.path).as_posix()
            if not wanted(name):
                continue
            if path.is_symlink() and not path.exists():
                yield Entry(name, name, "a link that leads nowhere")
            elif path.is_file():
                outside = not path.resolve().is_relative_to(root)
                problem = "a link that points outside the folder" if outside else ""
                yield Entry(name, name, problem, file_stamp(path))

    def read(self, key: Any) -> bytes:
        """Bytes of a file."""
        return read_file(self.path / key)
