"""Signals: end at once with the code that the caller promises, or save first and end then."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn


class StopRequest:
    """True once a signal has asked for a stop; `signal` is its number, 0 before."""

    signal = 0

    def __call__(self) -> bool:
        """True if a stop was asked for."""
        return bool(self.signal)


def exit_on_sigterm() -> None:
    """Leave through SystemExit(143) on SIGTERM: finished units are on disk, and Ray is shut down on the way out."""
    signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


@contextmanager
def stop_requested(*numbers: signal.Signals) -> Iterator[StopRequest]:
    """Yield what a signal turns to true, for work that saves its state itself; a second signal acts as before.

    Args:
        numbers: signals that ask for a stop; SIGTERM where none is named.
    """
    request = StopRequest()
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        request.signal = number
        restore()

    for number in numbers or (signal.SIGTERM,):
        before[number] = signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
