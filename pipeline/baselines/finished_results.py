"""Folders of finished results, made by any tool, as a method to compare with."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from pipeline.core.errors import FacesrError
from pipeline.core.images import Pixels, decode
from pipeline.models.weights_file import ModelError

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp")


class ResultError(FacesrError):
    """A face has no result of a method, or one that is not four times its input."""


def load_results(folder: Path, scale: str) -> Callable[[str], Pixels]:
    """Take a folder of finished results as a method: a face's name -> uint8 (h, w, 3).

    Args:
        folder: `64to256/`, `256to1024/`, `256to1024-jpeg75/` … in it hold the pictures, named like the faces
            (sub-folders and the name's suffix do not count); pictures right in it are taken for 256to1024.
        scale: one of `core.degradation.MEASURED_SCALES`.

    Raises:
        ModelError: there is no such folder, or two pictures have one name. The method: ResultError, ImageError.
    """
    pictures = folder / scale
    if not pictures.is_dir():
        pictures = folder
        if scale != "256to1024" or not folder.is_dir():
            raise ModelError(f"{folder}: no folder {scale} of results in it")
    files: dict[str, Path] = {}
    for path in sorted(pictures.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            if path.stem in files:
                raise ModelError(f"{path} and {files[path.stem]}: two results of one name")
            files[path.stem] = path

    def result(name: str) -> Pixels:
        path = files.get(Path(name).stem)
        if path is None:
            raise ResultError(f"{pictures} has no picture called {Path(name).stem}")
        return decode(path.read_bytes())

    return result
