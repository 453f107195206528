"""The nodes of a Ray cluster: which are there, how much fits on them, and what a function says on each."""

import importlib
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.runtime.ray_session import WorkerError, one_line, session

ANSWER_SECONDS = 120.0
"""How long the nodes have for an answer; starting a process on a busy node takes its time."""


def here() -> str:
    """Id of the node that this runs on; empty outside Ray."""
    ray = sys.modules.get("ray")
    return ray.get_runtime_context().get_node_id() if ray is not None and ray.is_initialized() else ""


def node_alive(node: str) -> bool:
    """Whether the node with this id (as `here` gave it) is still there; asked inside an actor or a session.

    True for the empty id and for the node that asks. A node is dead from when the cluster says so, which may be some
    seconds after its last sign of life, and also when this cluster does not know it (or nothing of Ray runs here).
    """
    own = here()
    if node in ("", own):
        return True
    return bool(own) and node in {str(other["NodeID"]) for other in _alive()}


def on_every_node(
    function: Callable[..., Any], arguments: tuple[Any, ...], address: str | None, seconds: float = ANSWER_SECONDS
) -> dict[str, Any]:
    """Run `function(*arguments)` once on each node, busy or not.

    Args:
        function: of a module that every node can import.
        arguments: small ones.
        address: of a running cluster; None means this machine.
        seconds: how long to wait for all answers.

    Returns:
        The node's address (with the first digits of its id where several nodes share one) -> result.

    Raises:
        WorkerError: one node could not run the function, or some did not answer; the message names them.
    """
    with session(address):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = _alive()
        addresses = [str(node["NodeManagerAddress"]) for node in nodes]
        names = [
            shown if addresses.count(shown) == 1 else f"{shown} ({node['NodeID'][:8]})"
            for shown, node in zip(addresses, nodes, strict=True)
        ]
        name_of_module, name = function.__module__, function.__qualname__

        # inside of this function, so that its code travels: a node may lack the package, or have another version of it
        def answer_of_node() -> Any:
            try:
                found: Any = importlib.import_module(name_of_module)
            except ImportError as error:
                raise RuntimeError(
                    f"cannot import {name_of_module} ({error}): install the same package there"
                ) from error
            for part in name.split("."):
                found = getattr(found, part)
            return found(*arguments)

        remote = ray.remote(num_cpus=0, max_retries=0)(answer_of_node)
        places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
        answers = [remote.options(scheduling_strategy=place).remote() for place in places]
        # those that do not answer end with the session; Ray 2.60 may crash where a task ends while it is cancelled
        there, _ = ray.wait(answers, num_returns=len(answers), timeout=seconds)
        missing = [name for name, answer in zip(names, answers, strict=True) if answer not in there]
        if missing:
            raise WorkerError(f"no answer within {seconds:g} s from node {', '.join(missing)}")
        results = {}
        for name, answer in zip(names, answers, strict=True):
            try:
                results[name] = ray.get(answer)
            except ray.exceptions.RayError as error:
                raise WorkerError(f"node {name}: {one_line(error)}") from error
        return results


def cpus_per_worker(gpus_per_worker: float) -> int:
    """CPUs that a worker gets by default: one; with a share of a GPU, that share of the CPUs of its node."""
    if not gpus_per_worker:
        return 1
    shares = [
        resources["CPU"] / resources["GPU"] * gpus_per_worker
        for resources in _resources()
        if resources.get("GPU", 0) >= gpus_per_worker and resources.get("CPU")
    ]
    return max(1, int(min(shares, default=1)))


def largest_node(resource: str) -> float:
    """Most of a resource that any one node has; nodes that the cluster could still start count as well."""
    return max((float(resources.get(resource, 0)) for resources in (*_resources(), *_startable())), default=0.0)


def room(cpus: int, gpus: float) -> int:
    """Workers of this size that fit on the nodes that are there, busy or not."""
    return sum(_fits(resources, cpus, gpus) for resources in _resources())


def possible(cpus: int, gpus: float) -> bool:
    """Whether a node that is there, or that the cluster could start, is large enough for one worker."""
    return any(_fits(resources, cpus, gpus) for resources in (*_resources(), *_startable()))


def _fits(resources: dict[str, float], cpus: int, gpus: float) -> int:
    by_cpu = resources.get("CPU", 0) / cpus if cpus else math.inf
    by_gpu = math.inf
    if gpus:
        # several workers share a GPU, but none uses parts of two
        on_one = int(1 / gpus + 1e-6)
        by_gpu = resources.get("GPU", 0) * on_one if on_one else resources.get("GPU", 0) / gpus
    return int(min(by_cpu, by_gpu) + 1e-6)


def _alive() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _resources() -> list[dict[str, float]]:
    return [node["Resources"] for node in _alive()]


def _startable() -> Iterator[dict[str, float]]:
    """Kinds of nodes that the cluster's autoscaler could start; none where there is no autoscaler."""
    from ray._private.state import state

    try:
        config = state.get_cluster_config()
        groups = [] if config is None else list(config.node_group_configs)
    except Exception:
        groups = []  # another version of Ray
    for group in groups:
        if group.max_count:
            # a negative number is as much as one likes
            yield {name: math.inf if number < 0 else number for name, number in group.resources.items()}
