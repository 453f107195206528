"""What of a run lies on storage beside its pictures: rows of finished units, the run's record, the manifest."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.bulk.outputs import Output
from pipeline.core.schema import UPSCALE_MANIFEST
from pipeline.storage.path import StoragePath

Row = dict[str, Any]

PART = pa.schema([*UPSCALE_MANIFEST, ("target", pa.string())])
"""Rows of a finished unit: the manifest's, and the name of the result whether there is one or not."""


def write_part(place: StoragePath, rows: Iterable[Row]) -> None:
    """Write rows of a unit: the mark that it is done."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=PART), sink)
    place.write_bytes(sink.getvalue().to_pybytes())


def read_part(place: StoragePath) -> list[Row]:
    """Rows of a finished unit, or of a manifest."""
    with place.open() as handle:
        rows: list[Row] = pq.read_table(handle).to_pylist()
    return rows


def part_rows(folder: StoragePath, only: str | None = None) -> Iterator[Row]:
    """Rows of all parts in a folder, or of the one called `only`."""
    names = [name for name, _, _ in folder.files()] if folder.exists() else []
    for name in names:
        if name.endswith(".parquet") and not name.startswith(".") and only in (None, name):
            yield from read_part(folder / name)


def read_record(output: Output) -> dict[str, Any] | None:
    """The record of the run that OUTPUT holds, finished or not (`unfinished`); None where there is none of ours."""
    place = output.work / "job.json"
    if place.is_file():
        return json.loads(place.read_bytes()) | {"unfinished": True}
    if not output.manifest.is_file():
        return None
    with output.manifest.open() as handle:
        try:
            metadata = pq.read_schema(handle).metadata or {}
        except pa.ArrowInvalid:
            metadata = {}
    if b"facesr" not in metadata:
        return None
    return json.loads(metadata[b"facesr"]) | {"unfinished": False}


def write_record(output: Output, record: dict[str, Any]) -> None:
    """Beside partial work, so that the same command finds it."""
    (output.work / "job.json").write_bytes(json.dumps(record, indent=2, sort_keys=True).encode())


def write_manifest(output: Output, record: dict[str, Any], rows: Iterable[Row], csv: bool) -> StoragePath:
    """Write every file's fate, with the run's record in the file's metadata; also as CSV on request."""
    schema = UPSCALE_MANIFEST.with_metadata({"facesr": json.dumps(record, sort_keys=True)})
    table = pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)
    place = output.manifest
    with place.writing() as handle:
        pq.write_table(table, handle)
    if csv:
        from pyarrow import csv as arrow_csv

        with place.with_name(place.name.removesuffix(".parquet") + ".csv").writing() as handle:
            arrow_csv.write_csv(table, handle)
    return place
