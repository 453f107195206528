"""Start a local Ray or connect to a cluster, and end that again.

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
from functools import partial
from pathlib import Path

from pipeline.core.errors import FacesrError
from pipeline.runtime.cluster import reach, watched
from pipeline.runtime.console import slow
from pipeline.runtime.ray_folder import make_folder, remove_folder, usual_place
from pipeline.runtime.ray_patches import patched
from pipeline.runtime.signals import handlers_kept, leaving_at_once

_LOCK = threading.RLock()
"""Held while Ray starts: later callers wait, and find it there."""


class WorkerError(FacesrError):
    """A worker raised, or a node cannot run one; finished units are kept."""


class NoRoomError(FacesrError):
    """No node, present or one that could be started, is large enough for one worker."""


@contextmanager
def session(address: str | None) -> Iterator[None]:
    """Connect to the cluster at `address`, or start a local Ray; end it on leaving.

    Inside another session, also one that another thread is about to start, there is nothing left to do or to end.
    """
    with ExitStack() as stack:
        with _LOCK:
            _environment(address)
            with slow(_starting(address)):
                import ray

            if not ray.is_initialized():
                folder = _own_folder() if address is None else None
                stack.callback(_remove, folder)
                stack.enter_context(leaving_at_once(partial(_abandon, address is None, folder)))
                with slow(_starting(address)):
                    _start(address, folder)
                stack.callback(_stop)
                stack.enter_context(watched(address))
        yield


@contextmanager
def prepare(address: str | None) -> Iterator[None]:
    """Start Ray in the background, so that the caller can list an archive meanwhile; a session inside waits for it.

    A start that fails is tried again by that session, which raises what is wrong.
    """
    begun, over = threading.Event(), threading.Event()
    # here and not in the thread: two imports at a time get in each other's way, and Ray's processes would start late
    _environment(address)
    with slow(_starting(address)):
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
    """Put an error on one line: the message of the error that Ray passes on, else the first line of Ray's own."""
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


def _starting(address: str | None) -> str:
    return "start Ray" if address is None else f"connect to Ray at {address}"


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


def _own_folder() -> str:
    folder = make_folder()
    if folder is None:
        place = usual_place()
        raise WorkerError(
            f"{place}: too long a path for Ray's sockets; set TMPDIR to a shorter one, or use --workers 1"
        )
    return folder


def _remove(folder: str | None) -> None:
    if folder is not None:
        remove_folder(folder)


def _abandon(local: bool, folder: str | None) -> None:
    """End the processes of a local Ray, and leave its library in this one as it is."""
    if local:
        # not by Ray: while it starts it knows of none, and some outlive those that started them for a minute
        below, processes = _children(os.getpid()), []
        while below:
            processes += below
            below = [child for parent in below for child in _children(parent)]
        for process in processes:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
    _remove(folder)


def _children(parent: int) -> list[int]:
    """Of Linux; elsewhere none are known, and they end with their parent a little later."""
    found: list[int] = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        with suppress(OSError):  # it may have ended
            found += map(int, task.read_text().split())
    return found


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray puts handlers of its own there, which exit with other codes than the caller promises, and dump stacks."""
    main = threading.current_thread() is threading.main_thread()
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with handlers_kept(signal.SIGTERM, signal.SIGHUP):
        yield
    if main:
        signal.signal(signal.SIGTERM, on_sigterm)


def _stop() -> None:
    import ray

    with _signals_kept():
        ray.shutdown()


def _start(address: str | None, folder: str | None) -> None:
    import ray

    if address is not None:
        reach(address)
    # before Ray sets the level itself, it says that it leaves signals alone outside the main thread
    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, object] = {"address": address}
    if address is None:
        # "local", as with no address Ray connects to any cluster that it finds or that the environment names.
        # The object store carries unit descriptions only; Ray's default would reserve 30 % of the memory
        options = {
            "address": "local",
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
            "object_store_memory": 128 * 1024 * 1024,
            "_temp_dir": folder,
        }
    with _signals_kept(), patched(local=address is None):
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
