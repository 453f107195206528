"""Shards appear whole, are cut by size, and a damaged one is named."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.stages import run_stage, write_params

from pipeline.core.schema import PAIRS, PICTURES
from pipeline.core.shards import (
    ShardError,
    ShardWriter,
    count_rows,
    join_parts,
    read_range,
    read_rows,
    row_ranges,
    write_rows,
)


def rows(count: int, size: int = 1000) -> list[dict]:
    return [{"id": f"{index}", "image": {"bytes": bytes(size), "path": "a.png"}, "name": "a"} for index in range(count)]


def test_a_shard_is_closed_where_the_next_image_would_not_fit(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, lambda number: f"{number}.parquet", PICTURES, 3500) as writer:
        for row in rows(8):
            writer.add(row)
    assert [count_rows(path) for path in sorted(tmp_path.iterdir())] == [3, 3, 2]
    assert writer.rows == 8


def test_without_rows_there_is_one_empty_shard(tmp_path: Path) -> None:
    assert write_rows(tmp_path / "empty.parquet", [], PAIRS) == 0
    assert list(read_rows(tmp_path / "empty.parquet")) == []


def test_a_writer_that_fails_leaves_finished_shards_alone(tmp_path: Path) -> None:
    def write() -> None:
        with ShardWriter(tmp_path, lambda number: f"{number}.parquet", PICTURES, 250_000) as writer:
            for row in rows(400):
                writer.add(row)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        write()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.parquet"]
    assert pq.ParquetFile(tmp_path / "0.parquet").num_row_groups == 3


def test_a_damaged_shard_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "train-00000.parquet"
    path.write_bytes(b"PAR1 and nothing more")
    for read in (
        lambda: list(read_rows(path)),
        lambda: list(read_range(path, 0, 1)),
        lambda: row_ranges(tmp_path, "*.parquet", 8),
        lambda: count_rows(path),
    ):
        with pytest.raises(ShardError, match=r"train-00000\.parquet: not a readable Parquet file"):
            read()


def test_a_stage_says_which_shard_is_damaged_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data/faces").mkdir(parents=True)
    (tmp_path / "data/faces/train-00000.parquet").write_bytes(b"PAR1 and nothing more")
    write_params(tmp_path)
    done = run_stage("pairs", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("ShardError: data/faces/train-00000.parquet: not a readable Parquet file")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("count", "size"), [(0, 1), (7, 1000), (100, 10), (101, 10), (260, 10), (40, 300_000), (9, 30 << 20)]
)
def test_joined_parts_have_the_bytes_of_a_shard_that_was_written_at_once(tmp_path: Path, count: int, size: int) -> None:
    every = [
        row | {"image": {"bytes": bytes(size), "path": None} if index % 7 else None}
        for index, row in enumerate(rows(count, 1))
    ]
    for start in range(0, count, 7):
        write_rows(tmp_path / f"part-{start:05d}.parquet", every[start : start + 7], PICTURES)
    assert join_parts(tmp_path, "part-*.parquet", tmp_path / "joined.parquet", PICTURES) == count
    assert write_rows(tmp_path / "whole.parquet", every, PICTURES) == count
    assert (tmp_path / "joined.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
