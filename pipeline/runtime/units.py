"""Run a worker over work units on one machine or a cluster, with Ray.

A unit names its inputs and its output part in JSON-like values. A worker is a class: built once per Ray
actor, called once per unit, it writes the part atomically and returns statistics. The driver gets statistics only;
images never pass through it. A unit whose worker dies, or whose node is lost, is run again elsewhere; nothing else
is lost.

All of Ray is in this wing and in pipeline/train/ray_train.py.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.runtime.actor_pools import fixed_pool, growing_pool, pool_size, report_alive
from pipeline.runtime.console import progress
from pipeline.runtime.nodes import cpus_per_worker as default_cpus
from pipeline.runtime.nodes import largest_node, possible, room
from pipeline.runtime.ray_session import NoRoomError, WorkerError, import_early, one_line, session
from pipeline.runtime.stage import StageError

Statistics = dict[str, Any]
"""What a worker returns of a unit, JSON-like: for `do_units`, `images` and `failed`."""


@dataclass(frozen=True)
class Unit:
    """A piece of work, in JSON-like values, since it travels to actors."""

    part: str
    """Path of the file that it leaves; the unit is done once that exists."""

    @property
    def images(self) -> int:
        """Images in it, for the progress bar."""
        raise NotImplementedError


@dataclass(frozen=True)
class RowUnit(Unit):
    """Rows `start` (included) to `stop` (excluded) of the shard `stem`."""

    start: int
    stop: int
    stem: str = ""
    split: str = ""
    method: str = ""
    scale: str = ""

    @property
    def images(self) -> int:
        """Rows."""
        return self.stop - self.start


class Worker(Protocol):
    """What runs inside an actor."""

    def __call__(self, unit: Any) -> Statistics:
        """Do one unit: write its part, return JSON-like statistics. Bad images are rows, never exceptions."""


def run_units(
    build: Callable[..., Worker],
    arguments: tuple[Any, ...],
    units: Sequence[Unit] | Sequence[Mapping[str, object]],
    *,
    workers: int | tuple[int, int] | None = None,
    cpus_per_worker: int | None = None,
    gpus_per_worker: float | None = 0,
    address: str | None = None,
    alive: Callable[[int], None] | None = None,
) -> Iterator[Statistics]:
    """Run `build(*arguments)(unit)` for every unit on Ray actors and yield the statistics as units finish.

    Closing the iterator ends the workers; units that are finished by then stay so.

    Args:
        build: the worker class; its arguments must be small (paths rather than weights).
        units: all of one kind, dataclasses or dicts of JSON-like values; none means that Ray is not started at all.
        workers: actors, at most one per unit. On this machine a number, or (smallest, largest), within the room there
            is; None takes all of it. On a cluster the pool grows as nodes come: from what has room now to the number,
            with None to one per unit; of (smallest, largest), the smallest is asked of the cluster even where there
            is no room yet. 1 without an address runs in this process, without Ray.
        cpus_per_worker: cores of each actor, also its thread count; None takes one, with GPUs the share of a node's
            cores that goes with the GPU. In this process, all cores are used.
        gpus_per_worker: share of a GPU for each actor; None takes a whole one where there are any.
        address: of a running cluster; None starts a local Ray.
        alive: gets the number of workers alive now and then, in a thread of its own; not in this process.

    Raises:
        NoRoomError: no node is large enough for one worker.
        WorkerError: a worker raised; the message starts with its error.
    """
    if not units:
        return
    if workers in (1, (1, 1)) and address is None:
        worker = build(*arguments)
        for unit in units:
            yield worker(unit)
        return
    if address is not None:
        import_early()
    with session(address):
        import ray

        gpus = min(1.0, largest_node("GPU")) if gpus_per_worker is None else gpus_per_worker
        cpus = default_cpus(gpus) if cpus_per_worker is None else cpus_per_worker
        if not possible(cpus, gpus):
            # Ray would wait for such a node for ever
            raise NoRoomError(
                f"no node has {cpus} CPUs and {gpus:g} GPUs for a worker: "
                f"the largest has {largest_node('CPU'):g} and {largest_node('GPU'):g}"
            )
        least, most = pool_size(workers, len(units), room(cpus, gpus), growing=address is not None)
        items = _Items(units)
        actor = (ray.cloudpickle.dumps((build, arguments, type(units[0]))), cpus)
        if address is None:
            pool = fixed_pool(actor, items, most, cpus, gpus)
        else:
            pool = growing_pool(actor, items, least, most, cpus, gpus)
        try:
            with report_alive(alive), closing(pool) as outcomes:
                # a result that was lost with its node is made again, also when it had arrived before
                missing = set(range(len(units)))
                for index, statistics, error, trace in map(json.loads, outcomes):
                    if error:
                        raised = WorkerError(error)
                        raised.add_note(trace)
                        raise raised
                    if index in missing:
                        missing.remove(index)
                        yield statistics
        except ray.exceptions.RayError as failure:
            raise WorkerError(one_line(failure)) from failure
        if missing:
            raise WorkerError(f"{len(missing)} of {len(units)} units gave no result; run again to do them")


class _Items(Sequence[str]):
    """Units as JSON, each made when it is asked for: as text a million entries would lie in memory once more."""

    def __init__(self, units: Sequence[Unit] | Sequence[Mapping[str, object]]):
        self.units = units

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, index: Any) -> Any:
        unit = self.units[index]
        return json.dumps([index, vars(unit) if isinstance(unit, Unit) else unit])


def do_units(
    title: str,
    build: Callable[..., Worker],
    arguments: tuple[Any, ...],
    units: Sequence[Unit],
    **options: Any,
) -> None:
    """Run the units whose part does not exist yet, with a progress bar.

    Args:
        title: shown beside the bar.
        build: worker class.
        arguments: of the worker class.
        units: of work.
        options: of `run_units`.

    Raises:
        NoRoomError: no node is large enough for one worker.
        StageError: a worker raised; bad images are rows and raise nothing.
    """
    missing = [unit for unit in units if not Path(unit.part).exists()]
    total, left = (sum(unit.images for unit in group) for group in (units, missing))
    failed = 0
    with progress(title, total, total - left) as advance:
        try:
            for statistics in run_units(build, arguments, missing, **options):
                failed += statistics["failed"]
                advance(statistics["images"], f"{failed} failed" if failed else "")
        except WorkerError as error:
            raise StageError(f"{title}: {error}; what was finished is kept, run again to go on") from error
