"""The 256x256 inputs: faces reduced by the one bicubic. The only pictures that training ever sees."""

from pathlib import Path
from typing import Any

from pipeline.distributed import Statistics, Unit
from pipeline.images import decode, encode_png, resize
from pipeline.schema import FACES
from pipeline.shards import read_range, write_rows

SIDE = 256
"""Side of an input, pixels."""


class InputWorker:
    """Columns in: FACES. Columns out: FACES with the picture reduced to 256x256; ids, names and order kept."""

    def __init__(self, faces: str):
        self.faces = Path(faces)

    def __call__(self, unit: Unit) -> Statistics:
        """Write the unit's part."""
        rows = read_range(self.faces / f"{unit['stem']}.parquet", unit["start"], unit["stop"])
        count = write_rows(Path(unit["part"]), (self._reduced(row) for row in rows), FACES)
        return {"images": count, "failed": 0}

    @staticmethod
    def _reduced(row: dict[str, Any]) -> dict[str, Any]:
        if (row["width"], row["height"]) == (SIDE, SIDE):
            return row  # an input already: its bytes are kept untouched
        pixels = resize(decode(row["image"]["bytes"]), SIDE, SIDE)
        image = {"bytes": encode_png(pixels), "path": row["image"]["path"]}
        return row | {"image": image, "width": SIDE, "height": SIDE}
