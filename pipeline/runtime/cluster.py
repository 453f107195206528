"""Whether a Ray cluster answers: Ray itself would knock for ever, and leaves without a word where a head is lost."""

import socket
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
    """Say so where the head of a cluster no longer answers while the block runs: Ray then ends this process."""
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
                    f"the Ray cluster at {address} no longer answers: if it does not come back, this ends in a minute; "
                    "what is finished is kept, and the same command goes on with it"
                )

    thread = threading.Thread(target=look, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


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
