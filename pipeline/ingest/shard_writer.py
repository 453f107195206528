"""Shards of faces: which faces go into which, and workers that write them from what was found."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.files import atomic
from pipeline.core.scales import SPLITS
from pipeline.core.schema import FACES, Row
from pipeline.core.shards import row_groups, write_row_groups
from pipeline.ingest.split import Assignment
from pipeline.runtime.units import Statistics, Unit

ASSIGNED = pa.schema(
    [
        ("shard", pa.string()),
        ("part", pa.string()),
        ("row", pa.int32()),  # in the part
        ("id", pa.string()),
        ("person", pa.string()),
        ("bytes", pa.int64()),
    ]
)


PLAN = "assigned.parquet"
"""File with the ASSIGNED rows, in the folder of the work."""


def plan_shards(
    usable: list[Row], assignment: Assignment, limit: int, earlier: Mapping[str, str] | None = None
) -> dict[str, list[Row]]:
    """Name of each shard -> its rows, as ASSIGNED; a shard is closed where the next picture would not fit.

    A face stays in the shard that it was in, as `earlier` (id -> shard) says; others follow behind the last.
    """
    earlier = earlier or {}
    order = {face: index for index, face in enumerate(earlier)}
    together = zip(usable, assignment.splits, assignment.persons, strict=True)
    drawn = [(row, split, person) for row, split, person in together if split is not None]
    drawn.sort(key=lambda face: order.get(face[0]["id"], len(order)))
    shards: dict[str, list[Row]] = {}
    number, size = dict.fromkeys(SPLITS, 0), dict.fromkeys(SPLITS, 0)
    for row, split, person in drawn:
        held, _, digits = Path(earlier.get(row["id"], "")).stem.rpartition("-")
        if held == split and int(digits) > number[split]:
            number[split], size[split] = int(digits), 0
        elif held != split and size[split] and size[split] + row["bytes"] > limit:
            number[split], size[split] = number[split] + 1, 0
        size[split] += row["bytes"]
        name = f"{split}-{number[split]:05d}.parquet"
        found = {column: row[column] for column in ("part", "row", "id", "bytes")}
        shards.setdefault(name, []).append(found | {"shard": name, "person": person})
    return shards


@dataclass(frozen=True)
class ShardUnit(Unit):
    """One shard of faces; `part` is the shard itself."""

    split: str
    faces: int
    same: str | None = None
    """An earlier shard that holds just these faces: it is copied."""

    @property
    def images(self) -> int:
        """Faces."""
        return self.faces


class ShardWorker:
    """Columns in: CANDIDATES and ASSIGNED. Columns out: FACES, the faces of one shard in source order."""

    def __init__(self, work: str, labels: list[str]):
        self.work, self.labels = Path(work), labels

    def __call__(self, unit: ShardUnit) -> Statistics:
        """Write the unit's shard."""
        if unit.same is not None:
            with atomic(Path(unit.part)) as temporary:
                shutil.copyfile(unit.same, temporary)
            return {"images": unit.faces, "failed": 0}
        table = pq.read_table(self.work / PLAN, filters=[("shard", "==", Path(unit.part).name)])
        sizes = table["bytes"].to_pylist()
        write_row_groups(Path(unit.part), FACES, row_groups(sizes), self._tables(table, unit.split), sealed=True)
        return {"images": table.num_rows, "failed": 0}

    def _tables(self, assigned: pa.Table, split: str) -> Iterator[pa.Table]:
        """The rows of each part that go into the shard, as FACES."""
        by_part: dict[str, list[Row]] = {}
        for row in assigned.to_pylist():
            by_part.setdefault(row["part"], []).append(row)
        kept = ["image", "name", "source", "conversion", "transform", "width", "height"]
        for part, rows in by_part.items():
            # not read_table, which reads ahead
            with pq.ParquetFile(self.work / "parts" / part) as file:
                table = file.read(kept, use_threads=False).take([row["row"] for row in rows])
            own = {name: [row[name] for row in rows] for name in ("id", "person")}
            sources = table["source"].to_pylist()
            # of a part the number of its source, of an earlier shard the label
            own |= {"source": [self.labels[i] if isinstance(i, int) else i for i in sources]}
            own |= {"split": [split] * len(rows)}
            columns = [pa.array(own[name], pa.string()) if name in own else table[name] for name in FACES.names]
            yield pa.table(columns, schema=FACES)
