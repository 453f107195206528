"""Take pictures out of shards, inputs, manifests and results, and keep them from coming back.

What is rewritten appears whole or not at all, and is never changed in place: DVC may have linked it to its cache.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.files import shard_files
from pipeline.core.seal import is_sealed
from pipeline.core.shards import check_version, write_row_groups, write_table
from pipeline.ingest.known import FORGOTTEN, read_forgotten, write_forgotten
from pipeline.lineage.picture import FACES, INPUTS, MANIFEST, RESULTS, TABLES, Picture

PICTURES = (
    "reports/report.html",
    "reports/sheets",
    "reports/pairs/degradations.png",
    "reports/train/fidelity/samples",
    "reports/train/realism/samples",
    "dvc_plots",
)
"""What shows faces and is drawn anew by `dvc repro` and `dvc plots`."""
WORK = "work"
"""Partial work of stages that were stopped. It is keyed by the data, so none of it could be gone on with afterwards."""


@dataclass
class Taken:
    """What was taken out of where."""

    rows: dict[str, int] = field(default_factory=dict)
    """File -> rows taken out of it."""
    removed: list[str] = field(default_factory=list)
    """Files and folders that showed faces, and are removed whole."""
    listed: int = 0
    """Hashes that are new in the list of forgotten ones."""


def take_out(pictures: Sequence[Picture], project: Path = Path()) -> Taken:
    """Take pictures out of all that lies in a project, and put their pixel hashes on its list.

    The list comes first: from then on nothing brings them back, and where this is killed it can be called again.

    Args:
        pictures: as `find_pictures` found them.
        project: folder with `data/`.

    Raises:
        ShardError: a shard cannot be read, or is of a newer facesr.
    """
    ids = sorted({picture.id for picture in pictures})
    hashes = {picture_id.partition("-")[0] for picture_id in ids}
    taken = Taken()
    forgotten = project / "data" / FORGOTTEN
    known = read_forgotten(forgotten)
    taken.listed = len(hashes - known)
    if taken.listed:
        write_forgotten(forgotten, known | hashes)
    taken.removed = shown_in(project)
    for name in taken.removed:
        path = project / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path, column in _tables(project):
        if count := _without(path, column, [*ids, *hashes]):
            taken.rows[path.relative_to(project).as_posix()] = count
    return taken


def shown_in(project: Path = Path()) -> list[str]:
    """Files and folders that may show a picture and are removed whole, as far as they are there."""
    return [name for name in (*PICTURES, WORK) if (project / name).exists()]


def _tables(project: Path) -> Iterator[tuple[Path, str]]:
    """Every table that may hold a picture, and its column of ids.

    Those in which pictures are looked for come last: where this is killed, they are found again.
    """
    *others, rejected = reversed(TABLES)
    tables = [(name, "id") for name in (*others, "data/known.parquet")] + [(MANIFEST, "image_id")]
    yield from ((project / name, column) for name, column in tables if (project / name).is_file())
    for folder in (*RESULTS, INPUTS, FACES):
        yield from ((path, "id") for path in shard_files(project / folder, "**/*.parquet"))
    if (project / rejected).is_file():
        yield project / rejected, "id"


def _without(path: Path, column: str, ids: Sequence[str]) -> int:
    """Rewrite a table without the rows of these ids, and return how many there were; untouched where there are none."""
    gone = pa.array(ids, pa.string())
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        check_version(path, schema)
        counts = []
        for group in range(file.num_row_groups):
            there = pc.is_in(file.read_row_group(group, columns=[column])[column], gone)
            counts.append((len(there), pc.sum(there).as_py() or 0))
        if not any(count for _, count in counts):
            return 0
        tables = (_kept(file.read_row_group(group), column, gone) for group in range(file.num_row_groups))
        if any(pa.types.is_struct(entry.type) for entry in schema):
            left = [rows - count for rows, count in counts if rows > count] or [0]
            write_row_groups(path, schema, left, tables, sealed=is_sealed(path))
        else:
            write_table(path, pa.concat_tables(tables).cast(schema))
    return sum(count for _, count in counts)


def _kept(table: pa.Table, column: str, gone: pa.Array) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table[column], gone)))
