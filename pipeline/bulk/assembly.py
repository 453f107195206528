"""Put finished pictures into an archive, in the order of the archive that came in.

What is inside a zip, a tar or a finished Parquet shard is removed from the work folder, so that pictures do not lie on
the disk twice. A single Parquet file, and archives on an object store, are the exception: they cannot be taken up in
their middle after a kill, so nothing is removed before they are whole.
"""

import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.bulk.outputs import Output
from pipeline.bulk.plan import consecutive_groups
from pipeline.bulk.record import json_line, json_lines
from pipeline.core.schema import PICTURES, ROWS_PER_GROUP, Row
from pipeline.core.shards import GROUP_BYTES
from pipeline.runtime.console import Advance, progress

SHARD_BYTES = 256 << 20
"""Pictures in a Parquet shard: large enough for DVC remotes, small enough to be made again."""
STEP = 64
"""Pictures between two notes of how far a zip or tar is."""

Member = list[Any]
"""What the directory of a zip says of a member, JSON; a tar has none."""


class Note(TypedDict):
    """How far an unfinished archive is: a line of JSON."""

    count: int
    """Pictures since the line before."""
    length: int
    """Bytes of the archive."""
    members: list[Member]
    whole: bool


def assemble(output: Output, rows: Sequence[Row]) -> None:
    """Put the pictures of manifest rows into the archive, and it under its name; folders are there already."""
    done = [row for row in rows if row["status"] == "ok"]
    if output.kind in ("folder", "picture"):
        return
    with progress(f"writing {output.path.name}", len(done)) as advance:
        if output.kind == "shards":
            _write_shards(output, done, advance)
        elif output.kind == "parquet":
            with output.path.writing() as handle:
                _stream_parquet(handle, output, done, advance)
        elif output.path.local is None or output.work.local is None:
            with output.path.writing() as handle:
                archive = _ARCHIVES[output.kind](handle, [])
                for row in done:
                    archive.add(output, row)
                    advance(1)
                archive.close()
        else:
            _write_in_steps(output, output.path.local, output.work.local, done, advance)


class _Zip:
    """Members of a zip, stored, as pictures are compressed already; no dates: the same results are the same bytes.

    Args:
        handle: to write to, where the archive goes on.
        members: that are there already, as `last` gave them.
    """

    def __init__(self, handle: IO[bytes], members: list[Member]):
        self.archive = zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED)
        for name, crc, size, offset, flags, attributes in members:
            info = zipfile.ZipInfo(name)
            info.CRC, info.file_size, info.compress_size, info.header_offset = crc, size, size, offset
            info.flag_bits, info.external_attr = flags, attributes
            self.archive.filelist.append(info)
            self.archive.NameToInfo[name] = info

    def add(self, output: Output, row: Row) -> None:
        info = zipfile.ZipInfo(row["file"])
        info.file_size = row["bytes"]
        with output.result_path(row["file"]).open() as source, self.archive.open(info, "w") as member:
            shutil.copyfileobj(source, member, 1 << 20)

    def last(self) -> Member:
        info = self.archive.filelist[-1]
        return [info.filename, info.CRC, info.file_size, info.header_offset, info.flag_bits, info.external_attr]

    def close(self) -> None:
        self.archive.close()

    def abandon(self) -> None:
        self.archive.fp = None  # it would write its directory when it is collected


class _Tar:
    """Members of a tar without dates or owners; otherwise as `_Zip`."""

    def __init__(self, handle: IO[bytes], members: list[Member]):
        self.archive = tarfile.open(fileobj=handle, mode="w")  # noqa: SIM115

    def add(self, output: Output, row: Row) -> None:
        info = tarfile.TarInfo(row["file"])
        info.size = row["bytes"]
        with output.result_path(row["file"]).open() as source:
            self.archive.addfile(info, source)

    def last(self) -> Member:
        return []

    def close(self) -> None:
        self.archive.close()

    def abandon(self) -> None:
        """Nothing is written until `close`."""


_ARCHIVES: dict[str, type[_Zip] | type[_Tar]] = {"zip": _Zip, "tar": _Tar}


def _write_in_steps(output: Output, path: Path, work: Path, rows: Sequence[Row], advance: Advance) -> None:
    """Append to a hidden file; every `STEP` pictures note how far it is, then remove those from the work folder."""
    temporary, notes = work / "assembled", work / "assembled.jsonl"
    noted: list[Note] = list(json_lines(notes.read_text())) if notes.exists() else []
    count = sum(note["count"] for note in noted)
    if noted and noted[-1]["whole"]:
        if temporary.exists():
            temporary.replace(path)
        return
    advance(count)
    temporary.touch()
    with temporary.open("rb+") as handle:
        handle.truncate(noted[-1]["length"] if noted else 0)
        handle.seek(0, os.SEEK_END)
        archive = _ARCHIVES[output.kind](handle, [member for note in noted for member in note["members"]])

        def commit(done: Sequence[Row], members: list[Member], whole: bool = False) -> None:
            handle.flush()
            os.fsync(handle.fileno())
            note: Note = {"count": len(done), "length": handle.tell(), "members": members, "whole": whole}
            with notes.open("a") as journal:
                journal.write(json_line(note))
                journal.flush()
                os.fsync(journal.fileno())
            for row in done:
                output.result_path(row["file"]).remove()

        try:
            for start in range(count, len(rows), STEP):
                members = []
                for row in rows[start : start + STEP]:
                    archive.add(output, row)
                    members.append(archive.last())
                commit(rows[start : start + STEP], members)
                advance(len(members))
        except BaseException:
            archive.abandon()
            raise
        archive.close()
        commit([], [], whole=True)
    temporary.replace(path)


def _write_shards(output: Output, rows: Sequence[Row], advance: Advance) -> None:
    """Which rows a shard holds follows from their sizes alone, so a killed run goes on with the next one."""
    for number, shard in enumerate(consecutive_groups(rows, _size, SHARD_BYTES)):
        done = output.work / f"shard-{number:05d}"
        if not done.exists():
            with (output.path / f"pictures-{number:05d}.parquet").writing() as handle:
                _stream_parquet(handle, output, shard, advance)
            done.write_bytes(b"")
        for row in shard:
            output.result_path(row["file"]).remove()


def _stream_parquet(handle: IO[bytes], output: Output, rows: Iterable[Row], advance: Advance) -> None:
    # pictures are compressed already
    with pq.ParquetWriter(handle, PICTURES, compression="none") as writer:
        for group in consecutive_groups(rows, _size, GROUP_BYTES, ROWS_PER_GROUP):
            images = [{"bytes": output.result_path(row["file"]).read_bytes(), "path": row["file"]} for row in group]
            table = [row | {"image": image} for row, image in zip(group, images, strict=True)]
            writer.write_table(pa.Table.from_pylist(table, schema=PICTURES))
            advance(len(group))


def _size(row: Row) -> int:
    return int(row["bytes"])
