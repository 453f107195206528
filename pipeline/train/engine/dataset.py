"""What training holds in memory: the manifest as columns, and the inputs, decoded as far as a budget goes."""

from collections import UserDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.chain import CHAIN_COLUMNS
from pipeline.core.images import ImageError, Pixels, decode
from pipeline.core.scales import AUGMENTATIONS, TRAINED_SCALES
from pipeline.core.schema import Row
from pipeline.core.shards import ShardError, check_version, read_folder

DECODED_BYTES = 2 << 30
"""Decoded inputs kept, bytes: 10,922 of 256x256 pixels. The others stay encoded, about half as large, and are decoded
when they are drawn, 1 to 2 ms each."""

Pairs = list[tuple[Pixels, Pixels]]
"""(ground truth, low-resolution input), uint8 RGB."""

_COLUMNS = ["image_id", "scale", "augmentation", "strength", "seed", *CHAIN_COLUMNS]


class Inputs(UserDict[str, Any]):
    """Inputs by id, uint8 (s, s, 3). Threads may share it.

    Args:
        folder: of input shards.
        decoded_bytes: see `DECODED_BYTES`; it changes speed and memory, never an image.

    Raises:
        ImageError: an image cannot be decoded; names it.
    """

    def __init__(self, folder: Path, decoded_bytes: int = DECODED_BYTES):
        super().__init__()
        for row in read_folder(folder, ["id", "image"]):
            data = row["image"]["bytes"]
            if decoded_bytes > 0:
                data = _decoded(row["id"], data)
                decoded_bytes -= data.nbytes
            self[row["id"]] = data

    def __getitem__(self, image_id: str) -> Pixels:
        image = self.data[image_id]
        return _decoded(image_id, image) if isinstance(image, bytes) else image


def _decoded(image_id: str, data: bytes) -> Pixels:
    try:
        return decode(data)
    except ImageError as error:
        raise ImageError(f"input {image_id}: {error}") from error


class PairRows(Sequence[Row]):
    """Rows of the manifest, made from Arrow columns when they are asked for: 30 bytes each rather than 500.

    Args:
        table: with the columns image_id, scale, augmentation, strength, seed, and those of the chain, if any.
    """

    def __init__(self, table: pa.Table):
        self._columns = {name: table[name].combine_chunks() for name in table.column_names}
        self._count = table.num_rows

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(f"row {index} of {self._count}")
        return {name: column[index].as_py() for name, column in self._columns.items()}


def read_manifest(path: Path, split: str) -> tuple[pa.Table, dict[str, PairRows]]:
    """The rows of one split as a table, and by scale; both in the file's order.

    Raises:
        ShardError: it was made by a later version, or a row has a value that no pair can have.
    """
    names = ["image_id", "scale", "augmentation"]
    schema = pq.read_schema(path)
    check_version(path, schema)
    there = schema.names  # manifests of format 1 have no chains
    table = pq.read_table(
        path,
        columns=[name for name in _COLUMNS if name in there],
        filters=[("split", "==", split)],
        read_dictionary=names,
    )
    _refuse_odd(path, table)
    table = table.unify_dictionaries()
    scales = pc.unique(table["scale"]).to_pylist()
    return table, {scale: PairRows(table.filter(pc.equal(table["scale"], scale))) for scale in scales}


def _refuse_odd(path: Path, table: pa.Table) -> None:
    """Refuse a manifest that was edited by hand, before hours are spent on it."""
    for name, known in (("scale", TRAINED_SCALES), ("augmentation", AUGMENTATIONS)):
        found = pc.unique(table[name]).to_pylist()
        if odd := sorted(str(value) for value in found if value not in known):
            raise ShardError(f"{path}: {name} {odd[0]}: known are {', '.join(known)}")
    for field in table.schema:
        column = table[field.name].drop_null()
        if pa.types.is_floating(field.type) and not pc.all(pc.is_finite(column), min_count=0).as_py():
            raise ShardError(f"{path}: {field.name}: a value that is not finite")
    if pc.min(table["seed"]).as_py() is not None and pc.min(table["seed"]).as_py() < 0:
        raise ShardError(f"{path}: seed: a negative one")
    if "jpeg" in table.column_names and (lowest := pc.min(table["jpeg"]).as_py()) is not None and lowest < 1:
        raise ShardError(f"{path}: jpeg: a quality of {lowest}, which begins at 1")
