"""Write any number of procedural portraits as a folder, a zip or Parquet shards: `facesr synth`."""

import zipfile
from pathlib import Path

from pipeline.core.files import atomic, write_bytes
from pipeline.core.images import encode_png, pixel_hash, resize
from pipeline.core.schema import PICTURES, Row
from pipeline.core.shards import read_folder, write_rows, write_shards
from pipeline.runtime.units import RowUnit, Statistics
from pipeline.synthetic.portrait import file_name, portrait

UNIT = 32
"""Portraits in a work unit."""


def plan_units(count: int, parts: Path) -> list[RowUnit]:
    """Units of consecutive portraits."""
    starts = range(0, count, UNIT)
    return [RowUnit(str(parts / f"{start:08d}.parquet"), start, min(start + UNIT, count)) for start in starts]


class PortraitWorker:
    """Columns in: a range of indices. Columns out: PICTURES (without pictures where they go to a folder)."""

    def __init__(self, seed: int, size: int, folder: str | None):
        self.seed, self.size, self.folder = seed, size, folder

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
            write_bytes(Path(self.folder) / name, data)
        image = {"bytes": data, "path": name} if self.folder is None else None
        return {"id": pixel_hash(pixels), "image": image, "name": name, "width": self.size, "height": self.size}


def finish(parts: Path, output: Path) -> None:
    """Assemble the parts into a zip, one Parquet file or a folder of Parquet shards of 256 MB."""
    rows = read_folder(parts)
    if output.suffix.lower() == ".zip":
        with atomic(output) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for row in rows:
                archive.writestr(zipfile.ZipInfo(row["name"]), row["image"]["bytes"])
    elif output.suffix.lower() == ".parquet":
        write_rows(output, rows, PICTURES)
    else:
        write_shards(output, lambda index: f"portraits-{index:05d}.parquet", rows, PICTURES, 256 << 20)
