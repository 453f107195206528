"""Parquet files that hold pictures."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sources.base import Entry, SourceError, rejection_reason, short_text
from pipeline.sources.names import printable
from pipeline.sources.reading import Reading
from pipeline.storage.object_stores import explained
from pipeline.storage.path import StoragePath


class ParquetFiles:
    """Parquet files with a picture column: a struct with `bytes`, or plain binary.

    Args:
        paths: the files.
        columns: further columns, of text or numbers, that entries carry as their labels.
    """

    def __init__(self, paths: Sequence[StoragePath], reading: Reading):
        self.paths, self.columns, self.picture = list(paths), list(reading.columns), reading.column

    def entries(self) -> Iterator[Entry]:
        """Rows in file order, named by the `path` or `name` beside the picture, else by file and row."""
        for index, path in enumerate(self.paths):
            try:
                yield from _rows(index, path, self.columns)
            except (pa.ArrowException, OSError) as error:
                text = short_text(error) if isinstance(error, OSError) else str(error)
                raise SourceError(f"{path}: not a readable Parquet file ({text})") from error

    def read(self, key: Any) -> bytes:
        """Bytes of a row; the row group it lies in is kept, since neighbours are read next."""
        index, row = key
        path = self.paths[index]
        try:
            value = _open(path, *path.stamp()).value(row)
        except (pa.ArrowException, OSError, IndexError) as error:
            raise SourceError(f"cannot be read from {path} ({error})") from error
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data:
            raise SourceError("no bytes in its row")
        return bytes(data)


class _Table:
    """An open file; its reader must not be used by two threads at once."""

    def __init__(self, path: StoragePath):
        self.path = path
        self.file = _reader(path)
        self.column, _ = _picture_columns(path, self.file.schema_arrow)
        groups = range(self.file.num_row_groups)
        self.starts = [0, *accumulate(self.file.metadata.row_group(group).num_rows for group in groups)]
        self.lock = Lock()

    def value(self, row: int) -> Any:
        with self.lock:
            group = bisect_right(self.starts, row) - 1
            return _row_group(self, group)[row - self.starts[group]].as_py()


@lru_cache(maxsize=4)
def _open(path: StoragePath, *stamp: Any) -> _Table:
    return _Table(path)


@lru_cache(maxsize=2)
def _row_group(table: _Table, group: int) -> pa.ChunkedArray:
    with explained(table.path.uri):
        return table.file.read_row_group(group, columns=[table.column]).column(table.column)


def _reader(path: StoragePath) -> pq.ParquetFile:
    with explained(path.uri):
        # only the columns and row groups that are asked for are fetched
        return pq.ParquetFile(path.arrow_file(), pre_buffer=True)


def _rows(index: int, path: StoragePath, wanted: Sequence[str]) -> Iterator[Entry]:
    stamp = path.stamp()
    file = _reader(path)
    picture, columns = _picture_columns(path, file.schema_arrow)
    _check_columns(path, file.schema_arrow, wanted)
    columns += [name for name in wanted if name not in columns]
    with explained(path.uri):
        rows = (value for batch in file.iter_batches(columns=columns) for value in batch.to_pylist())
        for row, value in enumerate(rows):
            inner = value.get(picture)
            named = inner.get("path") if isinstance(inner, dict) else None
            name = value.get("name") or named or value.get("path") or value.get("id")
            name = printable(str(name or f"{path.path.stem}-{row:06d}"))
            labels = {column: "" if value[column] is None else str(value[column]) for column in wanted}
            yield Entry(name, [index, row], rejection_reason(name), stamp, labels=labels)


def _check_columns(path: StoragePath, schema: pa.Schema, wanted: Sequence[str]) -> None:
    """SourceError where a column that entries are to carry is missing or holds neither text nor numbers."""
    plain = [item.name for item in schema if not pa.types.is_nested(item.type) and not _binary(item.type)]
    for name in wanted:
        if name not in plain:
            known = ", ".join(plain) or "none"
            raise SourceError(f"{path}: no column {name!r} of text or numbers; there are: {known}")


def _binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _picture_columns(path: StoragePath, schema: pa.Schema) -> tuple[str, list[str]]:
    """The picture column, and the columns to list names from (never the pictures themselves)."""
    for name in ("image", "img", "jpg", "png", *schema.names):
        kind = schema.field(name).type if name in schema.names else None
        if kind is not None and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            inner = [f"{name}.path"] if kind.get_field_index("path") >= 0 else []
            return name, inner + [column for column in ("name", "id") if column in schema.names]
        if kind is not None and _binary(kind):
            return name, [column for column in ("name", "id", "path") if column in schema.names]
    raise SourceError(f"{path}: no picture column (a struct with `bytes`, or binary)")
