"""One work unit: reading, the network and writing at the same time, in bounded queues.

Columns in: entries of an archive. Columns out: the manifest's, one row per entry, good or bad.
"""

import errno
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from pipeline.bulk.crash_journal import Journal
from pipeline.bulk.picture_job import StrictError, Treatment, Work
from pipeline.bulk.plan import Item
from pipeline.bulk.record import read_part, write_part
from pipeline.bulk.task import Task
from pipeline.core.errors import first_line
from pipeline.core.images import Planes
from pipeline.runtime.nodes import here, node_alive
from pipeline.runtime.units import Statistics
from pipeline.sources.base import Source
from pipeline.storage.path import StoragePath
from pipeline.upscale.allocator import keep_freed_memory

AHEAD = 3
"""Pictures decoded before the network wants them, and results that wait to be encoded, at most."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class _Batch:
    """Pictures of one shape that go through the network together."""

    members: list[Work] = field(default_factory=list)

    def takes(self, work: Work, pixels: int) -> bool:
        first = self.members[0]
        same = first.pixels.shape == work.pixels.shape and first.pixels.dtype == work.pixels.dtype
        height, width = work.pixels.shape[:2]
        return same and first.steps == work.steps and (len(self.members) + 1) * height * width <= pixels


class BulkWorker:
    """Enlarges units of one job.

    Args:
        task: the job, as JSON-like values (`Task.to_dict`).
        source: INPUT, opened: listing a bucket once is enough.
    """

    def __init__(self, task: dict[str, Any], source: Source):
        keep_freed_memory()
        self.task = Task.from_dict(task)
        self.engine = self.task.engine
        torch.set_num_threads(self.engine.threads)
        self.treatment = Treatment(self.task, source)
        self.readers = ThreadPoolExecutor(1, "read")
        self.writers = ThreadPoolExecutor(max(1, self.engine.threads), "write")
        self.journal_lock = threading.Lock()

    def __call__(self, unit: dict[str, Any]) -> Statistics:
        """Write the unit's pictures, then its part, which is the mark that all of them are there.

        Returns:
            Counts, and `stop` where the run cannot go on.
        """
        part = StoragePath.of(unit["part"])
        if part.exists():
            # the result of a unit that was finished may be lost with its node, and the unit given out again
            return _counted(read_part(part))
        items = [Item(*values) for values in unit["items"]]
        journal = Journal(part.with_name(f"{part.name}.journal"), self.task.run, here(), node_alive)
        try:
            rows = self._unit(items, journal)
            write_part(part, rows)
            journal.remove()
        except StrictError as stop:
            return {"images": 0, "failed": 0, "skipped": 0, "stop": str(stop)}
        except OSError as error:
            return {"images": 0, "failed": 0, "skipped": 0, "stop": _fatal(error)}
        finally:
            with suppress(OSError):
                journal.close()
        return _counted(rows)

    def _unit(self, items: Sequence[Item], journal: Journal) -> list[dict[str, Any]]:
        works = [self.treatment.work(index, item) for index, item in enumerate(items)]
        todo = []
        for work in works:
            if work.index in journal.poison:
                work.row |= {"status": "skipped", "error": "alone in work, it killed its worker twice; left out"}
            elif work.item.problem:
                self.treatment.failed(work, work.item.problem)
            else:
                todo.append(work)
        if journal.suspects:
            self._carefully(todo, journal)
        else:
            self._together(todo, journal)
        return [work.row for work in works]

    def _together(self, works: Sequence[Work], journal: Journal) -> None:
        """Reading, the network and writing overlap; pictures in work are bounded."""

        def read(work: Work) -> Work:
            with self.journal_lock:
                journal.begin([work.index])
            self.treatment.read(work)
            return work

        def write(work: Work, result: Planes, seconds: float) -> None:
            self.treatment.write(work, result, seconds)
            with self.journal_lock:
                journal.end([work.index])

        writing: deque[Future[None]] = deque()
        try:
            for batch in self._batches(_ahead(self.readers, read, works, AHEAD)):
                for work, result, seconds in self.treatment.enlarged(batch.members):
                    while len(writing) >= AHEAD + self.engine.threads:
                        writing.popleft().result()
                    writing.append(self.writers.submit(write, work, result, seconds))
            while writing:
                writing.popleft().result()
        finally:
            for future in writing:
                future.exception()  # let them end before the journal is closed

    def _carefully(self, works: Sequence[Work], journal: Journal) -> None:
        """One after the other, suspects alone, so that the next death has one cause. The batches are those of always,
        filled up with the suspect itself: another shape could round otherwise.
        """

        def read(work: Work) -> Work:
            journal.begin([work.index])
            self.treatment.read(work)
            journal.end([work.index])
            return work

        for batch in self._batches(map(read, works)):
            members = batch.members
            alone = any(work.index in journal.suspects for work in members)
            for group in [[work] for work in members] if alone else [members]:
                journal.begin(work.index for work in group)
                for work, result, seconds in self.treatment.enlarged(group, len(members)):
                    self.treatment.write(work, result, seconds)
                journal.end(work.index for work in group)

    def _batches(self, works: Iterable[Work]) -> Iterator[_Batch]:
        """Neighbours of one shape: what goes together follows from the unit alone."""
        batch = _Batch()
        for work in works:
            if work.picture is None:
                continue
            if batch.members and not batch.takes(work, self.engine.batch_pixels):
                yield batch
                batch = _Batch()
            batch.members.append(work)
        if batch.members:
            yield batch


def _counted(rows: Sequence[dict[str, Any]]) -> Statistics:
    counts = {status: sum(row["status"] == status for row in rows) for status in ("failed", "skipped")}
    return {"images": len(rows), **counts}


def _ahead(executor: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], depth: int) -> Iterator[R]:
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
            future.cancel()


def _fatal(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; make room and run the same command again, what is done is kept"
    return f"{first_line(error)}; what is done is kept, run the same command again to go on"
