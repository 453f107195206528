"""Folders of finished results, made by any tool, as a method to compare with."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from pipeline.core.images import Pixels, decode
from pipeline.models.checkpoint import ModelError

PICTURES: Final = (".png", ".jpg", ".jpeg", ".webp")


def load_results(folder: Path, scale: str) -> Callable[[str], Pixels]:
    """A folder of finished results as a method: a face's name -> uint8 (h, w, 3).

    Args:
        folder: `64to256/` and `256to1024/` in it hold the pictures, named like the faces (sub-folders and the name's
            suffix do not count); pictures right in it are taken for 256to1024.
        scale: `64to256` or `256to1024`.

    Raises:
        ModelError: there is no such folder, or two pictures have one name.
    """
    place = folder / scale
    if not place.is_dir():
        place = folder
        if scale != "256to1024" or not folder.is_dir():
            raise ModelError(f"{folder}: no folder {scale} of results in it")
    files: dict[str, Path] = {}
    for path in sorted(place.rglob("*")):
        if path.suffix.lower() in PICTURES and path.is_file():
            if path.stem in files:
                raise ModelError(f"{path} and {files[path.stem]}: two results of one name")
            files[path.stem] = path

    def result(name: str) -> Pixels:
        path = files.get(Path(name).stem)
        if path is None:
            raise ValueError(f"{place} has no picture called {Path(name).stem}")
        return decode(path.read_bytes())

    return result
