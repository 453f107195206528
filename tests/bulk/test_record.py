"""Rows of an Arrow table behave as a list of dicts does, without being one."""

import pyarrow as pa
import pytest

from pipeline.bulk.record import PIECE, RowTable, conformed

SCHEMA = pa.schema([("name", pa.string()), ("size", pa.int64())])
MANY = 2 * PIECE + 3


@pytest.fixture
def rows() -> RowTable:
    halves = [{"name": f"{number}.png", "size": number} for number in range(MANY)]
    tables = [pa.Table.from_pylist(half, schema=SCHEMA) for half in (halves[:PIECE], halves[PIECE:])]
    return RowTable.of(tables, SCHEMA)


def test_rows_come_in_order_by_number_from_the_end_and_as_slices(rows: RowTable) -> None:
    assert len(rows) == MANY
    assert [row["size"] for row in rows] == list(range(MANY))
    assert rows[5] == {"name": "5.png", "size": 5}
    assert rows[-1]["size"] == MANY - 1
    assert [row["size"] for row in rows[3:6]] == [3, 4, 5]
    assert [row["size"] for row in rows[10:2:-4]] == [10, 6]
    assert list(rows[MANY:]) == []
    with pytest.raises(IndexError):
        rows[MANY]


def test_rows_are_chosen_reordered_and_given_other_values(rows: RowTable) -> None:
    assert [row["size"] for row in rows.take([7, 3, 7])] == [7, 3, 7]
    odd = rows.where([size % 2 == 1 for size in rows.column("size")])
    assert [row["size"] for row in odd][:3] == [1, 3, 5]
    assert rows.places("name", ["7.png", "gone.png", "3.png"]) == [7, 3]
    assert rows[:2].with_column("size", [8, None]).column("size") == [8, None]
    assert rows.column("size")[:2] == [0, 1]


def test_a_changed_row_leaves_the_table_as_it_was(rows: RowTable) -> None:
    rows[0]["size"] = 99
    assert rows[0]["size"] == 0


def test_a_table_of_an_earlier_version_gets_the_columns_that_are_new() -> None:
    old = pa.table({"gone": [1], "name": ["a.png"]})
    assert conformed(old, SCHEMA).to_pylist() == [{"name": "a.png", "size": None}]
    with pytest.raises(pa.ArrowInvalid):
        conformed(pa.table({"size": ["large"]}), SCHEMA)
    assert list(RowTable.of([], SCHEMA)) == []
