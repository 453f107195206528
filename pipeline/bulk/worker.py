"""One work unit: reading, the network and writing at the same time, in bounded queues.

Columns in: entries of an archive. Columns out: the manifest's, one row per entry, good or bad.
"""

import errno
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import chain
from typing import TypeVar

import torch

from pipeline.bulk.crash_journal import CrashJournal
from pipeline.bulk.outputs import Output
from pipeline.bulk.picture_job import PictureJob, StrictError, Work
from pipeline.bulk.plan import BulkUnit, Item
from pipeline.bulk.record import read_part, write_part
from pipeline.bulk.settings import Engine, Settings
from pipeline.core.errors import first_line
from pipeline.core.images import Planes
from pipeline.core.schema import Row
from pipeline.models.allocator import keep_freed_memory
from pipeline.runtime.nodes import here, node_alive
from pipeline.runtime.units import Statistics
from pipeline.sources.base import Source
from pipeline.storage.path import StoragePath

AHEAD = 3
"""Pictures decoded before the network wants them, and results that wait to be encoded, at most."""

T = TypeVar("T")
R = TypeVar("R")


class BulkWorker:
    """Enlarges units of one job.

    Args:
        output: OUTPUT.
        settings: of the run.
        engine: of the run.
        source: INPUT, opened: listing a bucket once is enough.
        run: names this run of the command.
        strict: stop at the first failure.
        decode_seconds: that a picture may take to be decoded.

    Raises:
        ModelError: the weights are not those that the run was started with.
    """

    def __init__(
        self,
        output: Output,
        settings: Settings,
        engine: Engine,
        source: Source,
        run: str,
        strict: bool,
        decode_seconds: float,
    ):
        keep_freed_memory()
        self.run = run
        self.engine = engine
        torch.set_num_threads(engine.threads)
        self.images = PictureJob(output, settings, engine, source, strict, decode_seconds)
        self.readers = ThreadPoolExecutor(1, "read")
        self.writers = ThreadPoolExecutor(max(1, engine.threads), "write")

    def __call__(self, unit: BulkUnit) -> Statistics:
        """Write the unit's pictures, then its part, which is the mark that all of them are there.

        Returns:
            Counts, and `stop` where the run cannot go on.
        """
        part = StoragePath.of(unit.part)
        if part.exists():
            # the result of a unit that was finished may be lost with its node, and the unit given out again
            return _counted(read_part(part))
        journal = CrashJournal(part.with_name(f"{part.name}.journal"), self.run, here(), node_alive)
        try:
            rows = self._unit(unit.items, journal)
            write_part(part, rows)
        except (StrictError, OSError) as error:
            return _counted([]) | {"stop": _why_stopped(error)}
        finally:
            with suppress(OSError):
                journal.close()
        with suppress(OSError):  # beside its part it says nothing any more
            journal.remove()
        return _counted(rows)

    def _unit(self, items: Sequence[Item], journal: CrashJournal) -> list[Row]:
        works = [self.images.work(index, item) for index, item in enumerate(items)]
        todo = []
        for work in works:
            if work.index in journal.poison:
                work.row |= {"status": "skipped", "error": "alone in work, it killed its worker twice; left out"}
            elif work.item.problem:
                self.images.failed(work, work.item.problem)
            else:
                todo.append(work)
        if journal.suspects:
            self._carefully(todo, journal)
        else:
            self._together(todo, journal)
        return [work.row for work in works]

    def _together(self, works: Sequence[Work], journal: CrashJournal) -> None:
        """Reading, the network and writing overlap; pictures in work are bounded."""

        def read(work: Work) -> Work:
            journal.begin([work.index])
            self.images.read(work)
            return work

        def write(enlarged: tuple[Work, Planes, float]) -> None:
            self.images.write(*enlarged)
            journal.end([enlarged[0].index])

        # nothing is begun any more when the journal is closed
        with closing(_ahead(self.readers, read, works, AHEAD)) as decoded:
            results = chain.from_iterable(map(self.images.enlarged, self._batches(decoded)))
            deque(_ahead(self.writers, write, results, AHEAD + self.engine.threads), maxlen=0)

    def _carefully(self, works: Sequence[Work], journal: CrashJournal) -> None:
        """One after the other, suspects alone, so that the next death has one cause. The batches are those of always,
        filled up with the suspect itself: another shape could round otherwise.
        """

        def read(work: Work) -> Work:
            journal.begin([work.index])
            self.images.read(work)
            journal.end([work.index])
            return work

        for batch in self._batches(map(read, works)):
            alone = any(work.index in journal.suspects for work in batch)
            for group in [[work] for work in batch] if alone else [batch]:
                journal.begin(work.index for work in group)
                for work, result, seconds in self.images.enlarged(group, len(batch)):
                    self.images.write(work, result, seconds)
                journal.end(work.index for work in group)

    def _batches(self, works: Iterable[Work]) -> Iterator[list[Work]]:
        """Neighbours of one shape that go through the network together: this follows from the unit alone."""
        batch: list[Work] = []
        for work in works:
            if work.picture is None:
                continue
            height, width = work.pixels.shape[:2]
            fits = (len(batch) + 1) * height * width <= self.engine.batch_pixels
            if batch and not (fits and work.alike(batch[0])):
                yield batch
                batch = []
            batch.append(work)
        if batch:
            yield batch


def _counted(rows: Sequence[Row]) -> Statistics:
    counts = {status: sum(row["status"] == status for row in rows) for status in ("failed", "skipped")}
    return {"images": len(rows), **counts}


def _ahead(executor: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], depth: int) -> Generator[R]:
    """`map`, some items ahead of whoever takes the results, in order."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            if not future.cancel():
                future.exception()  # waits for it


def _why_stopped(error: StrictError | OSError) -> str:
    if isinstance(error, StrictError):
        return str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; make room and run the same command again, what is done is kept"
    return f"{first_line(error)}; what is done is kept, run the same command again to go on"
