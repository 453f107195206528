"""Where faces come from: folder, zip, tar, Parquet, TFRecord, HDF5 or procedural portraits, as entries and their bytes.

Nothing is decoded here. `entries` lists in a fixed order without reading pictures; `read` gets one entry's bytes and
can be called from any process or thread, so that workers read for themselves. A source can be pickled: hand an opened
one to workers, since opening a folder again means listing it again.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.sources.archives import Tar, Zip
from pipeline.sources.base import FOREIGN, HDF5, TARS, TFRECORDS, Source, SourceError, readable, wanted
from pipeline.sources.celeba import FOLDERS, numeric_order, pictures_folder
from pipeline.sources.folders import Folder, Single, Synthetic, walk
from pipeline.sources.hdf5 import Hdf5
from pipeline.sources.multi import Several
from pipeline.sources.parquet import ParquetFiles
from pipeline.sources.patterns import expand, labels
from pipeline.sources.tfrecords import TFRecords, largest
from pipeline.storage.path import StorageError, StoragePath, tree_order

PICTURES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""What is taken for a picture without a look at its content."""


def open_source(description: Mapping[str, Any], scratch: Path) -> Source:
    """Open what a `sources` item of params describes.

    Args:
        description: `{"kind": "synthetic", "count", "seed"}` or `{"kind": "archive", "path"}`, the latter also with
            `"columns"`, as for `open_archive`.
        scratch: folder for unpacking what cannot be read from the middle (compressed tars).

    Raises:
        SourceError: missing, empty or of an unknown kind.
    """
    if description["kind"] == "synthetic":
        return Synthetic(description["count"], description["seed"])
    return open_archive(description["path"], scratch, description.get("columns", ()))


def open_archive(path: str, scratch: Path, columns: Sequence[str] = ()) -> Source:
    """Open a folder, .zip, .tar (.gz, .bz2, .xz, .zst), Parquet, TFRecord or HDF5 file, picture or several of these.

    Several are named by a `*`, by a brace pattern (`shard-{000..009}.tar`) or, all of one kind other than zip, by the
    folder they lie in; of TFRecord files that hold one set at several sizes (`-r02` to `-r10`), such a folder stands
    for the largest. All of these may lie on a local disk or on an object store (`s3://bucket/…`, `hf://datasets/…`).

    Args:
        path: path, pattern or URI.
        scratch: folder for unpacking what cannot be read from the middle (compressed tars).
        columns: columns of text or numbers that each entry carries as its labels; only Parquet has them.

    Raises:
        SourceError: there is nothing of that name, or it cannot be read, or it has no columns; one that lacks a
            column says so when it is listed.
    """
    try:
        place = StoragePath.of(path)
    except StorageError as error:
        raise SourceError(str(error)) from error
    with readable(place):
        places = expand(path)
        if places:
            return _several(places, scratch, columns)
        if place.is_dir():
            return _folder(place, scratch, columns)
        if place.exists():
            return _file(place, scratch, columns)
    raise SourceError(f"{place}: no such file or folder")


def _several(places: Sequence[StoragePath], scratch: Path, columns: Sequence[str]) -> Source:
    if all(place.suffix.lower() == ".parquet" for place in places):
        return ParquetFiles(places, columns)
    # what a pattern finds on an object store are files
    openers = [_folder if place.local is not None and place.is_dir() else _file for place in places]
    if len(places) == 1:
        return openers[0](places[0], scratch, columns)
    opened = [opener(place, scratch, columns) for opener, place in zip(openers, places, strict=True)]
    return Several(list(zip(labels(places), opened, strict=True)))


def _file(place: StoragePath, scratch: Path, columns: Sequence[str]) -> Source:
    """By its suffix; what has none that is known may be a zip by its content."""
    name = place.name.lower()
    if name.endswith(".parquet"):
        return ParquetFiles([place], columns)
    _no_columns(place, columns)
    if name.endswith(FOREIGN):
        raise SourceError(f"{place}: archives of this kind cannot be read; unpack it and name the folder")
    if name.endswith(PICTURES):
        return Single(place)
    if name.endswith(TFRECORDS):
        return TFRecords(place)
    if name.endswith(HDF5):
        return Hdf5(place)
    tar = name.endswith(TARS)
    if name.endswith(".zip") or (not tar and _is_zip(place)):
        return Zip(place)
    return Tar(place, scratch) if tar else Single(place)


def _folder(place: StoragePath, scratch: Path, columns: Sequence[str]) -> Source:
    """Archives of one kind alone are what is in them; else it is a folder of pictures."""
    local = place.local
    listing = None if local is not None else list(place.files())
    inner = _celeba(place, listing)
    if inner:
        _no_columns(place, columns)
        return Folder(place / inner, order=numeric_order)
    names = (
        (name for name, problem in walk(local) if not problem)
        if local is not None
        else (name for name, _, _ in listing or [] if wanted(name))
    )
    found: list[str] = []
    kind: tuple[str, ...] = ()
    for name in names:
        this = next((ends for ends in _TOGETHER if name.lower().endswith(ends)), ())
        kind = kind or this
        if not this or this != kind:
            _no_columns(place, columns)
            return Folder(place, listing)  # soon, also where there are millions
        found.append(name)
    places = [place / name for name in sorted(found, key=tree_order)]
    if kind == TFRECORDS:
        places = largest(places)
    return _several(places, scratch, columns) if places else Folder(place, listing)


_TOGETHER: tuple[tuple[str, ...], ...] = ((".parquet",), TARS, TFRECORDS, HDF5)
"""Kinds of archives that a folder may consist of."""


def _celeba(place: StoragePath, listing: list[tuple[str, int, Any]] | None) -> str:
    """Where the pictures of an unpacked CelebAMask-HQ lie below a folder; empty where it is none."""
    local = place.local
    if local is None:
        return pictures_folder(name for name, _, _ in listing or []).rstrip("/")
    return next((folder.rstrip("/") for folder in FOLDERS if (local / folder).is_dir()), "")


def _no_columns(place: StoragePath, columns: Sequence[str]) -> None:
    if columns:
        raise SourceError(f"{place}: has no columns ({', '.join(columns)}); only Parquet has")


def _is_zip(place: StoragePath) -> bool:
    with place.open() as handle:
        return zipfile.is_zipfile(handle)
