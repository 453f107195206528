"""Start a local Ray or connect to a cluster, and end that again.

from pipeline.core.errors import FacesrError


A local Ray listens on 127.0.0.1 alone and consists of no more processes than units and actors need.
"""

import importlib
import logging
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from pipeline.core.errors import FacesrError

_LOCK = threading.RLock()
"""Held while Ray starts: who comes later waits, and finds it there."""


class WorkerError(FacesrError):
    """A worker raised, or a node cannot run one; finished units are kept."""


class NoRoomError(FacesrError):
    """No node, present or one that could be started, is large enough for one worker."""


@contextmanager
def session(address: str | None) -> Iterator[None]:
    """Connect to the cluster at `address`, or start a local Ray; end it on leaving.

    Inside another session, also one that another thread is about to start, there is nothing left to do or to end.
    """
    with _LOCK:
        _environment(address)
        import ray

        ours = not ray.is_initialized()
        if ours:
            _start(address)
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def prepare(address: str | None) -> Iterator[None]:
    """Start Ray in the background, so that the caller can list an archive meanwhile; a session inside waits for it.

    A start that fails is tried again by that session, which raises what is wrong.
    """
    begun, over = threading.Event(), threading.Event()
    # here and not in the thread: two imports at a time get in each other's way, and Ray's processes would start late
    _environment(address)
    import ray  # noqa: F401

    def run() -> None:
        with suppress(Exception), ExitStack() as stack:
            with _LOCK:
                begun.set()
                if address is not None:
                    import_early()
                stack.enter_context(session(address))
            # Linux ends the processes that Ray started together with the thread that started them, so this one stays
            over.wait()

    thread = threading.Thread(target=run, name="ray", daemon=True)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()


def import_early() -> threading.Thread:
    """Import in the background what takes Ray Data longest to import, while Ray's processes start."""
    thread = threading.Thread(target=importlib.import_module, args=("pandas",), daemon=True)
    thread.start()
    return thread


def one_line(error: BaseException) -> str:
    """What went wrong in one line: in the words of the error that Ray passes on, else the first line of Ray's own."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return one_line(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if type(error).__module__.startswith("ray."):
        return lines[0]
    # the text of a KeyError is the key alone
    return f"{type(error).__name__}: {lines[0]}" if isinstance(error, KeyError) else "; ".join(lines)


def _environment(address: str | None) -> None:
    """Settings that Ray reads when it is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    if address is not None:
        # Ray's C++ side warns of what Ray Data itself does with constructor arguments; errors reach us as exceptions
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    else:
        # a token in memory: ray.init() would otherwise write one into the user's home
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # workers are what the user started, as a stage without Ray is; by default they get what others leave over
        os.environ.setdefault("RAY_worker_niceness", "0")


def _start(address: str | None) -> None:
    import ray
    from ray._private import node, services, worker

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    # before Ray sets the level itself, it says that it leaves signals alone outside the main thread
    logging.getLogger("ray").setLevel(logging.ERROR)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with ExitStack() as stack:
        # dead workers and nodes are dealt with; a thread of Ray's would print about them amid the caller's output
        stack.enter_context(_replaced(worker, listen_error_messages=_nothing))
        if address is None:
            # "local", as with no address Ray connects to any cluster that it finds or that the environment names.
            # The object store carries unit descriptions only; Ray's default would reserve 30 % of the memory
            options |= {
                "address": "local",
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
                "object_store_memory": 128 * 1024 * 1024,
            }
            # init would turn 127.0.0.1 into the address that other machines see, and listen on every interface
            stack.enter_context(_replaced(services, resolve_ip_for_localhost=lambda host: host))
            # three processes that serve dashboards, autoscalers and log readers: nobody here asks them anything, and
            # starting them takes seconds from the workers
            without = dict.fromkeys(("start_api_server", "start_monitor", "start_log_monitor"), _nothing)
            stack.enter_context(_replaced(node.Node, **without))
        else:
            options["address"] = address
        ray.init(**options)
    if threading.current_thread() is threading.main_thread():
        # Ray puts its own handler there, which would exit with another code than the caller promises
        signal.signal(signal.SIGTERM, on_sigterm)


def _nothing(*_: Any, **__: Any) -> None:
    """Stands for what is not to happen."""


@contextmanager
def _replaced(owner: Any, **members: Any) -> Iterator[None]:
    """Other members for a module or class; those that this version of Ray does not have are left out."""
    before = {name: getattr(owner, name) for name in members if hasattr(owner, name)}
    for name in before:
        setattr(owner, name, members[name])
    try:
        yield
    finally:
        for name, member in before.items():
            setattr(owner, name, member)
