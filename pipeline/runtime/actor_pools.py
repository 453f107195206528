"""Pools of Ray actors: of a fixed size on one machine, growing with the nodes of a cluster."""

import json
import logging
import pickle
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pipeline.core.imports import spare_meta_kernels, spare_pandas
from pipeline.runtime.ray_patches import alive_actors
from pipeline.runtime.ray_session import one_line

ALIVE_SECONDS = 2.0
"""Time between two reports of how many workers there are."""


class _Actor:
    """A worker in a process of its own: JSON of [index, unit] in, JSON of [index, statistics, error, traceback] out.

    An error is a result like others: Ray would wrap it into pages of its own, and log those.

    Args:
        work: pickled worker class, arguments and class of the units: unpickled here, they are imported as is said here.
        threads: of the worker.
    """

    def __init__(self, work: bytes, threads: int) -> None:
        self.failure: tuple[str, str] | None = None
        spare_pandas()
        spare_meta_kernels()
        try:
            build, arguments, self.kind = pickle.loads(work)  # noqa: S301  # of the driver, as all that Ray brings
            self.worker = build(*arguments)
        except Exception as error:
            self.failure = one_line(error), traceback.format_exc()
        # thread pools as wide as the actor's share: actors that each take every core slow one another down
        for module, limit in (("torch", "set_num_threads"), ("cv2", "setNumThreads")):
            if module in sys.modules:
                getattr(sys.modules[module], limit)(threads)

    def __call__(self, batch: dict[str, Sequence[str]]) -> dict[str, list[str]]:
        """A batch, as Ray Data has it."""
        return {"item": [self.do(item) for item in batch["item"]]}

    def do(self, item: str) -> str:
        """One item."""
        index, unit = json.loads(item)
        statistics, (error, trace) = None, self.failure or ("", "")
        if not self.failure:
            try:
                statistics = self.worker(self.kind(**unit))
            except Exception as raised:
                error, trace = one_line(raised), traceback.format_exc()
        return json.dumps([index, statistics, error, trace])


def pool_size(workers: int | tuple[int, int] | None, units: int, room: int, growing: bool) -> tuple[int, int]:
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


def fixed_pool(actor: tuple[Any, ...], items: Sequence[str], count: int, cpus: int, gpus: float) -> Generator[str]:
    """Results of a pool of actors that stays as it is: Ray's own ActorPool, which starts seconds sooner than Ray Data.

    Ray restarts dead actors, and runs their units again, as often as it takes.
    """
    import ray
    from ray.util import ActorPool

    remote = ray.remote(_Actor).options(num_cpus=cpus, num_gpus=gpus or None, max_restarts=-1, max_task_retries=-1)
    actors = [remote.remote(*actor) for _ in range(count)]
    try:
        # numbers wait in Ray's queue, and an item is made when an actor is free for it
        yield from ActorPool(actors).map_unordered(
            lambda free, index: free.do.remote(items[index]), list(range(len(items)))
        )
    finally:
        for started in actors:
            ray.kill(started)


def growing_pool(
    actor: tuple[Any, ...], items: Sequence[str], least: int, most: int, cpus: int, gpus: float
) -> Generator[str]:
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
    results = ray.data.from_items(list(items), override_num_blocks=len(items)).map_batches(
        _Actor,
        fn_constructor_args=actor,
        batch_size=1,
        compute=ActorPoolStrategy(min_size=least, max_size=most, max_tasks_in_flight_per_actor=2),
        num_cpus=cpus,
        num_gpus=gpus or None,
    )
    for row in results.iter_rows():
        yield row["item"]


@contextmanager
def report_alive(alive: Callable[[int], None] | None) -> Iterator[None]:
    """Call `alive` now and then with how many workers there are, as well as Ray knows."""
    if alive is None:
        yield
        return
    over = threading.Event()

    def report() -> None:
        while not over.wait(ALIVE_SECONDS):
            # whatever goes wrong here, it is no reason to stop
            with suppress(Exception):
                alive(_count_alive())

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(ALIVE_SECONDS)


def _count_alive() -> int:
    import ray

    # Ray Data has actors of its own beside the pool; those of the pool have ours in their name
    names = alive_actors(ray.get_runtime_context().get_job_id())
    return sum("MapWorker" in name or name.rpartition(".")[2] == _Actor.__name__ for name in names)
