"""Signals: end at once with the code that the caller promises, or save first and end then."""

import atexit
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

_AT_ONCE: list[Callable[[], None]] = []
"""What is cleaned up before the process leaves without unwinding; empty: it unwinds."""


class StopRequest:
    """True once a signal has asked for a stop; `signal` is its number, 0 before."""

    signal = 0

    def __call__(self) -> bool:
        """True if a stop was asked for."""
        return bool(self.signal)


def exit_on_sigterm() -> None:
    """Leave with 143 on SIGTERM, with 129 on SIGHUP (the terminal is gone) unless that is ignored, as by `nohup`.

    Finished units are on disk. The stack is unwound, through SystemExit, except within `leaving_at_once`.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    if not _AT_ONCE:
        sys.exit(128 + number)
    for clean_up in reversed(_AT_ONCE):
        with suppress(Exception):
            clean_up()
    with suppress(Exception):
        if sys.stderr.isatty():
            sys.stderr.write("\x1b[?25h\n")  # a progress bar hides the cursor
    for stream in (sys.stderr, sys.stdout):
        with suppress(Exception):
            stream.flush()
    os._exit(128 + number)


def end_with(run: Callable[..., Any], *arguments: Any, **named: Any) -> NoReturn:
    """Call what is all that this process does, and end it with the exit code that it asks for.

    As Python ends a process, but that no module is taken apart, which takes torch and Ray most of a second: threads are
    waited for, what was registered to be done at exit is done, and streams are written out. Any other exception than
    SystemExit ends the process as usual.
    """
    code: Any = 0
    try:
        run(*arguments, **named)
    except SystemExit as ending:
        code = ending.code
    # None, or closed, where the caller has closed it: a daemon, some schedulers
    streams = [stream for stream in (sys.stdout, sys.stderr) if stream is not None and not stream.closed]
    if code is not None and not isinstance(code, int):
        if sys.stderr in streams:
            sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as Python does first: waits, also for pools that are idle
    atexit._run_exitfuncs()
    for stream in streams:
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120  # as Python says that its reader is gone
    os._exit(code or 0)


@contextmanager
def leaving_at_once(clean_up: Callable[[], None]) -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP end the process after `clean_up` alone.

    For native code that cannot be unwound at any point: it would abort, or turn SystemExit into an error of its own.
    """
    _AT_ONCE.append(clean_up)
    try:
        yield
    finally:
        _AT_ONCE.remove(clean_up)


@contextmanager
def handlers_kept(*numbers: signal.Signals) -> Iterator[None]:
    """Put back what the operating system calls on these signals, where native code has put its own there meanwhile.

    Python does not see such handlers, and lets no thread but the main one set its own.
    """
    library = ctypes.CDLL(None)
    before = {number: ctypes.create_string_buffer(1024) for number in numbers}  # a struct sigaction and room to spare
    for number, action in before.items():
        library.sigaction(int(number), None, action)
    try:
        yield
    finally:
        for number, action in before.items():
            library.sigaction(int(number), action, None)


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
