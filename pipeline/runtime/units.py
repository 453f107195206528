"""Run a worker over work units on one machine or a cluster, with Ray.

A unit names its inputs and its output part in JSON-like values. A worker is a class: built once per Ray
actor, called once per unit, it writes the part atomically and returns statistics. The driver gets statistics only;
pictures never pass through it. A unit whose worker dies, or whose node is lost, is run again elsewhere; nothing else
is lost.

All of Ray is in here, in ray_session.py and nodes.py beside it, and in pipeline/train/ray_train.py.
"""

import json
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.runtime.console import progress
from pipeline.runtime.nodes import cpus_per_worker as default_cpus
from pipeline.runtime.nodes import here, largest_node, node_alive, on_every_node, possible, room
from pipeline.runtime.ray_session import WorkerError, import_early, one_line, prepare, session
from pipeline.runtime.stage import StageError

__all__ = [
    "Statistics",
    "Unit",
    "Worker",
    "WorkerError",
    "here",
    "node_alive",
    "on_every_node",
    "prepare",
    "run_units",
    "session",
]

Statistics = dict[str, Any]

ALIVE_SECONDS = 2.0
"""Time between two reports of how many workers there are."""


@dataclass(frozen=True)
class Unit:
    """A piece of work, in JSON-like values, since it travels to actors."""

    part: str
    """The file that it leaves: the mark that it is done."""

    @property
    def images(self) -> int:
        """Pictures in it, for the progress bar."""
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
        """Do one unit: write its part, return JSON-like statistics. Bad pictures are rows, never exceptions."""


class _Actor:
    """Items in: `index`, `unit` (JSON of its fields). Items out: `index`, `statistics` (JSON), `error`, `traceback`.

    An error is a result like others: Ray would wrap it into pages of its own, and log those.
    """

    def __init__(self, build: Callable[..., Worker], arguments: tuple[Any, ...], kind: type, threads: int) -> None:
        self.kind = kind
        self.failure: tuple[str, str] | None = None
        try:
            self.worker = build(*arguments)
        except Exception as error:
            self.failure = one_line(error), traceback.format_exc()
        # thread pools as wide as the actor's share: actors that each take every core slow one another down
        for module, limit in (("torch", "set_num_threads"), ("cv2", "setNumThreads")):
            if module in sys.modules:
                getattr(sys.modules[module], limit)(threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """A batch of one, as Ray Data has it."""
        (index,), (unit,) = batch["index"], batch["unit"]
        return {name: [value] for name, value in self.do({"index": int(index), "unit": unit}).items()}

    def do(self, item: dict[str, Any]) -> dict[str, Any]:
        """One item."""
        statistics, (error, trace) = "", self.failure or ("", "")
        if not self.failure:
            try:
                statistics = json.dumps(self.worker(self.kind(**json.loads(item["unit"]))))
            except Exception as raised:
                error, trace = one_line(raised), traceback.format_exc()
        return {"index": item["index"], "statistics": statistics, "error": error, "traceback": trace}


def run_units(
    build: Callable[..., Worker],
    arguments: tuple[Any, ...],
    units: Sequence[Unit] | Sequence[dict[str, Any]],
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
        alive: gets the number of workers alive every `ALIVE_SECONDS`, in a thread of its own; not in this process.

    Raises:
        ValueError: no node is large enough for one worker.
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
            raise ValueError(
                f"no node has {cpus} CPUs and {gpus:g} GPUs for a worker: "
                f"the largest has {largest_node('CPU'):g} and {largest_node('GPU'):g}"
            )
        least, most = _pool(workers, len(units), room(cpus, gpus), growing=address is not None)
        fields = [unit if isinstance(unit, dict) else vars(unit) for unit in units]
        items = [{"index": index, "unit": json.dumps(unit)} for index, unit in enumerate(fields)]
        actor = (build, arguments, type(units[0]), cpus)
        if address is None:
            rows_of = _fixed(actor, items, most, cpus, gpus)
        else:
            rows_of = _growing(actor, items, least, most, cpus, gpus)
        try:
            with _reports(alive), closing(rows_of) as rows:
                # a result that was lost with its node is made again, also when it had arrived before
                missing = set(range(len(units)))
                for row in rows:
                    if row["error"]:
                        raised = WorkerError(row["error"])
                        raised.add_note(row["traceback"])
                        raise raised
                    if row["index"] in missing:
                        missing.remove(row["index"])
                        yield json.loads(row["statistics"])
        except ray.exceptions.RayError as error:
            raise WorkerError(one_line(error)) from error
        if missing:
            raise WorkerError(f"{len(missing)} of {len(units)} units gave no result; run again to do them")


def _pool(workers: int | tuple[int, int] | None, units: int, room: int, growing: bool) -> tuple[int, int]:
    """Smallest and largest number of actors."""
    if isinstance(workers, tuple):
        least, most = workers
    elif growing:
        least, most = min(workers or room, room), workers or units
    else:
        least = most = workers or room
    if not growing:
        least, most = min(least, room), min(most, room)
    most = max(1, min(most, units))
    return max(1, min(least, most)), most


def _fixed(
    actor: tuple[Any, ...], items: list[dict[str, Any]], count: int, cpus: int, gpus: float
) -> Generator[dict[str, Any]]:
    """Results of a pool of actors that stays as it is: Ray's own ActorPool, which starts seconds sooner than Ray Data.

    Ray restarts dead actors, and runs their units again, as often as it takes.
    """
    import ray
    from ray.util import ActorPool

    remote = ray.remote(_Actor).options(num_cpus=cpus, num_gpus=gpus or None, max_restarts=-1, max_task_retries=-1)
    actors = [remote.remote(*actor) for _ in range(count)]
    try:
        yield from ActorPool(actors).map_unordered(lambda one, item: one.do.remote(item), items)
    finally:
        for one in actors:
            ray.kill(one)


def _growing(
    actor: tuple[Any, ...], items: list[dict[str, Any]], least: int, most: int, cpus: int, gpus: float
) -> Generator[dict[str, Any]]:
    """Results of a pool that grows as nodes come: Ray Data's.

    One block per unit keeps the unit the grain of retries; reading from items (not from files) and actors that return
    statistics only cannot starve each other of CPUs, as read tasks and a full actor pool do. The blocks live with the
    driver, so that no lost node takes any with it. Ray Data restarts dead actors, and runs their units again, as often
    as it takes.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    results = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Actor,
        fn_constructor_args=actor,
        batch_size=1,
        compute=ActorPoolStrategy(min_size=least, max_size=most, max_tasks_in_flight_per_actor=2),
        num_cpus=cpus,
        num_gpus=gpus or None,
    )
    yield from results.iter_rows()


@contextmanager
def _reports(alive: Callable[[int], None] | None) -> Iterator[None]:
    """Tell `alive` now and then how many workers there are, as well as Ray knows."""
    if alive is None:
        yield
        return
    over = threading.Event()

    def report() -> None:
        while not over.wait(ALIVE_SECONDS):
            # whatever goes wrong here, it is no reason to stop
            with suppress(Exception):
                alive(_actors())

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(ALIVE_SECONDS)


def _actors() -> int:
    import ray
    from ray._private import state

    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    actors = state.actors(job_id=job, actor_state_name="ALIVE").values()
    # Ray Data has actors of its own beside the pool; those of the pool have ours in their name
    names = [actor["ActorClassName"] for actor in actors]
    return sum("MapWorker" in name or name.rpartition(".")[2] == _Actor.__name__ for name in names)


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
        StageError: a worker raised; bad pictures are rows and raise nothing.
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
