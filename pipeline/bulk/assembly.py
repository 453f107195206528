"""Put finished pictures into an archive, in the order of the archive that came in.

What is inside a zip, a tar or a finished Parquet shard is removed from the work folder, so that pictures do not lie on
the disk twice. A single Parquet file, and archives on an object store, are the exception: they cannot be taken up in
their middle after a kill, so nothing is removed before they are whole.
"""

import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.bulk.outputs import Output
from pipeline.core.schema import PICTURES, ROWS_PER_GROUP
from pipeline.core.shards import GROUP_BYTES
from pipeline.runtime.console import Advance, progress

SHARD_BYTES = 256 << 20
"""Pictures in a Parquet shard: large enough for DVC remotes, small enough to be made again."""
STEP = 64
"""Pictures between two notes of how far a zip or tar is."""

Row = dict[str, Any]


def assemble(output: Output, rows: Sequence[Row]) -> None:
    """Put the pictures of manifest rows into the archive, and it under its name; folders are there already."""
    done = [row for row in rows if row["status"] == "ok"]
    if output.kind in ("folder", "picture"):
        return
    with progress(f"writing {output.place.name}", len(done)) as advance:
        if output.kind == "shards":
            _write_shards(output, done, advance)
        elif output.kind == "parquet":
            with output.place.writing() as handle:
                _stream_parquet(handle, output, done, advance)
        elif output.place.local is None or output.work.local is None:
            with output.place.writing() as handle:
                archive = _ARCHIVES[output.kind](handle, 0, [])
                for row in done:
                    archive.add(output, row)
                    advance(1)
                archive.close()
        else:
            _write_in_steps(output, output.place.local, output.work.local, done, advance)


class _Zip:
    """Members of a zip, stored, as pictures are compressed already; no dates: the same results are the same bytes.

    Args:
        handle: to write to, where the archive goes on.
        length: bytes that are there already.
        members: their members, as `last` told them.
    """

    def __init__(self, handle: IO[bytes], length: int, members: list[list[Any]]):
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
        with output.slot(row["file"]).open() as source, self.archive.open(info, "w") as member:
            shutil.copyfileobj(source, member, 1 << 20)

    def last(self) -> list[Any]:
        info = self.archive.filelist[-1]
        return [info.filename, info.CRC, info.file_size, info.header_offset, info.flag_bits, info.external_attr]

    def close(self) -> None:
        self.archive.close()

    def abandon(self) -> None:
        self.archive.fp = None  # it would write its directory when it is collected


class _Tar:
    """Members of a tar without dates or owners; otherwise as `_Zip`."""

    def __init__(self, handle: IO[bytes], length: int, members: list[list[Any]]):
        if handle.seekable():
            self.archive = tarfile.open(fileobj=handle, mode="w")  # noqa: SIM115
        else:
            self.archive = tarfile.open(fileobj=handle, mode="w|")  # noqa: SIM115

    def add(self, output: Output, row: Row) -> None:
        info = tarfile.TarInfo(row["file"])
        info.size = row["bytes"]
        with output.slot(row["file"]).open() as source:
            self.archive.addfile(info, source)

    def last(self) -> list[Any]:
        return []

    def close(self) -> None:
        self.archive.close()

    def abandon(self) -> None:
        """Nothing is written until `close`."""


_ARCHIVES: dict[str, type[_Zip] | type[_Tar]] = {"zip": _Zip, "tar": _Tar}


def _write_in_steps(output: Output, path: Path, work: Path, rows: Sequence[Row], advance: Advance) -> None:
    """Append to a hidden file; every `STEP` pictures note how far it is, then remove those from the work folder."""
    temporary, notes = work / "assembled", work / "assembled.jsonl"
    count, length, members, whole = _noted(notes)
    if whole:
        if temporary.exists():
            temporary.replace(path)
        return
    advance(count)
    temporary.touch()
    fresh: list[list[Any]] = []
    waiting: list[Row] = []
    with temporary.open("rb+") as handle:
        handle.truncate(length)
        handle.seek(length)
        archive = _ARCHIVES[output.kind](handle, length, members)

        def commit(whole: bool = False) -> None:
            handle.flush()
            os.fsync(handle.fileno())
            note = {"count": len(waiting), "length": handle.tell(), "members": fresh, "whole": whole}
            with notes.open("a") as journal:
                journal.write(json.dumps(note) + "\n")
                journal.flush()
                os.fsync(journal.fileno())
            for row in waiting:
                output.slot(row["file"]).remove()
            advance(len(waiting))
            fresh.clear()
            waiting.clear()

        try:
            for row in rows[count:]:
                archive.add(output, row)
                fresh.append(archive.last())
                waiting.append(row)
                if len(waiting) == STEP:
                    commit()
        except BaseException:
            archive.abandon()
            raise
        archive.close()
        commit(whole=True)
    temporary.replace(path)


def _noted(notes: Path) -> tuple[int, int, list[list[Any]], bool]:
    """Pictures, bytes and members that are safely in the unfinished archive, and whether it is whole."""
    count, length, whole = 0, 0, False
    members: list[list[Any]] = []
    for text in notes.read_text().splitlines() if notes.exists() else ():
        try:
            note = json.loads(text)
        except ValueError:
            break  # cut off in the middle of a line
        count, length, whole = count + note["count"], note["length"], note["whole"]
        members += note["members"]
    return count, length, members, whole


def _write_shards(output: Output, rows: Sequence[Row], advance: Advance) -> None:
    """Which rows a shard holds follows from their sizes alone, so a killed run goes on with the next one."""
    shards: list[list[Row]] = []
    size = 0
    for row in rows:
        if not shards or size + row["bytes"] > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(row)
        size += row["bytes"]
    for number, shard in enumerate(shards):
        mark = output.work / f"shard-{number:05d}"
        if not mark.exists():
            with (output.place / f"pictures-{number:05d}.parquet").writing() as handle:
                _stream_parquet(handle, output, shard, advance)
            mark.write_bytes(b"")
        for row in shard:
            slot = output.slot(row["file"])
            if slot.exists():
                slot.remove()


def _stream_parquet(handle: IO[bytes], output: Output, rows: Iterable[Row], advance: Advance) -> None:
    # pictures are compressed already
    with pq.ParquetWriter(handle, PICTURES, compression="none") as writer:
        for group in _groups(rows):
            table = [row | {"image": {"bytes": _bytes(output, row), "path": row["file"]}} for row in group]
            writer.write_table(pa.Table.from_pylist(table, schema=PICTURES))
            advance(len(group))


def _bytes(output: Output, row: Row) -> bytes:
    return output.slot(row["file"]).read_bytes()


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Row groups of bounded count and size."""
    group: list[Row] = []
    size = 0
    for row in rows:
        if group and (len(group) == ROWS_PER_GROUP or size + row["bytes"] > GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(row)
        size += row["bytes"]
    if group:
        yield group
