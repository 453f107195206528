"""Parquet files that hold pictures."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, lru_cache
from itertools import accumulate
from threading import Lock
from typing import Any

import pyarrow as pa

from pipeline.core.errors import first_line
from pipeline.sources.base import Entry, FileSource, Reading, SourceError, check_size, refuse_other, short_text
from pipeline.sources.bounds import MAX_KEPT
from pipeline.sources.names import below, common_start, is_rooted, only_name, parts_of, printable
from pipeline.sources.parquet_columns import picture_column, pictures_in
from pipeline.sources.parquet_rows import NO_BYTES, reader, row_limit, rows_of
from pipeline.sources.patterns import labels
from pipeline.storage.object_stores import explained
from pipeline.storage.path import StorageError, StoragePath

KEPT = 64
"""Rows of a file that were read last and are kept, at most."""


class ParquetFiles:
    """Parquet files with a picture column: a struct with `bytes`, plain binary, or lists of these.

    Args:
        paths: the files.
        reading: the picture column, and columns that entries carry as their labels.
    """

    def __init__(self, paths: Sequence[StoragePath], reading: Reading):
        self.paths, self.reading, self.passed_over = list(paths), reading, 0

    def entries(self) -> Iterator[Entry]:
        """Rows in file order, named by the `name` or `path` beside the picture, else by file and row.

        A path is only a name: of those of another machine, the folder that they have in common is left out. Where some
        of several files are damaged, each is named in an entry.
        """
        stems = [printable(path.path.stem) for path in self.paths]
        stems = stems if len(set(stems)) == len(stems) else labels(self.paths)
        unreadable: list[tuple[str, SourceError]] = []
        for index, stem in enumerate(stems):
            try:
                yield from self._rows(index, stem)
            except SourceError as error:
                # a store that fails, or a column that is asked for and missing, is nothing of one file
                if error.__context__ is None or isinstance(error.__context__, StorageError):
                    raise
                unreadable.append((stem, error))
        if unreadable and len(unreadable) == len(self.paths):
            raise unreadable[0][1]
        yield from (Entry(stem, None, str(error)) for stem, error in unreadable)

    def _rows(self, index: int, stem: str) -> Iterator[Entry]:
        path = self.paths[index]
        with _named(path):
            for number, row in enumerate(rows_of(path, self.reading)):
                root = self._common_folder if any(map(is_rooted, row.names)) else []
                usable = (only_name(below(name, root)) for name in row.names)
                name = next((name for name in usable if name), f"{stem}-{number:06d}")
                for picture in range(row.pictures):
                    own = f"{name}#{picture + 1}" if row.pictures > 1 else name
                    yield Entry(own, [index, number, picture], row.problem, row.stamp, labels=row.labels)
        if row_limit(path, self.reading):
            yield FileSource(path).overflow()

    def read(self, key: Any) -> bytes:
        """Bytes of a row's picture; rows beside it are kept for a while, since neighbours are read next."""
        index, row, number = (*key, 0)[:3]
        path = self.paths[index]
        try:
            value = _open(path, self.reading.column, *path.stamp()).value(row)
            data = pictures_in(value)[number] if value is not None else None
        except (pa.ArrowException, OSError, LookupError, StopIteration) as error:
            raise SourceError(f"cannot be read from {path} ({first_line(error)})") from error
        if not data:
            raise SourceError(NO_BYTES)
        check_size(len(data))
        return bytes(data)

    @cached_property
    def _common_folder(self) -> list[str]:
        """Parts of the folder that all paths of another machine have in common."""
        common: list[str] | None = None
        for path in self.paths:
            # what cannot be read is named where it is listed
            with suppress(SourceError), _named(path):
                for row in rows_of(path, self.reading):
                    for name in filter(is_rooted, row.names):
                        common = common_start(common, parts_of(name)[:-1])
        return common or []


class _Table:
    """An open file; its reader must not be used by two threads at once."""

    def __init__(self, path: StoragePath, column: str | None):
        self.path = path
        self.file = reader(path)
        self.pictures = picture_column(path, self.file, column)
        groups = range(self.file.num_row_groups)
        self.starts = [0, *accumulate(self.file.metadata.row_group(group).num_rows for group in groups)]
        self.lock = Lock()
        self.rows: Iterator[Any] = iter(())
        self.group = self.next = -1
        """The group that is read, and the row that `rows` gives next."""
        self.kept: dict[int, Any] = {}
        """Rows that were read last: threads do not ask in order."""

    def value(self, row: int) -> Any:
        with self.lock, explained(self.path.uri):
            if row not in self.kept:
                self.kept[row] = self._read(row)
                while len(self.kept) > 1 and (
                    len(self.kept) > KEPT or sum(map(_weight, self.kept.values())) > MAX_KEPT
                ):
                    del self.kept[next(iter(self.kept))]
            return self.kept[row]

    def _read(self, row: int) -> Any:
        start, self.next = self.next, -1  # until it has worked
        group = bisect_right(self.starts, row) - 1
        if group != self.group or not self.starts[group] <= start <= row:
            # row by row: a group may be larger than memory, and one value may stand for all its rows
            self.rows = self.file.iter_batches(batch_size=1, row_groups=[group], columns=[self.pictures.leaf])
            self.group, start = group, self.starts[group]
        for _ in range(row - start):
            next(self.rows)
        value = next(self.rows).column(self.pictures.column)[0].as_py()
        self.next = row + 1
        return value


def _weight(value: Any) -> int:
    return sum(len(item or b"") for item in pictures_in(value))


@lru_cache(maxsize=4)
def _open(path: StoragePath, column: str | None, *stamp: Any) -> _Table:
    return _Table(path, column)


@contextmanager
def _named(path: StoragePath) -> Iterator[None]:
    """Turn what reading a file raises into a SourceError that names it."""
    try:
        yield
    except (pa.ArrowException, OSError, LookupError) as error:
        refuse_other(path, "parquet")
        text = short_text(error) if isinstance(error, OSError) else first_line(error)
        raise SourceError(f"{path}: not a readable Parquet file ({text})") from error
