"""Open a source by its name: folder, zip, tar, Parquet, TFRecord, HDF5 or picture, as entries and their bytes.

Nothing is decoded here. `entries` lists in a fixed order without reading pictures; `read` gets one entry's bytes and
can be called from any process or thread, so that workers read for themselves. A source can be pickled: hand an opened
one to workers, since opening a folder again means listing it again.
"""

import zipfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pipeline.sources.base import FOREIGN, HDF5, TARS, TFRECORDS, Reading, Source, SourceError, readable
from pipeline.sources.folders import Folder, Several, Single, walk
from pipeline.sources.hdf5 import Hdf5
from pipeline.sources.names import CELEBA_FOLDERS, numeric_order, pictures_folder, wanted
from pipeline.sources.parquet import ParquetFiles
from pipeline.sources.patterns import expand, labels
from pipeline.sources.tars import Tar
from pipeline.sources.tfrecords import TFRecords, largest
from pipeline.sources.zips import Zip
from pipeline.storage.path import StorageError, StoragePath, tree_order

PICTURES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""What is taken for a picture without a look at its content."""
PARQUET = (".parquet",)

Opener = Callable[[StoragePath, Path, Reading], Source]
"""Opens a file; the folder is for unpacking it."""

CONTAINERS: dict[tuple[str, ...], Opener] = {
    PICTURES: lambda path, scratch, reading: Single(path),
    (".zip",): lambda path, scratch, reading: Zip(path, reading.zip_encoding),
    TARS: lambda path, scratch, reading: Tar(path, scratch),
    TFRECORDS: lambda path, scratch, reading: TFRecords(path),
    HDF5: lambda path, scratch, reading: Hdf5(path),
}
"""Endings of a name -> what opens the file. Parquet, which alone has columns, is apart."""

_TOGETHER = (PARQUET, TARS, TFRECORDS, HDF5)
"""Kinds of archives that a folder may consist of."""


def open_archive(
    path: str,
    scratch: Path,
    columns: Sequence[str] = (),
    reading: Reading | None = None,
    left_out: Collection[StoragePath] = (),
) -> Source:
    """Open a folder, .zip, .tar (.gz, .bz2, .xz, .zst), Parquet, TFRecord or HDF5 file, picture or several of these.

    Several are named by a `*`, by a brace pattern (`shard-{000..009}.tar`) or, all of one kind other than zip, by the
    folder they lie in; of TFRecord files that hold one set at several sizes (`-r02` to `-r10`), such a folder stands
    for the largest. All of these may lie on a local disk or on an object store (`s3://bucket/…`, `hf://datasets/…`).

    Args:
        path: path, pattern or URI.
        scratch: folder for unpacking what cannot be read from the middle (compressed tars).
        columns: columns of text or numbers that each entry carries as its labels; only Parquet has them.
        reading: what the user says of it.
        left_out: files and folders that a pattern does not stand for.

    Raises:
        SourceError: there is nothing of that name, or it cannot be read, or it has no columns; one that lacks a
            column says so when it is listed.
    """
    reading = replace(reading or Reading(), columns=tuple(columns))
    try:
        root = StoragePath.of(path)
    except StorageError as error:
        raise SourceError(str(error)) from error
    with readable(root):
        if files := expand(path):
            return _several([file for file in files if file not in left_out], scratch, reading)
        if root.is_dir():
            return _folder(root, scratch, reading)
        if root.exists():
            return _file(root, scratch, reading)
    raise SourceError(f"{root}: no such file or folder")


def _several(paths: Sequence[StoragePath], scratch: Path, reading: Reading) -> Source:
    paths = _without_tables(paths)
    if all(_is_kind(path.name, PARQUET) for path in paths):
        return ParquetFiles(paths, reading)
    # what a pattern finds on an object store are files
    opened = [
        (_folder if path.local is not None and path.is_dir() else _file)(path, scratch, reading) for path in paths
    ]
    return Several(list(zip(labels(paths), opened, strict=True))) if len(opened) > 1 else opened[0]


def _file(path: StoragePath, scratch: Path, reading: Reading) -> Source:
    """By its suffix; what has none that is known may be a zip by its content."""
    if path.local is not None and not path.is_file():  # a look at it might wait for ever, or never end
        raise SourceError(f"{path}: a FIFO, socket or device, no file")
    if _is_kind(path.name, PARQUET):
        return ParquetFiles([path], reading)
    _no_columns(path, reading)
    if _is_kind(path.name, FOREIGN):
        raise SourceError(f"{path}: archives of this kind cannot be read; unpack it and name the folder")
    opener = next((opener for endings, opener in CONTAINERS.items() if _is_kind(path.name, endings)), None)
    if opener is not None:
        return opener(path, scratch, reading)
    with path.open() as handle:
        return Zip(path, reading.zip_encoding) if zipfile.is_zipfile(handle) else Single(path)


def _folder(path: StoragePath, scratch: Path, reading: Reading) -> Source:
    """Archives of one kind alone are what is in them; else it is a folder of pictures."""
    local = path.local
    if local is not None:
        listing = None
        names = (name for name, problem in walk(local) if problem is None)
        celeba = next((folder for folder in CELEBA_FOLDERS if (local / folder).is_dir()), "")
    else:
        listing = list(path.files())
        names = (name for name, _, _ in listing if wanted(name))
        celeba = pictures_folder(name for name, _, _ in listing)
    if celeba:
        _no_columns(path, reading)
        return Folder(path / celeba.rstrip("/"), order=numeric_order)
    found: list[str] = []
    kind: tuple[str, ...] = ()
    for name in names:
        if _is_mark(name):
            continue
        own = next((endings for endings in _TOGETHER if _is_kind(name, endings)), ())
        kind = kind or own
        beside = {kind, own} == {TARS, PARQUET}
        if not own or (own != kind and not beside):
            _no_columns(path, reading)
            return Folder(path, listing)  # soon, also where there are millions
        found.append(name)
    files = _without_tables([path / name for name in sorted(found, key=tree_order)])
    if {_is_kind(file.name, PARQUET) for file in files} == {True, False}:
        _no_columns(path, reading)
        return Folder(path, listing)
    if kind == TFRECORDS:
        files = largest(files)
    return _several(files, scratch, reading) if files else Folder(path, listing)


def _without_tables(paths: Sequence[StoragePath]) -> Sequence[StoragePath]:
    """Files without the Parquet that img2dataset writes beside each tar: it says of the pictures, and holds none."""
    uris = [path.uri.partition("?")[0] for path in paths]
    tables = {uri.removesuffix(".tar") + ".parquet" for uri in uris if uri.endswith(".tar")}
    return [path for path, uri in zip(paths, uris, strict=True) if uri not in tables]


def _is_kind(name: str, endings: tuple[str, ...]) -> bool:
    return name.lower().endswith(endings)


def _is_mark(name: str) -> bool:
    """True for what Spark and others leave beside Parquet, such as `_SUCCESS`: pictures have a suffix."""
    own = PurePosixPath(name)
    return own.name.startswith("_") and not own.suffix


def _no_columns(path: StoragePath, reading: Reading) -> None:
    columns = reading.columns + ((reading.column,) if reading.column else ())
    if columns:
        raise SourceError(f"{path}: has no columns ({', '.join(columns)}); only Parquet has")
