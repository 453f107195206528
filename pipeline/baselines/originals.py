"""Faces at four times the size of their input: what a supervised method learns from and results are compared with."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pipeline.core.errors import FacesrError
from pipeline.core.images import Pixels, decode
from pipeline.core.scales import FACTOR, SIDE
from pipeline.core.schema import Row
from pipeline.core.shards import read_folder


class NoOriginalsError(FacesrError):
    """The faces have no 1024x1024 originals to be supervised by."""


def original_rows(faces: Path, split: str, limit: int | None = None) -> Iterator[tuple[str, Pixels]]:
    """Yield (id, uint8 (1024, 1024, 3)) of the first `limit` faces of a split that are four times their input."""
    for row in islice(originals(faces, split, "image"), limit):
        yield row["id"], decode(row["image"]["bytes"])


def originals(faces: Path, split: str, *columns: str) -> Iterator[Row]:
    """Rows of the faces of a split that are four times their input: their id and the columns asked for."""
    rows = read_folder(faces, ["id", "width", "height", *columns], f"{split}-*.parquet")
    return (row for row in rows if row["width"] == row["height"] == FACTOR * SIDE)
