"""Parquet shards that appear whole or not at all: atomic writes, deterministic names, streaming reads."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.errors import FacesrError, first_line
from pipeline.core.files import atomic, shard_files
from pipeline.core.schema import FORMATS, ROWS_PER_GROUP, Row, newer_format
from pipeline.core.seal import Seal

GROUP_BYTES = 64 << 20
"""A row group is closed at this size even if it has fewer rows, so that a reader's memory stays bounded."""
TABLE_ROWS = 8192
"""Rows in a row group of a table without images."""


class ShardError(FacesrError):
    """A shard that cannot be read; the message names it."""


def write_batches(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    """Write record batches to one Parquet file atomically, a row group each, and return how many rows there were."""
    rows = 0
    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch, row_group_size=max(1, batch.num_rows))
            rows += batch.num_rows
    return rows


def write_rows(path: Path, rows: Iterable[Row], schema: pa.Schema) -> int:
    """Write rows to one Parquet file atomically, a row group at a time, and return how many there were."""
    return write_shards(path.parent, lambda index: path.name, rows, schema, None)


def write_shards(
    folder: Path, name: Callable[[int], str], rows: Iterable[Row], schema: pa.Schema, shard_bytes: int | None
) -> int:
    """Write rows as `ShardWriter` does, and return how many there were."""
    with ShardWriter(folder, name, schema, shard_bytes) as writer:
        for row in rows:
            writer.add(row)
    return writer.rows


class ShardWriter:
    """Write rows to numbered shards of bounded size; each appears under its name only when it is complete.

    Args:
        folder: where the shards go.
        name: file name of the shard with a given number.
        schema: of the rows.
        shard_bytes: size of images at which a shard is closed; None keeps all rows in one file.
    """

    def __init__(self, folder: Path, name: Callable[[int], str], schema: pa.Schema, shard_bytes: int | None):
        self.folder, self.name, self.schema, self.shard_bytes = folder, name, schema, shard_bytes
        self.rows = 0
        has_images = any(pa.types.is_nested(field.type) or pa.types.is_binary(field.type) for field in schema)
        self._group_rows = ROWS_PER_GROUP if has_images else TABLE_ROWS
        self._shards = self._shard_size = self._group_size = 0
        self._group: list[Row] = []
        self._open = ExitStack()
        self._file: pq.ParquetWriter | None = None

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        if kind is None:
            self._close()
        self._open.__exit__(kind, *details)

    def add(self, row: Row) -> None:
        """Append a row; a full row group or shard is written out."""
        size = sum(len(value["bytes"] or b"") for value in row.values() if isinstance(value, dict))
        if self.shard_bytes is not None and self._shard_size and self._shard_size + size > self.shard_bytes:
            self._close()
        self._group.append(row)
        self.rows += 1
        self._shard_size += size
        self._group_size += size
        if len(self._group) == self._group_rows or self._group_size >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._file is None:
            temporary = self._open.enter_context(atomic(self.folder / self.name(self._shards)))
            self._file = self._open.enter_context(_image_writer(temporary, self.schema))
        self._file.write_table(pa.Table.from_pylist(self._group, schema=self.schema))
        self._group, self._group_size = [], 0

    def _close(self) -> None:
        # without any rows, one empty shard
        if self._group or (self._shards == 0 and self._file is None):
            self._flush()
        self._open.close()
        self._shards += self._file is not None
        self._file, self._shard_size = None, 0


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table without images to one Parquet file atomically."""
    with atomic(path) as temporary:
        pq.write_table(table, temporary)


def row_groups(sizes: Iterable[int]) -> list[int]:
    """Cut images of these sizes in bytes into row groups of `ROWS_PER_GROUP` rows, fewer where those are large."""
    groups, filled = [0], 0
    for size in sizes:
        if groups[-1] == ROWS_PER_GROUP or (groups[-1] and filled + size > GROUP_BYTES):
            groups.append(0)
            filled = 0
        groups[-1] += 1
        filled += size
    return groups


def write_row_groups(
    path: Path, schema: pa.Schema, groups: Iterable[int], tables: Iterable[pa.Table], *, sealed: bool = False
) -> None:
    """Write tables of images to one Parquet file atomically, in row groups of the given numbers of rows.

    The images are handed on as they are, without becoming Python objects. `is_sealed` knows the file
    again, if so asked.
    """
    waiting = iter(tables)
    seal = Seal() if sealed else None
    held: list[pa.Table] = []
    with atomic(path) as temporary, _image_writer(temporary, schema) as writer:
        for rows in groups:
            while sum(table.num_rows for table in held) < rows and (table := next(waiting, None)) is not None:
                held.append(table)
            together = pa.concat_tables(held) if held else schema.empty_table()
            if seal is not None:
                seal.add(together.slice(0, rows))
            writer.write_table(together.slice(0, rows), row_group_size=max(rows, 1))
            held = [together.slice(rows)]
        if seal is not None:
            seal.close(writer)


def _image_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """For encoded images, of which none is like another: no compression, dictionary or smallest and largest."""
    light = [field.name for field in schema if not pa.types.is_struct(field.type)]
    return pq.ParquetWriter(path, schema, compression="none", use_dictionary=light, write_statistics=light)


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ShardError(f"{path}: not a readable Parquet file ({first_line(error)})") from error
    try:
        check_version(path, file.schema_arrow)
    except ShardError:
        file.close()
        raise
    return file


def check_version(path: Path, schema: pa.Schema) -> None:
    """Refuse a table of a newer facesr, whose columns may mean something else.

    Raises:
        ShardError: it is one.
    """
    if (found := newer_format(schema)) is not None:
        known = FORMATS.get(found.rpartition("-")[0])
        raise ShardError(f"{path}: written by a newer facesr (format {found}, read here is {known}): update facesr")


def read_rows(path: Path, columns: list[str] | None = None) -> Iterator[Row]:
    """Stream the rows of one Parquet file, a row group in memory at a time.

    Raises:
        ShardError: it is no Parquet file, or a damaged one; `read_range`, `row_ranges` and `count_rows` say so as well.
    """
    with _open(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, columns=columns):
            yield from batch.to_pylist()


def read_folder(folder: Path, columns: list[str] | None = None, pattern: str = "*.parquet") -> Iterator[Row]:
    """Yield the rows of a folder of shards, restricted to `columns` (so that images need not be read)."""
    for path in shard_files(folder, pattern):
        yield from read_rows(path, columns)


def count_rows(path: Path) -> int:
    """Count the rows of a Parquet file, from its footer."""
    with _open(path) as file:
        return int(file.metadata.num_rows)


def read_range(path: Path, start: int, stop: int, columns: list[str] | None = None) -> Iterator[Row]:
    """Stream rows `start` (included) to `stop` (excluded) of a Parquet file, reading only their row groups."""
    with _open(path) as file:
        for group, (first, count) in enumerate(_row_groups(file)):
            low, high = max(start - first, 0), min(stop - first, count)
            if low < high:
                table = file.read_row_group(group, columns=columns).slice(low, high - low)
                for batch in table.to_batches(max_chunksize=8):
                    yield from batch.to_pylist()


def _row_groups(file: pq.ParquetFile) -> list[tuple[int, int]]:
    """First row and number of rows of each row group."""
    counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    return [(end - count, count) for end, count in zip(accumulate(counts), counts, strict=True)]


def row_ranges(folder: Path, pattern: str, size: int, limit: int | None = None) -> list[tuple[str, int, int]]:
    """Cut the first `limit` rows of a folder of shards into work units `(file stem, start, stop)` of `size` at most.

    A unit never straddles a row group, so that no worker reads a group for a few of its rows only.
    """
    units: list[tuple[str, int, int]] = []
    for path in shard_files(folder, pattern):
        with _open(path) as file:
            for first, count in _row_groups(file):
                pieces = -(-count // size)
                edges = [first + count * piece // pieces for piece in range(pieces + 1)] if pieces else []
                units += [(path.stem, low, high) for low, high in pairwise(edges)]
    if limit is None:
        return units
    kept, left = [], limit
    for stem, start, stop in units:
        if left > 0:
            kept.append((stem, start, min(stop, start + left)))
        left -= stop - start
    return kept


def join_parts(parts: Path, pattern: str, target: Path, schema: pa.Schema, *, sealed: bool = False) -> int:
    """Stream the parts of images that match, in name order, into one shard, and return its rows.

    The shard is as `write_rows` makes it, but no image becomes a Python object.
    `is_sealed` knows it again, if so asked.
    """
    seal = Seal() if sealed else None
    rows = count = size = 0
    held: list[pa.Table] = []
    with atomic(target) as temporary, _image_writer(temporary, schema) as writer:
        for path in shard_files(parts, pattern):
            with _open(path) as file:
                for group in range(file.num_row_groups):
                    table, start = file.read_row_group(group), 0
                    if seal is not None:
                        seal.add(table)
                    for stop, length in enumerate(_image_sizes(table), 1):
                        count, size = count + 1, size + length
                        if count == ROWS_PER_GROUP or size >= GROUP_BYTES:
                            writer.write_table(_in_one_piece([*held, table.slice(start, stop - start)]))
                            held, start, rows, count, size = [], stop, rows + count, 0, 0
                    held.append(table.slice(start))
        if count or not rows:
            writer.write_table(_in_one_piece(held) if held else schema.empty_table())
        if seal is not None:
            seal.close(writer)
    return rows + count


def _in_one_piece(tables: list[pa.Table]) -> pa.Table:
    """Rows of all, as if made at once: where a piece ends a page does, and bytes would tell how the work was cut."""
    return pa.concat_tables(tables).combine_chunks()


def _image_sizes(table: pa.Table) -> list[int]:
    """Bytes of the encoded images of each row."""
    fields = [field.name for field in table.schema if pa.types.is_struct(field.type)]
    lengths = (pc.binary_length(pc.struct_field(table[name], "bytes")).fill_null(0).to_pylist() for name in fields)
    return [sum(row) for row in zip(*lengths, strict=True)]


def evenly_spaced(total: int, count: int) -> list[int]:
    """Indices of `count` rows evenly spaced over `total`, first and last included; all where there are no more."""
    if total <= count:
        return list(range(total))
    return [round(index * (total - 1) / max(count - 1, 1)) for index in range(count)]
