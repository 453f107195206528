"""Parquet files that hold pictures."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sources.base import Entry, SourceError, file_stamp, unsafe


class ParquetFiles:
    """Parquet files with a picture column: a struct with `bytes`, or plain binary."""

    def __init__(self, paths: list[Path]):
        self.paths = paths

    def entries(self) -> Iterator[Entry]:
        """Rows in file order, named by the `path` or `name` beside the picture, else by file and row."""
        for index, path in enumerate(self.paths):
            stamp = file_stamp(path)
            file = _open_parquet(path, *stamp)
            picture, columns = _picture_columns(path, file.schema_arrow)
            row = 0
            for batch in file.iter_batches(columns=columns):
                for value in batch.to_pylist():
                    inner = value.get(picture)
                    name = (inner or {}).get("path") if isinstance(inner, dict) else None
                    name = value.get("name") or name or value.get("path") or value.get("id") or f"{path.stem}-{row:06d}"
                    yield Entry(str(name), [index, row], unsafe(str(name)), stamp)
                    row += 1

    def read(self, key: Any) -> bytes:
        """Bytes of a row; the row group it lies in is kept, since neighbours are read next."""
        index, row = key
        path = self.paths[index]
        stamp = file_stamp(path)
        file = _open_parquet(path, *stamp)
        picture, _ = _picture_columns(path, file.schema_arrow)
        group, first = 0, 0
        while row >= first + file.metadata.row_group(group).num_rows:
            first += file.metadata.row_group(group).num_rows
            group += 1
        value = _row_group(path, *stamp, group, picture)[row - first].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data:
            raise SourceError("no bytes in its row")
        return bytes(data)


@lru_cache(maxsize=4)
def _open_parquet(path: Path, size: int, time: int) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{path}: not a readable Parquet file ({error})") from error


@lru_cache(maxsize=2)
def _row_group(path: Path, size: int, time: int, group: int, column: str) -> pa.ChunkedArray:
    return _open_parquet(path, size, time).read_row_group(group, columns=[column]).column(column)


def _picture_columns(path: Path, schema: pa.Schema) -> tuple[str, list[str]]:
    """The picture column, and the columns to list names from (never the pictures themselves)."""
    for name in ("image", "img", "jpg", "png", *schema.names):
        kind = schema.field(name).type if name in schema.names else None
        if kind is not None and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            inner = [f"{name}.path"] if kind.get_field_index("path") >= 0 else []
            return name, inner + [column for column in ("name", "id") if column in schema.names]
        if kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            return name, [column for column in ("name", "id", "path") if column in schema.names]
    raise SourceError(f"{path}: no picture column (a struct with `bytes`, or binary)")
