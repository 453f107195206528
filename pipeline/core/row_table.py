"""Rows of an Arrow table as dicts, a piece at a time: all at once a million of them would take ten times the memory."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.schema import Row

PIECE = 1024
"""Rows that are dicts at once while all of them are gone through."""


class RowTable(Sequence[Row]):
    """A sequence of rows; what is changed in a row that it gave does not change it.

    Args:
        table: the rows.
    """

    def __init__(self, table: pa.Table):
        self.table = table.combine_chunks()

    @classmethod
    def of(cls, tables: Sequence[pa.Table], schema: pa.Schema) -> "RowTable":
        """The rows of several tables one after the other, in a schema: columns that a table lacks are null in it."""
        return cls(pa.concat_tables([schema.empty_table(), *(conformed(table, schema) for table in tables)]))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> "RowTable": ...

    def __getitem__(self, index: int | slice) -> "Row | RowTable":
        if isinstance(index, int):
            (row,) = self.table.slice(range(len(self))[index], 1).to_pylist()
            return row
        places = range(len(self))[index]
        if places.step != 1:
            return self.take(places)
        part = object.__new__(RowTable)  # a view: nothing to combine
        part.table = self.table.slice(places.start, len(places))
        return part

    def __iter__(self) -> Iterator[Row]:
        for batch in self.table.to_batches(max_chunksize=PIECE):
            yield from batch.to_pylist()

    def column(self, name: str) -> list[Any]:
        """Values of one column."""
        return self.table[name].to_pylist()

    def places(self, name: str, values: Sequence[str]) -> list[int]:
        """Numbers of the rows that have these values in a column, one for each value; values that none has go."""
        found = pc.index_in(pa.array(values, pa.string()), value_set=self.table[name])
        return found.drop_null().to_pylist()

    def take(self, indices: Sequence[int]) -> "RowTable":
        """Rows by their numbers, in that order."""
        return RowTable(self.table.take(pa.array(indices, pa.int64())))

    def where(self, keep: Sequence[bool]) -> "RowTable":
        """Rows for which `keep` holds."""
        if all(keep):
            return self
        return RowTable(self.table.filter(pa.array(keep, pa.bool_())))

    def with_column(self, name: str, values: Sequence[Any]) -> "RowTable":
        """The rows with other values in one column."""
        field = self.table.schema.field(name)
        column = pa.array(values, field.type)
        return RowTable(self.table.set_column(self.table.schema.get_field_index(name), field, column))


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table in a schema: other columns go, those that it lacks are null; pa.ArrowInvalid where a type cannot be."""
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
