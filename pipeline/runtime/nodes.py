"""The nodes of a Ray cluster: which are alive, how many workers fit on them, and a function's result on each."""

import importlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.runtime.ray_patches import startable_nodes
from pipeline.runtime.ray_session import WorkerError, one_line, session

Result = TypeVar("Result")

ANSWER_SECONDS = 120.0
"""How long the nodes have for an answer; starting a process on a busy node takes its time."""


@dataclass(frozen=True)
class Node:
    """A node that is alive."""

    id: str
    address: str
    resources: dict[str, float]
    """Amount of each, `CPU` and `GPU` among them."""


def _alive() -> list[Node]:
    import ray

    return [
        Node(str(node["NodeID"]), str(node["NodeManagerAddress"]), node["Resources"])
        for node in ray.nodes()
        if node["Alive"]
    ]


def here() -> str:
    """Id of the node that this runs on; empty outside Ray."""
    ray = sys.modules.get("ray")
    return ray.get_runtime_context().get_node_id() if ray is not None and ray.is_initialized() else ""


def node_alive(node: str) -> bool:
    """True if the node with this id (as `here` gave it) is still there; called inside an actor or a session.

    True for the empty id and for the node that calls. A node is dead from when the cluster says so, which may be some
    seconds after its last sign of life, and also when this cluster does not know it (or nothing of Ray runs here).
    """
    own = here()
    if node in ("", own):
        return True
    return bool(own) and node in {other.id for other in _alive()}


def on_every_node(
    function: Callable[..., Result], arguments: tuple[Any, ...], address: str | None, seconds: float = ANSWER_SECONDS
) -> dict[str, Result]:
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
        addresses = [node.address for node in nodes]
        labels = [
            node.address if addresses.count(node.address) == 1 else f"{node.address} ({node.id[:8]})" for node in nodes
        ]
        module, name = function.__module__, function.__qualname__

        # inside of this function, so that its code travels: a node may lack the package, or have another version of it
        def call() -> Any:
            try:
                found: Any = importlib.import_module(module)
            except ImportError as error:
                raise RuntimeError(f"cannot import {module} ({error}): install the same package there") from error
            for attribute in name.split("."):
                found = getattr(found, attribute)
            return found(*arguments)

        remote = ray.remote(num_cpus=0, max_retries=0)(call)
        strategies = [NodeAffinitySchedulingStrategy(node.id, soft=False) for node in nodes]
        calls = [remote.options(scheduling_strategy=strategy).remote() for strategy in strategies]
        # those that do not answer end with the session; Ray 2.60 may crash where a task ends while it is cancelled
        finished, _ = ray.wait(calls, num_returns=len(calls), timeout=seconds)
        missing = [label for label, call in zip(labels, calls, strict=True) if call not in finished]
        if missing:
            raise WorkerError(f"no answer within {seconds:g} s from node {', '.join(missing)}")
        results = {}
        for label, call in zip(labels, calls, strict=True):
            try:
                results[label] = ray.get(call)
            except ray.exceptions.RayError as error:
                raise WorkerError(f"node {label}: {one_line(error)}") from error
        return results


def cpus_per_worker(gpus_per_worker: float) -> int:
    """CPUs that a worker gets by default: one; with a share of a GPU, that share of the CPUs of its node."""
    if not gpus_per_worker:
        return 1
    shares = [
        node.resources["CPU"] / node.resources["GPU"] * gpus_per_worker
        for node in _alive()
        if node.resources.get("GPU", 0) >= gpus_per_worker and node.resources.get("CPU")
    ]
    return max(1, int(min(shares, default=1)))


def largest_node(resource: str) -> float:
    """Most of a resource that any one node has; nodes that the cluster could still start count as well."""
    return max((float(resources.get(resource, 0)) for resources in _possible_nodes()), default=0.0)


def room(cpus: int, gpus: float) -> int:
    """Workers of this size that fit on the nodes that are alive, busy or not."""
    return sum(_fits(node.resources, cpus, gpus) for node in _alive())


def possible(cpus: int, gpus: float) -> bool:
    """True if a node that is alive, or that the cluster could start, is large enough for one worker."""
    return any(_fits(resources, cpus, gpus) for resources in _possible_nodes())


def _possible_nodes() -> list[dict[str, float]]:
    return [*(node.resources for node in _alive()), *startable_nodes()]


def _fits(resources: dict[str, float], cpus: int, gpus: float) -> int:
    by_cpu = resources.get("CPU", 0) / cpus if cpus else math.inf
    by_gpu = math.inf
    if gpus:
        # several workers share a GPU, but none uses parts of two
        on_one = int(1 / gpus + 1e-6)
        by_gpu = resources.get("GPU", 0) * on_one if on_one else resources.get("GPU", 0) / gpus
    return int(min(by_cpu, by_gpu) + 1e-6)
