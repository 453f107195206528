"""A hash of all rows at the end of a shard: what was changed in it by hand or by a disk is not taken for its own."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_KEY = b"facesr_rows"
"""In a file's own metadata, beside those of its schema, which says nothing of the rows."""


class Seal:
    """The hash of rows as they are written, however they are cut into tables."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, table: pa.Table) -> None:
        """Add rows; encoded images are hashed where they lie."""
        images = [field for field in table.schema if pa.types.is_struct(field.type)]
        parts = [pc.struct_field(table[image.name], part.name) for image in images for part in image.type]
        for row, *cells in zip(table.drop_columns([one.name for one in images]).to_pylist(), *parts, strict=True):
            self._digest.update(json.dumps(row, sort_keys=True, default=str).encode())
            for cell in cells:
                data = cell.as_buffer() if cell.is_valid else None
                self._digest.update(b"none" if data is None else f"{data.size}:".encode())
                if data is not None:
                    self._digest.update(data)

    def hex(self) -> str:
        """The hash of all rows so far."""
        return self._digest.hexdigest()

    def close(self, writer: pq.ParquetWriter) -> None:
        """Write the hash into a file of which these were all rows."""
        writer.add_key_value_metadata({_KEY: self.hex()})


def is_sealed(path: Path) -> bool:
    """True if a shard holds just the rows that it was sealed with; False also where it cannot be read."""
    seal = Seal()
    try:
        with pq.ParquetFile(path) as file:
            told = (file.metadata.metadata or {}).get(_KEY)
            if told is None:
                return False
            for group in range(file.num_row_groups):
                seal.add(file.read_row_group(group))
    except (pa.ArrowException, OSError, ValueError):
        return False
    return bool(told.decode(errors="replace") == seal.hex())
