"""Write any number of procedural portraits as a folder, a zip or Parquet shards: `facesr synth`."""

import re
import zipfile
from pathlib import Path

from pipeline.core.errors import FacesrError
from pipeline.core.files import atomic, write_bytes
from pipeline.core.images import encode_png, pixel_hash, resize
from pipeline.core.schema import PICTURES, Row
from pipeline.core.shards import read_folder, read_rows, write_rows, write_shards
from pipeline.runtime.units import RowUnit, Statistics
from pipeline.synthetic.portrait import file_name, portrait

UNIT = 32
"""Portraits in a work unit."""
SHARD = "portraits-{:05d}.parquet"


class ReplaceError(FacesrError):
    """A file that is not one of these portraits stands where one is to be written."""


def plan_units(count: int, parts: Path) -> list[RowUnit]:
    """Units of consecutive portraits."""
    starts = range(0, count, UNIT)
    return [RowUnit(str(parts / f"{start:08d}.parquet"), start, min(start + UNIT, count)) for start in starts]


class PortraitWorker:
    """Columns in: a range of indices. Columns out: PICTURES (without pictures where they go to a folder)."""

    def __init__(self, seed: int, size: int, folder: str | None, overwrite: bool = False):
        self.seed, self.size, self.folder, self.overwrite = seed, size, folder, overwrite

    def __call__(self, unit: RowUnit) -> Statistics:
        """Write the unit's pictures and its part."""
        rows = [self._row(index) for index in range(unit.start, unit.stop)]
        write_rows(Path(unit.part), rows, PICTURES)
        return {"images": len(rows), "failed": 0}

    def _row(self, index: int) -> Row:
        name, pixels = file_name(index), portrait(self.seed, index)
        if pixels.shape[0] != self.size:
            pixels = resize(pixels, self.size, self.size)
        data = encode_png(pixels)
        if self.folder is not None:
            write_new(Path(self.folder) / name, data, self.overwrite)
        image = {"bytes": data, "path": name} if self.folder is None else None
        return {"id": pixel_hash(pixels), "image": image, "name": name, "width": self.size, "height": self.size}


def write_new(path: Path, data: bytes, overwrite: bool) -> None:
    """Write a file, but not over another one: the same bytes are what a run that was killed has left.

    Raises:
        ReplaceError: the file is there with other bytes.
    """
    if not overwrite and path.exists():
        if not path.is_file() or path.read_bytes() != data:
            raise ReplaceError(f"{path} is there and another picture: name another OUTPUT, or --overwrite")
        return
    write_bytes(path, data)


def is_ours(path: Path) -> bool:
    """True if a zip, a Parquet file or a folder of its shards holds portraits of `facesr synth` and nothing else."""
    if path.is_dir():
        return all(re.fullmatch(r"\..*|portraits-\d+\.parquet", one.name) for one in path.iterdir()) and all(
            is_ours(shard) for shard in path.glob("portraits-*.parquet")
        )
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    else:
        names = [row["name"] for row in read_rows(path, ["id", "name", "width", "height"])]
    return all(re.fullmatch(r"portrait-\d+\.png", name) for name in names)


def finish(parts: Path, output: Path, kind: str) -> None:
    """Assemble the parts into a zip, one Parquet file or a folder of Parquet shards of 256 MB."""
    rows = read_folder(parts)
    if kind == "zip":
        with atomic(output) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for row in rows:
                archive.writestr(zipfile.ZipInfo(row["name"]), row["image"]["bytes"])
    elif output.suffix.lower() == ".parquet":
        write_rows(output, rows, PICTURES)
    else:
        for old in output.glob("portraits-*.parquet"):
            old.unlink()  # the new run may have fewer
        write_shards(output, SHARD.format, rows, PICTURES, 256 << 20)
