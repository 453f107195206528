"""Where faces come from: folder, zip, tar, Parquet or procedural portraits, as named entries and their bytes.

Nothing is decoded here. `entries` lists in a fixed order without reading pictures; `read` gets one entry's bytes and
can be called from any process, so that workers read for themselves.
"""

import glob
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.sources.archives import TAR_OPENERS, Tar, Zip
from pipeline.sources.base import Entry, Source, SourceError
from pipeline.sources.files import Folder, Single, Synthetic
from pipeline.sources.tables import ParquetFiles

__all__ = [
    "Entry",
    "Folder",
    "ParquetFiles",
    "Single",
    "Source",
    "SourceError",
    "Synthetic",
    "Tar",
    "Zip",
    "open_archive",
    "open_source",
]


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
    """Open a folder, .zip, .tar (.gz, .bz2, .xz), Parquet file or several of these (a folder of them, or a `*`)."""
    matches = [Path(match) for match in sorted(glob.glob(path))] if "*" in path else [Path(path)]
    if not matches or not matches[0].exists():
        raise SourceError(f"{path}: no such file or folder")
    first = matches[0]
    if len(matches) == 1 and first.is_dir():
        shards = sorted(match for match in first.rglob("*.parquet") if not match.name.startswith("."))
        return ParquetFiles(shards) if shards else Folder(first)
    if all(match.suffix == ".parquet" for match in matches):
        return ParquetFiles(matches)
    if len(matches) > 1:
        raise SourceError(f"{path}: several files can be read together only where all are Parquet")
    if zipfile.is_zipfile(first) or first.suffix.lower() == ".zip":
        return Zip(first)
    if first.name.lower().endswith(tuple(TAR_OPENERS)):
        return Tar(first, scratch)
    return Single(first)
