"""Everything Ray, and nothing else: run a worker over work units on one machine or a cluster.

A unit is a small JSON-like dict that names its inputs and its output part. A worker is a class: built once per Ray
actor, called once per unit, it writes the part atomically and returns statistics. The driver gets statistics only;
pictures never pass through it. A unit whose worker dies is run again by Ray elsewhere; nothing else is lost.
"""

import json
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

Unit = dict[str, Any]
Statistics = dict[str, Any]


class WorkerError(RuntimeError):
    """A worker raised, or kept dying; finished units are kept."""


class Worker(Protocol):
    """What runs inside an actor."""

    def __call__(self, unit: Unit) -> Statistics:
        """Do one unit: write its part, return JSON-like statistics. Bad pictures are rows, never exceptions."""


class _Actor:
    """Columns in: `unit` (JSON). Columns out: `statistics` (JSON)."""

    def __init__(self, build: Callable[..., Worker], arguments: tuple[Any, ...], threads: int) -> None:
        self.worker = build(*arguments)
        # thread pools as wide as the actor's share: actors that each take every core slow one another down
        for module, limit in (("torch", "set_num_threads"), ("cv2", "setNumThreads")):
            if module in sys.modules:
                getattr(sys.modules[module], limit)(threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return {"statistics": [json.dumps(self.worker(json.loads(unit))) for unit in batch["unit"]]}


@contextmanager
def session(address: str | None) -> Iterator[None]:
    """Connect to the cluster at `address`, or start a local Ray that listens on 127.0.0.1 alone; end it on leaving."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    # Ray's C++ side warns of what Ray Data itself does with constructor arguments; errors reach us as exceptions
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address is None:
        # a token in memory: ray.init() would otherwise write one into the user's home
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # workers are what the user started, as a stage without Ray is; by default they get what others leave over
        os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        # the object store carries unit descriptions only; Ray's default would reserve 30 % of the memory
        options |= {
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
            "object_store_memory": 128 * 1024 * 1024,
        }
    else:
        options["address"] = address
    on_sigterm = signal.getsignal(signal.SIGTERM)
    from ray._private import services

    outward = services.resolve_ip_for_localhost
    if address is None:
        # init would turn 127.0.0.1 into the address that other machines see, and listen on every interface
        services.resolve_ip_for_localhost = lambda host: host
    try:
        ray.init(**options)
    finally:
        services.resolve_ip_for_localhost = outward
    if threading.current_thread() is threading.main_thread():
        # Ray puts its own handler there, which would exit with another code than the caller promises
        signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        ray.shutdown()


def run_units(
    build: Callable[..., Worker],
    arguments: tuple[Any, ...],
    units: Sequence[Unit],
    *,
    workers: int | None = None,
    cpus_per_worker: int = 1,
    gpus_per_worker: float | None = 0,
    address: str | None = None,
) -> Iterator[Statistics]:
    """Run `build(*arguments)(unit)` for every unit on Ray actors and yield the statistics as units finish.

    Args:
        build: the worker class; its arguments must be small (paths rather than weights).
        units: JSON-like descriptions; none means that Ray is not started at all.
        workers: actors; None takes as many as the machine or cluster has room for, at most one per unit. 1 without
            an address runs in this process, without Ray.
        cpus_per_worker: cores of each actor, also its thread count.
        gpus_per_worker: share of a GPU for each actor; None takes a whole one where there are any.
        address: of a running cluster; None starts a local Ray.

    Raises:
        ValueError: no node is large enough for one worker.
        WorkerError: a worker raised; the message carries its error.
    """
    if not units:
        return
    if workers == 1 and address is None:
        worker = build(*arguments)
        for unit in units:
            yield worker(unit)
        return
    with session(address):
        import ray
        from ray.data import ActorPoolStrategy, DataContext

        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        gpus = 0.0 if gpus_per_worker == 0 else _largest_node("GPU")
        gpus_per_worker = min(1.0, gpus) if gpus_per_worker is None else gpus_per_worker
        if cpus_per_worker > _largest_node("CPU") or gpus_per_worker > gpus:
            # Ray would wait for such a node for ever
            raise ValueError(
                f"no node has {cpus_per_worker} CPUs and {gpus_per_worker:g} GPUs for a worker: "
                f"the largest has {_largest_node('CPU'):g} and {gpus:g}"
            )
        room = int(ray.cluster_resources().get("CPU", 1)) // cpus_per_worker
        if gpus_per_worker:
            room = int(ray.cluster_resources().get("GPU", 0) / gpus_per_worker)
        count = max(1, min(workers or room, room, len(units)))
        items = [{"unit": json.dumps(unit)} for unit in units]
        # one block per unit keeps the unit the grain of retries; reading from items (not from files) and actors that
        # return statistics only cannot starve each other of CPUs, as read tasks and a full actor pool do
        results = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _Actor,
            fn_constructor_args=(build, arguments, cpus_per_worker),
            batch_size=1,
            compute=ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=2),
            num_cpus=cpus_per_worker,
            num_gpus=gpus_per_worker or None,
        )
        try:
            for row in results.iter_rows():
                yield json.loads(row["statistics"])
        except ray.exceptions.RayError as error:
            raise WorkerError(str(error.__cause__ or error).strip()) from error


def _largest_node(resource: str) -> float:
    """Most of a resource that any one node has."""
    import ray

    return max(float(node["Resources"].get(resource, 0)) for node in ray.nodes() if node["Alive"])
