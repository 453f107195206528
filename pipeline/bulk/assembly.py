"""Put finished pictures into an archive, in the order of the archive that came in.

What is inside a zip, a tar or a finished Parquet shard is removed from the work folder, so that pictures do not lie on
the disk twice. A single Parquet file, and archives on an object store, are the exception: they cannot be taken up in
their middle after a kill, so nothing is removed before they are whole.
"""

import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import takewhile
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.bulk.outputs import Output
from pipeline.bulk.plan import consecutive_groups
from pipeline.bulk.record import RowTable, json_line, json_lines
from pipeline.core.files import write_bytes
from pipeline.core.schema import PICTURES, ROWS_PER_GROUP, Row
from pipeline.core.shards import GROUP_BYTES
from pipeline.runtime.console import Advance, progress
from pipeline.storage.path import StoragePath

SHARD_BYTES = 256 << 20
"""Pictures in a Parquet shard: large enough for DVC remotes, small enough to be made again."""
STEP = 64
"""Pictures between two notes of how far a zip or tar is."""

Member = list[Any]
"""A picture in an unfinished archive, JSON: the five values of `identity`, where the archive ends after it, and what
the directory of a zip says of it (a tar has none)."""
_IDENTITY = 5


class Note(TypedDict):
    """How far an unfinished archive is: a line of JSON."""

    members: list[Member]
    """Pictures since the line before."""
    length: int
    """Bytes of the archive."""
    whole: bool


def assemble(output: Output, rows: RowTable) -> None:
    """Put the pictures of manifest rows into the archive, and it under its name; folders are there already."""
    if output.kind in ("folder", "picture"):
        return
    done = rows.where([status == "ok" for status in rows.column("status")])
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
        for name, crc, size, offset, flags, attributes in (member[_IDENTITY + 1 :] for member in members):
            info = zipfile.ZipInfo(name)
            info.CRC, info.file_size, info.compress_size, info.header_offset = crc, size, size, offset
            info.flag_bits, info.external_attr = flags, attributes
            self.archive.filelist.append(info)
            self.archive.NameToInfo[name] = info

    def add(self, output: Output, row: Row) -> None:
        """Append the picture of a row."""
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
        """Append the picture of a row."""
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


def held(output: Output) -> Set[tuple[Any, ...]]:
    """The `identity` of pictures that lie in what is assembled so far, and perhaps nowhere else."""
    return {tuple(member[:_IDENTITY]) for member in _moved(output)}


def identity(row: Row) -> list[Any]:
    """What tells the result of a row from any other: also of the same name, made of another INPUT."""
    return [row["file"], row["name"], row["stamp"], row["id"], row["bytes"]]


def _moved(output: Output) -> Iterator[Member]:
    if output.kind == "shards":
        for mark, _, _ in output.work.files(recursive=False):
            if mark.startswith("shard-") and _shard_of(output, mark).is_file():
                yield from _shard_members(output, mark)
    elif output.kind in _ARCHIVES and output.work.local is not None and _holder(output) is not None:
        yield from _members(_notes(output.work.local))


def _notes(work: Path) -> list[Note]:
    path = work / "assembled.jsonl"
    notes = list(json_lines(path.read_text())) if path.exists() else []
    # lines of an earlier version count members without naming them: what they tell of cannot be told apart
    return [] if any("count" in note for note in notes) else notes


def _members(notes: Sequence[Note]) -> list[Member]:
    return [member for note in notes for member in note["members"]]


def _holder(output: Output) -> Path | None:
    """The file that holds what is assembled; None where it is gone or somebody else's."""
    work, path = output.work.local, output.path.local
    notes = _notes(work) if work is not None else []
    if work is None or path is None or not notes:
        return None
    temporary, length = work / "assembled", notes[-1]["length"]
    if temporary.is_file() and temporary.stat().st_size >= length:
        return temporary
    # it has its name already, where a run was killed before the manifest
    return path if notes[-1]["whole"] and path.is_file() and path.stat().st_size == length else None


def _write_in_steps(output: Output, path: Path, work: Path, rows: RowTable, advance: Advance) -> None:
    """Append to a hidden file; every `STEP` pictures note how far it is, then remove those from the work folder.

    Where what is assembled is not the beginning of what is to be assembled (INPUT has changed since), it is cut off
    there, and what follows and is still wanted goes back into the work folder.
    """
    temporary, notes = work / "assembled", work / "assembled.jsonl"
    noted, holder = _notes(work), _holder(output)
    members = [] if holder is None else _members(noted)
    fits = (member[:_IDENTITY] == identity(row) for member, row in zip(members, rows, strict=False))
    count = sum(takewhile(bool, fits))
    if holder is not None and noted[-1]["whole"] and count == len(rows) == len(members):
        holder.replace(path)
        return
    if holder == path:
        count = 0  # it is under its name, and stays whole until the next one is
    if holder is not None:
        _recover(output, holder, members[count:], rows)
    members = members[:count]
    end = members[-1][_IDENTITY] if members else 0
    write_bytes(notes, json_line(Note(members=members, length=end, whole=False)).encode())
    advance(count)
    temporary.touch()
    with temporary.open("rb+") as handle:
        handle.truncate(end)
        handle.seek(0, os.SEEK_END)
        archive = _ARCHIVES[output.kind](handle, members)

        def commit(done: Sequence[Row], added: list[Member], whole: bool = False) -> None:
            handle.flush()
            os.fsync(handle.fileno())
            note: Note = {"members": added, "length": handle.tell(), "whole": whole}
            with notes.open("a") as journal:
                journal.write(json_line(note))
                journal.flush()
                os.fsync(journal.fileno())
            for row in done:
                output.result_path(row["file"]).remove()

        try:
            for start in range(count, len(rows), STEP):
                added, piece = [], list(rows[start : start + STEP])
                for row in piece:
                    archive.add(output, row)
                    added.append([*identity(row), handle.tell(), *archive.last()])
                commit(piece, added)
                advance(len(added))
        except BaseException:
            archive.abandon()
            raise
        archive.close()
        commit([], [], whole=True)
    temporary.replace(path)


def _recover(output: Output, holder: Path, members: Iterable[Member], rows: Iterable[Row]) -> None:
    """Write pictures that are inside an archive, and still wanted, back into the work folder."""
    wanted = {tuple(identity(row)) for row in rows}
    for member in members:
        name, size, end = member[0], member[_IDENTITY - 1], member[_IDENTITY]
        path = output.result_path(name)
        if tuple(member[:_IDENTITY]) not in wanted or (path.is_file() and path.size() == size):
            continue
        # nothing follows the bytes of a picture but a tar's padding
        padding = -size % tarfile.BLOCKSIZE if output.kind == "tar" else 0
        path.write_bytes(StoragePath.of(holder).read_at(end - padding - size, size))


def _shard_of(output: Output, mark: str) -> StoragePath:
    return output.path / f"pictures-{mark.removeprefix('shard-')}.parquet"


def _shard_members(output: Output, mark: str) -> list[Member]:
    return list(json_lines((output.work / mark).read_bytes().decode()))


def _write_shards(output: Output, rows: RowTable, advance: Advance) -> None:
    """Which rows a shard holds follows from their sizes alone, so a killed run goes on with the next one."""
    groups = consecutive_groups(range(len(rows)), rows.column("bytes").__getitem__, SHARD_BYTES)
    shards = {f"shard-{number:05d}": rows[group[0] : group[-1] + 1] for number, group in enumerate(groups)}
    marks = [name for name, _, _ in output.work.files(recursive=False) if name.startswith("shard-")]
    fitting = {
        mark for mark in marks if mark in shards and _shard_members(output, mark) == list(map(identity, shards[mark]))
    }
    stale = [mark for mark in marks if mark not in fitting or not _shard_of(output, mark).is_file()]
    needed = {tuple(identity(row)) for row in rows} if stale else set()
    for mark in stale:
        _recover_shard(output, mark, needed)
    for mark in stale:  # the mark last: without it nobody knows whose the shard is
        _shard_of(output, mark).remove()
        (output.work / mark).remove()
    for mark, shard in shards.items():
        done = output.work / mark
        if not done.exists():
            with _shard_of(output, mark).writing() as handle:
                _stream_parquet(handle, output, shard, advance)
            done.write_bytes("".join(json_line(identity(row)) for row in shard).encode())
        for row in shard:
            output.result_path(row["file"]).remove()


def _recover_shard(output: Output, mark: str, needed: Set[tuple[Any, ...]]) -> None:
    """As `_recover`."""
    path = _shard_of(output, mark)
    members = _shard_members(output, mark)
    if not members or not path.is_file():
        return
    with path.open() as handle:
        images = (image for batch in pq.ParquetFile(handle).iter_batches(16, columns=["image"]) for image in batch[0])
        for member, image in zip(members, images, strict=False):
            result = output.result_path(member[0])
            if tuple(member) in needed and not result.is_file():
                result.write_bytes(image["bytes"].as_py())


def _stream_parquet(handle: IO[bytes], output: Output, rows: Iterable[Row], advance: Advance) -> None:
    # pictures are compressed already
    with pq.ParquetWriter(handle, PICTURES, compression="none") as writer:
        for group in consecutive_groups(rows, itemgetter("bytes"), GROUP_BYTES, lambda _: ROWS_PER_GROUP):
            images = [{"bytes": output.result_path(row["file"]).read_bytes(), "path": row["file"]} for row in group]
            table = [row | {"image": image} for row, image in zip(group, images, strict=True)]
            writer.write_table(pa.Table.from_pylist(table, schema=PICTURES))
            advance(len(group))
