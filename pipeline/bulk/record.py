"""What of a run lies on storage beside its pictures: rows of finished units, the run's record, the manifest.

Rows are an Arrow table, and dicts a piece at a time: all at once a million of them would take ten times the memory.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, overload

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.bulk.outputs import Output
from pipeline.bulk.plan import CUT
from pipeline.bulk.settings import Engine, Settings
from pipeline.core.errors import FacesrError, first_line
from pipeline.core.files import content_hash
from pipeline.core.schema import UPSCALE_MANIFEST, Row
from pipeline.storage.path import StorageError, StoragePath

PART = pa.schema([*UPSCALE_MANIFEST, ("target", pa.string())])
"""Rows of a finished unit: the manifest's, and the name of the result whether there is one or not."""

PATHS = ("fidelity", "realism_model", "detector", "embedding")
"""Settings that are paths on this machine: a manifest, which travels, has their names only."""

LATER = ("strip_location", "degradation", "denoise", "deblock")
"""Settings that are on record only where they were asked for."""

PARTS_AT_ONCE = 256
"""Tables of so few rows take three times the memory of one of them all."""

PIECE = 1024
"""Rows that are dicts at once while all of them are gone through."""

T = TypeVar("T")


class JobError(FacesrError):
    """OUTPUT holds something else; the message says what, and the choice."""


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


@dataclass(frozen=True)
class RunRecord:
    """What a later run compares with: `job.json` beside partial work, then metadata of the manifest."""

    facesr: str
    """Version."""
    input: str
    """Name of INPUT: neither the folder it lies in nor credentials are anybody else's business."""
    output: str
    """Name of OUTPUT."""
    settings: Settings
    engine: Engine
    listing: str
    """Hash of the entries and the names of their results."""
    count: int
    input_id: str = ""
    """Hash of all of INPUT's path, by which runs are compared."""
    parts: str = ""
    """Name of the folder for rows of finished units; empty: as `listing`."""
    cut: int = 0
    """How the listing is cut into units: `plan.CUT` of the code that began."""

    @classmethod
    def of(
        cls, facesr: str, source: str, output: Output, settings: Settings, engine: Engine, listing: str, count: int
    ) -> "RunRecord":
        """Of a run from `source`, a path or URI."""
        path = StoragePath.of(source)
        return cls(facesr, path.name, output.path.name, settings, engine, listing, count, _input_id(path), cut=CUT)

    @property
    def public(self) -> "RunRecord":
        """For the manifest: without paths of this machine."""
        names: dict[str, Any] = {name: value and Path(value).name for name, value in self._paths()}
        return replace(self, settings=replace(self.settings, **names), parts="")

    def _paths(self) -> list[tuple[str, str | None]]:
        return [(name, getattr(self.settings, name)) for name in PATHS]

    def to_json(self, indent: int | None = None) -> str:
        """As JSON, the inverse of `read_record`."""
        values = asdict(self)
        for name in LATER:  # records of before they could be asked for stay the same
            if getattr(self.settings, name) == getattr(Settings, name):
                del values["settings"][name]
        return json.dumps(values, indent=indent, sort_keys=True)


def json_line(value: object) -> str:
    """A line for a file that is appended to, whose last line may have been cut off in its middle."""
    return f"\n{json.dumps(value)}\n"


def json_lines(text: str) -> Iterator[Any]:
    """Values of such lines, without those that were cut off."""
    for line in text.splitlines():
        with suppress(ValueError):
            yield json.loads(line)


def write_part(path: StoragePath, rows: Sequence[Row]) -> None:
    """Write rows of a unit: the mark that it is done."""
    table = rows.table if isinstance(rows, RowTable) else pa.Table.from_pylist(rows, schema=PART)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    path.write_bytes(sink.getvalue().to_pybytes())


def read_part(path: StoragePath) -> RowTable:
    """Rows of a finished unit, or of a manifest.

    Raises:
        JobError: it is damaged, or no such table.
    """
    try:
        with path.open() as handle:
            table = pq.read_table(handle)
    except StorageError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise JobError(f"{path}: cannot be read ({first_line(error)}): `--overwrite` starts anew") from error
    if not {"name", "status", "file", "bytes", "stamp"} <= set(table.column_names):
        raise JobError(f"{path}: not a table of results: `--overwrite` starts anew")
    try:
        return RowTable.of([table], PART)
    except pa.ArrowException as error:
        raise JobError(f"{path}: not a table of results ({first_line(error)}): `--overwrite` starts anew") from error


def part_rows(folder: StoragePath) -> RowTable:
    """Rows of all parts in a folder and those below it."""
    names = (name for name, _, _ in folder.files() if name.endswith(".parquet"))
    groups = []
    while group := [read_part(folder / name).table for name in islice(names, PARTS_AT_ONCE)]:
        groups.append(RowTable.of(group, PART).table)
    return RowTable.of(groups, PART)


def read_record(output: Output) -> RunRecord | None:
    """The record of the run that OUTPUT holds, finished or not; None where there is none of ours.

    Raises:
        JobError: it cannot be understood.
    """
    path = output.job if output.unfinished else output.manifest
    text = path.read_bytes() if output.unfinished else manifest_record(output)
    if text is None:
        return None
    try:
        values = json.loads(text)
        parts = {"settings": _known(Settings, values["settings"]), "engine": _known(Engine, values["engine"])}
        if "input_id" not in values:  # of a time when all of the path was on record
            path = StoragePath.of(values["input"])
            parts |= {"input_id": _input_id(path), "input": path.name}
        return _known(RunRecord, values | parts)
    except (ValueError, KeyError, TypeError, AttributeError, StorageError) as error:
        raise JobError(
            f"{path}: not the record of a run that can be gone on with: `--overwrite` starts anew"
        ) from error


def _input_id(path: StoragePath) -> str:
    return content_hash(str(path))[:16]


def _known(kind: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass from JSON; keys of another version are left out."""
    return kind(**{field.name: values[field.name] for field in fields(kind) if field.name in values})  # type: ignore[arg-type]


def manifest_record(output: Output) -> bytes | None:
    """The record of a finished run as JSON; None where there is no manifest, or one that is not ours."""
    if not output.manifest.is_file():
        return None
    with output.manifest.open() as handle:
        try:
            metadata: dict[bytes, bytes] = pq.read_schema(handle).metadata or {}
        except StorageError:
            raise
        except (pa.ArrowException, OSError):
            return None
    return metadata.get(b"facesr")


def is_ours(output: Output) -> bool:
    """True if OUTPUT holds what this program wrote: a finished run, or one that has begun."""
    return output.unfinished or manifest_record(output) is not None


def write_manifest(output: Output, record: RunRecord, rows: RowTable, csv: bool) -> None:
    """Write every file's outcome, with the run's record in the file's metadata; also as CSV on request."""
    table = conformed(rows.table, UPSCALE_MANIFEST.with_metadata({"facesr": record.public.to_json()}))
    path = output.manifest
    with path.writing() as handle:
        pq.write_table(table, handle)
    if csv:
        from pyarrow import csv as arrow_csv

        with output.csv_manifest.writing() as handle:
            arrow_csv.write_csv(table, handle)
