"""Whether a Ray cluster answers: Ray itself would knock for ever, and leaves without a word where a head is lost."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.core.errors import FacesrError
from pipeline.runtime.console import console

PATIENCE = 15.0
"""Seconds in which a head that is being started may come."""
_EVERY = 5.0
"""Seconds between two looks at a cluster in use."""
_MISSES = 3
"""Looks without an answer after which a head counts as lost; Ray gives it up after 60 seconds."""

_LAST_WORDS = """
import socket, sys
if not sys.stdin.buffer.read():
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5).close()
    except OSError:
        print(sys.argv[3], file=sys.stderr)
"""
"""Of a process beside the command: Ray ends that in an instant where its daemon on this machine is lost as well."""
_KEPT = "what is finished is kept, and the same command goes on with it"

_missing: set[str] = set()
"""Addresses at which nothing was found."""


class UnreachableError(FacesrError):
    """Nothing answers at a cluster's address."""


def reach(address: str, seconds: float = PATIENCE) -> None:
    """Wait until something answers at `host:port` or `ray://host:port`; Ray finds what other addresses stand for.

    Raises:
        UnreachableError: nothing does in that time.
    """
    place = _place(address)
    if place is None:
        return
    # several ask one after the other, and it was waited for
    end = time.monotonic() + (0 if address in _missing else seconds)
    while (problem := _knock(place)) is not None:
        if time.monotonic() >= end:
            _missing.add(address)
            raise UnreachableError(f"no Ray cluster answers at {address} ({problem}): is its head running?")
        time.sleep(0.5)
    _missing.discard(address)


@contextmanager
def watched(address: str | None) -> Iterator[None]:
    """Say so where the head of a cluster no longer answers while the block runs, and where Ray ended this process."""
    place = None if address is None else _place(address)
    if place is None:
        yield
        return
    over = threading.Event()

    def look() -> None:
        misses = 0
        while not over.wait(_EVERY):
            misses = 0 if _knock(place) is None else misses + 1
            if misses == _MISSES and not over.is_set():
                console.print(
                    f"the Ray cluster at {address} no longer answers: "
                    f"if it does not come back, this ends in a minute; {_KEPT}"
                )

    thread = threading.Thread(target=look, name="watch", daemon=True)
    thread.start()
    words = f"Ray ended this command: its cluster at {address} is gone; {_KEPT}"
    # apart from Ctrl-C, and with no module to load that it does not need
    command = [sys.executable, "-I", "-S", "-c", _LAST_WORDS, place[0], str(place[1]), words]
    survivor = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603
    try:
        yield
    finally:
        over.set()
        survivor.communicate(b"over")


def _place(address: str) -> tuple[str, int] | None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdecimal() and int(port) < 65536 else None


def _knock(place: tuple[str, int]) -> str | None:
    """What is wrong where nothing answers."""
    try:
        with socket.create_connection(place, timeout=_EVERY):
            return None
    except OSError as error:
        return error.strerror or str(error)
