"""What the rows of a Parquet file say of their pictures, without a look at these."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

from pipeline.sources.base import Reading, SourceError
from pipeline.sources.bounds import MAX_BATCH, MAX_NAME, most_entries
from pipeline.sources.names import printable
from pipeline.sources.parquet_columns import Pictures, name_columns, picture_column, plain_columns
from pipeline.storage.object_stores import explained
from pipeline.storage.path import StoragePath

NO_BYTES = "no bytes in its row"
BUFFER = 1 << 20
"""Bytes of a column that are read at once, so that a row group is never held as a whole."""
ROWS = 4096
"""Rows that are listed at once, at most."""
FEW = 64
"""Rows at once that are too few for speed."""


@dataclass(frozen=True)
class Row:
    """A row, as far as listing needs it."""

    names: list[str]
    """What it is called, the best first; not yet names that can be used."""
    pictures: int
    """How many it has; one without any counts as one, with that problem."""
    problem: str | None
    stamp: Any
    labels: dict[str, str]


def reader(path: StoragePath, ahead: bool = False, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
    """Open a file; only what is asked for is fetched.

    Args:
        path: the file.
        ahead: of a store, fetch at once all that is to be iterated over.
        dictionaries: columns of text that are read as dictionaries.
    """
    with explained(path.uri):
        return pq.ParquetFile(
            path.arrow_file(),
            read_dictionary=list(dictionaries),
            pre_buffer=ahead and path.local is None,
            buffer_size=BUFFER,
        )


def row_limit(path: StoragePath, reading: Reading) -> bool:
    """True if a file states more rows than one of its size may list."""
    return reader(path).metadata.num_rows > most_entries(path.size())


def rows_of(path: StoragePath, reading: Reading) -> Iterator[Row]:
    """Rows of a file in order, at most as many as a file of its size may list.

    Raises:
        SourceError: it has no pictures, or lacks a column that is asked for.
        OSError, pyarrow.ArrowException: it cannot be read.
    """
    stamp = path.stamp()
    file = reader(path)
    with explained(path.uri):
        pictures = picture_column(path, file, reading.column)
        _check_columns(path, file.schema_arrow, reading.columns)
        names = name_columns(file, pictures)
        empty = _empty_rows(file, pictures)
        rows = islice(_values(path, file, pictures, names, reading.columns), most_entries(stamp[0]))
        for (called, labels, count), nothing in zip(rows, empty, strict=False):
            known = [name for name in called if name]
            problem = NO_BYTES if nothing or not count else None
            carried = {name: label or "" for name, label in zip(reading.columns, labels, strict=True)}
            yield Row(known, count or 1, problem, stamp, carried)


_Values = tuple[list[str | None], list[str | None], int]
"""Of a row: values of the columns that name it, of those that are its labels, number of its pictures."""


def _values(
    path: StoragePath, file: pq.ParquetFile, pictures: Pictures, names: Sequence[str], labels: Sequence[str]
) -> Iterator[_Values]:
    # of lists something must be read to know how long they are
    lists = [pictures.path or pictures.leaf] if pictures.several else []
    columns = list(dict.fromkeys([*names, *labels, *lists]))
    if not columns:
        yield from repeat(([], [], 1), file.metadata.num_rows)
        return
    for batch in _batches(path, file, columns, [column for column in columns if column not in lists]):
        called = [_texts(_column(batch, name)) for name in names]
        carried = [_texts(_column(batch, label)) for label in labels]
        counts = [1] * len(batch)
        if pictures.several:
            counts = [count or 0 for count in pc.list_value_length(batch.column(pictures.column)).to_pylist()]
        for row, count in enumerate(counts):
            yield [values[row] for values in called], [values[row] for values in carried], count


def _column(batch: pa.RecordBatch, leaf: str) -> pa.Array:
    if leaf in batch.schema.names:
        return batch.column(leaf)
    return batch.column(leaf.rpartition(".")[0]).field(leaf.rpartition(".")[2])


def _texts(values: pa.Array) -> list[str | None]:
    """Values as text that can be shown, cut where none could be a name; each value of a dictionary once."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if types.is_dictionary(values.type):
        known = _texts(values.dictionary)
        return [None if index is None else known[index] for index in values.indices.to_pylist()]
    try:
        plain = values.to_pylist()
    except UnicodeDecodeError:
        plain = [value and value.decode("utf-8", "replace") for value in values.cast(pa.large_binary()).to_pylist()]
    return [None if value is None else printable(str(value)[: MAX_NAME + 1]) for value in plain]


def _batches(path: StoragePath, file: pq.ParquetFile, columns: list[str], texts: list[str]) -> Iterator[pa.RecordBatch]:
    """Columns in pieces that fit memory, though one long value may stand for all rows of a group."""
    metadata = file.metadata
    chosen = [index for index in range(len(file.schema)) if file.schema.column(index).path in columns]
    groups = range(metadata.num_row_groups)
    bytes_of = [sum(metadata.row_group(group).column(i).total_uncompressed_size for i in chosen) for group in groups]
    rows = MAX_BATCH // max(*bytes_of, 1, 1)  # were each row's value all that is stored
    if rows >= FEW:
        yield from reader(path, ahead=True).iter_batches(batch_size=min(rows, ROWS), columns=columns)
        return
    rows = min(ROWS, max(1, MAX_BATCH * metadata.num_rows // max(sum(bytes_of), 1)))
    # as dictionaries a value that stands for many rows is there once; pyarrow makes these of one group at a time
    dictionaries = reader(path, ahead=True, dictionaries=texts)
    for group in groups:
        yield from dictionaries.iter_batches(batch_size=rows, row_groups=[group], columns=columns)


def _empty_rows(file: pq.ParquetFile, pictures: Pictures) -> Iterator[bool]:
    """Per row, True if it is known that it has no bytes: where that is so of all its row group."""
    leaf = next(index for index in range(len(file.schema)) if file.schema.column(index).path == pictures.leaf)
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        chunk = group.column(leaf)
        counted = chunk.is_stats_set and chunk.statistics.has_null_count
        yield from repeat(counted and chunk.statistics.null_count == chunk.num_values, group.num_rows)


def _check_columns(path: StoragePath, schema: pa.Schema, wanted: Sequence[str]) -> None:
    """SourceError where a column that entries are to carry is missing or holds neither text nor numbers."""
    plain = plain_columns(schema)
    for name in wanted:
        if name not in plain:
            known = ", ".join(plain) or "none"
            raise SourceError(f"{path}: no column {name!r} of text or numbers; there are: {known}")
