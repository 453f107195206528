"""Where faces come from: folder, zip, tar, Parquet or procedural portraits, as named entries and their bytes.

Nothing is decoded here. `entries` lists in a fixed order without reading pictures; `read` gets one entry's bytes and
can be called from any process or thread, so that workers read for themselves. A source can be pickled: hand an opened
one to workers, since opening a folder again means listing it again.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.sources.archives import Tar, Zip
from pipeline.sources.base import FOREIGN, TARS, Entry, Source, SourceError, readable, wanted
from pipeline.sources.files import Folder, Single, Synthetic, walk
from pipeline.sources.patterns import expand, labels
from pipeline.sources.several import Several
from pipeline.sources.tables import ParquetFiles
from pipeline.storage import Place, StorageError, tree_order

__all__ = [
    "Entry",
    "Folder",
    "ParquetFiles",
    "Several",
    "Single",
    "Source",
    "SourceError",
    "Synthetic",
    "Tar",
    "Zip",
    "open_archive",
    "open_source",
]

PICTURES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""What is taken for a picture without a look at its content."""


def open_source(description: Mapping[str, Any], scratch: Path) -> Source:
    """Open what a `sources` item of params describes.

    Args:
        description: `{"kind": "synthetic", "count", "seed"}` or `{"kind": "archive", "path"}`.
        scratch: folder for unpacking what cannot be read from the middle (compressed tars).

    Raises:
        SourceError: missing, empty or of an unknown kind.
    """
    if description["kind"] == "synthetic":
        return Synthetic(description["count"], description["seed"])
    return open_archive(description["path"], scratch)


def open_archive(path: str, scratch: Path) -> Source:
    """Open a folder, .zip, .tar (.gz, .bz2, .xz, .zst), Parquet file, picture or several of these.

    Several are named by a `*`, by a brace pattern (`shard-{000..009}.tar`) or, all Parquet or all tars (a WebDataset),
    by the folder they lie in. All of these may lie on a local disk or on an object store (`s3://bucket/…`).

    Args:
        path: path, pattern or URI.
        scratch: folder for unpacking what cannot be read from the middle (compressed tars).

    Raises:
        SourceError: there is nothing of that name, or it cannot be read.
    """
    try:
        place = Place.of(path)
    except StorageError as error:
        raise SourceError(str(error)) from error
    with readable(place):
        places = expand(path)
        if places:
            return _several(places, scratch)
        if place.is_dir():
            return _folder(place, scratch)
        if place.exists():
            return _file(place, scratch)
    raise SourceError(f"{place}: no such file or folder")


def _several(places: Sequence[Place], scratch: Path) -> Source:
    if all(place.suffix.lower() == ".parquet" for place in places):
        return ParquetFiles(places)
    if len(places) == 1 and places[0].local is not None:
        return _folder(places[0], scratch) if places[0].is_dir() else _file(places[0], scratch)
    if len(places) == 1:
        return _file(places[0], scratch)
    parts = []
    for label, place in zip(labels(places), places, strict=True):
        # what a pattern finds on an object store are files
        folder = place.local is not None and place.is_dir()
        parts.append((label, _folder(place, scratch) if folder else _file(place, scratch)))
    return Several(parts)


def _file(place: Place, scratch: Path) -> Source:
    """By its suffix; what has none that is known may be a zip by its content."""
    name = place.name.lower()
    if name.endswith(".parquet"):
        return ParquetFiles([place])
    if name.endswith(FOREIGN):
        raise SourceError(f"{place}: archives of this kind cannot be read; unpack it and name the folder")
    if name.endswith(PICTURES):
        return Single(place)
    tar = name.endswith(TARS)
    if name.endswith(".zip") or (not tar and _is_zip(place)):
        return Zip(place)
    return Tar(place, scratch) if tar else Single(place)


def _folder(place: Place, scratch: Path) -> Source:
    """Only Parquet files, or only tars, are what is in them; else it is a folder of pictures."""
    local = place.local
    listing = None if local is not None else list(place.files())
    names = (
        (name for name, problem in walk(local) if not problem)
        if local is not None
        else (name for name, _, _ in listing or [] if wanted(name))
    )
    found: list[str] = []
    kind = ""
    for name in names:
        lower = name.lower()
        this = ".parquet" if lower.endswith(".parquet") else ".tar" if lower.endswith(TARS) else ""
        kind = kind or this
        if not this or this != kind:
            return Folder(place, listing)  # soon, also where there are millions
        found.append(name)
    places = [place / name for name in sorted(found, key=tree_order)]
    return _several(places, scratch) if places else Folder(place, listing)


def _is_zip(place: Place) -> bool:
    with place.open() as handle:
        return zipfile.is_zipfile(handle)
