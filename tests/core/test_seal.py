"""A sealed shard is known again, and no other one."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.schema import FACES
from pipeline.core.seal import is_sealed
from pipeline.core.shards import row_groups, write_row_groups, write_rows


def rows(count: int = 5) -> list[dict[str, Any]]:
    image = [{"bytes": bytes([index]) * 9, "path": f"{index}.png"} for index in range(count)]
    empty = dict.fromkeys(FACES.names)
    return [empty | {"id": f"{index}", "image": one, "width": 3, "height": 3} for index, one in enumerate(image)]


def write(path: Path, values: list[dict[str, Any]], cut: int = 2, sealed: bool = True) -> Path:
    tables = [pa.Table.from_pylist(values[at : at + cut], schema=FACES) for at in range(0, len(values), cut)]
    write_row_groups(path, FACES, row_groups([9] * len(values)), tables, sealed=sealed)
    return path


def test_a_sealed_shard_is_known_however_its_rows_were_cut_and_one_without_a_seal_is_not(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{cut}.parquet", rows(), cut) for cut in (1, 2, 5)]
    assert all(map(is_sealed, paths))
    assert len({path.read_bytes() for path in paths}) == 1
    assert pq.read_schema(paths[0]).equals(FACES, check_metadata=True), "readers see no difference"
    assert not is_sealed(write(tmp_path / "open.parquet", rows(), sealed=False))
    assert not is_sealed(tmp_path / "nowhere.parquet")


@pytest.mark.parametrize(
    "change",
    [
        {"image": {"bytes": b"other", "path": "2.png"}},
        {"image": {"bytes": bytes([2]) * 9, "path": "x.png"}},
        {"image": {"bytes": None, "path": "2.png"}},
        {"image": None},
        {"name": ""},
        {"width": 4},
    ],
    ids=str,
)
def test_a_row_that_was_changed_breaks_the_seal_though_the_file_says_it_still(
    change: dict[str, Any], tmp_path: Path
) -> None:
    path = write(tmp_path / "a.parquet", rows())
    changed = rows()
    changed[2] |= change
    # as a tool does that hands on what the file's own metadata say
    told = pq.read_metadata(path).metadata[b"facesr_rows"]
    with pq.ParquetWriter(path, FACES) as writer:
        writer.write_table(pa.Table.from_pylist(changed, schema=FACES))
        writer.add_key_value_metadata({b"facesr_rows": told})
    assert not is_sealed(path)
    with pq.ParquetWriter(path, FACES) as writer:
        writer.write_table(pa.Table.from_pylist(rows(), schema=FACES))
        writer.add_key_value_metadata({b"facesr_rows": told})
    assert is_sealed(path), "the same rows, written by whatever"


def test_a_byte_that_a_disk_lost_breaks_the_seal_or_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", rows())
    whole = path.read_bytes()
    for at in (whole.index(bytes([3]) * 9) + 4, whole.index(b"2.png"), len(whole) - 6):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert not is_sealed(path)
    write_rows(path, rows(), FACES)
    assert not is_sealed(path)
