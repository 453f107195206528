"""Inputs: faces reduced to 256x256 by the one bicubic, smaller ones as they are. Training sees nothing else."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.images import decode, encode_png, resize
from pipeline.core.scales import SIDE
from pipeline.core.schema import FACES, Row
from pipeline.core.seal import is_sealed
from pipeline.core.shards import read_range, write_rows
from pipeline.runtime.units import RowUnit, Statistics

_MADE_OF = b"facesr_made_of"
"""Of a shard's metadata: hash of the shard of faces that it was made of, and of the code."""


def made_of(digest: str) -> pa.Schema:
    """The schema of inputs that says which faces they were made of."""
    return FACES.with_metadata(FACES.metadata | {_MADE_OF: digest.encode()})


def is_made_of(folder: Path, stem: str, digest: str) -> bool:
    """True if a shard of inputs is there that was made of the faces of this hash, and is as it was written."""
    path = folder / f"{stem}.parquet"
    try:
        named = path.is_file() and pq.read_schema(path).equals(made_of(digest), check_metadata=True)
    except pa.ArrowException:
        return False  # damaged: made again
    return named and is_sealed(path)


class InputWorker:
    """Columns in: FACES. Columns out: FACES with larger images reduced to 256x256; ids, names and order kept."""

    def __init__(self, faces: str):
        self.faces = Path(faces)

    def __call__(self, unit: RowUnit) -> Statistics:
        """Write the unit's part."""
        rows = read_range(self.faces / f"{unit.stem}.parquet", unit.start, unit.stop)
        count = write_rows(Path(unit.part), (self._reduced(row) for row in rows), FACES)
        return {"images": count, "failed": 0}

    @staticmethod
    def _reduced(row: Row) -> Row:
        if max(row["width"], row["height"]) <= SIDE:
            return row  # an input already, or smaller: its bytes are kept untouched
        pixels = resize(decode(row["image"]["bytes"]), SIDE, SIDE)
        image = {"bytes": encode_png(pixels), "path": row["image"]["path"]}
        return row | {"image": image, "width": SIDE, "height": SIDE}
