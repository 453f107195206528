"""All that is used of Ray's private parts, in one place, since another version of Ray may rename any of it.

tests/runtime/test_ray_patches.py fails where the installed Ray lacks one of these members.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pipeline.core.errors import FacesrError


class RayVersionError(FacesrError):
    """The installed Ray cannot be kept on this machine alone; the message says which version can."""


def _do_nothing(*_: Any, **__: Any) -> None:
    """Stands for what is not to happen."""


def replacements(local: bool) -> list[tuple[Any, str, Callable[..., Any]]]:
    """Members of Ray that are replaced while it starts: owner, name, replacement.

    Args:
        local: it starts on this machine, instead of connecting to a cluster.
    """
    from ray._private import node, services, worker

    # dead workers and nodes are dealt with; a thread of Ray's would print about them amid the caller's output
    members: list[tuple[Any, str, Callable[..., Any]]] = [(worker, "listen_error_messages", _do_nothing)]
    if local:
        # init would turn 127.0.0.1 into the address that other machines see, and listen on every interface
        members.append((services, "resolve_ip_for_localhost", lambda host: host))
        # three processes that serve dashboards, autoscalers and log readers: nobody here asks them anything, and
        # starting them takes seconds from the workers
        for name in ("start_api_server", "start_monitor", "start_log_monitor"):
            members.append((node.Node, name, _do_nothing))
    return members


@contextmanager
def patched(local: bool) -> Iterator[None]:
    """Replace those members while Ray starts; what a version lacks is left out, unless security hangs on it.

    Raises:
        RayVersionError: Ray would listen beyond this machine.
    """
    import ray

    with ExitStack() as stack:
        for owner, name, replacement in replacements(local):
            if hasattr(owner, name):
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, replacement)
            elif name == "resolve_ip_for_localhost":
                raise RayVersionError(f"Ray {ray.__version__} would listen on every interface: install ray==2.60.*")
        yield


_HELPERS = ("PlacementGroupCleanerCallback", "DatasetsCallback")
"""Callbacks of Ray Train that start a process each: one watches whether the driver lives, by asking a dashboard, and
the other one shares out Ray's own datasets."""


def without_helpers(trainer: Any) -> Any:
    """The trainer of a training on a local Ray, without processes that help nobody there.

    Nobody answers the one that asks the dashboard: the end of every training would wait 12 seconds for it.
    """
    create = getattr(trainer, "_create_default_callbacks", None)
    if create is not None:
        trainer._create_default_callbacks = lambda: [
            callback for callback in create() if type(callback).__name__ not in _HELPERS
        ]
    return trainer


def alive_actors(job: str) -> list[str]:
    """Class names of the actors of a job (its id in hex) that are alive."""
    import ray
    from ray._private import state

    actors = state.actors(job_id=ray.JobID.from_hex(job), actor_state_name="ALIVE")
    return [actor["ActorClassName"] for actor in actors.values()]


def startable_nodes() -> Iterator[dict[str, float]]:
    """Resources of each kind of node that the cluster's autoscaler could start; none where there is no autoscaler."""
    from ray._private.state import state

    try:
        config = state.get_cluster_config()
        groups = [] if config is None else list(config.node_group_configs)
    except Exception:
        groups = []  # another version of Ray
    for group in groups:
        if group.max_count:
            # a negative number stands for no limit
            yield {name: math.inf if number < 0 else number for name, number in group.resources.items()}
