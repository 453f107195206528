"""Progress of long work: a live bar on a terminal, a plain line now and then elsewhere."""

import codecs
import io
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pipeline.core.errors import without_secrets

# one message is one line, however narrow the terminal: logs are searched line by line; a name is no markup
console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)

PLAIN_SECONDS = 10.0
"""Between two plain lines where there is no terminal."""
SLOW_SECONDS = 0.7
"""After which something is said of what has no bar."""


def results() -> Console:
    """What results are printed with, on standard output; a name is no markup there either."""
    return Console(highlight=False, markup=False, emoji=False)


def print_anything() -> None:
    """From now on, what standard output cannot encode is written as JSON writes it in ASCII, and is no error.

    Under LANG=C, or with names that are no text, a line could not be printed otherwise. So JSON stays JSON.
    """
    codecs.register_error("facesr", _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "facesr":
            stream.reconfigure(errors="facesr")


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


@contextmanager
def slow(what: str, seconds: float = SLOW_SECONDS) -> Iterator[None]:
    """Say what is going on where the block takes longer than `seconds`: what is over at once needs no words."""
    timer = threading.Timer(seconds, console.print, [f"{without_secrets(what)} …"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Advance(Protocol):
    """Advances the bar by `count`; `note` is shown beside it."""

    def __call__(self, count: int, note: str = "") -> None:
        """Advance by `count`."""


@contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show progress from `done` to `total` while the block runs."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(title, total=total, completed=done, note="", rate="")

            def show(count: int, note: str = "") -> None:
                speed = bar.tasks[task].finished_speed or bar.tasks[task].speed
                bar.update(task, advance=count, note=note, rate=f"{speed:.1f}/s" if speed else "")

            yield show
        return
    start = shown = time.monotonic()
    here = done

    def advance(count: int, note: str = "") -> None:
        nonlocal here, shown
        here += count
        now = time.monotonic()
        if here >= total or now - shown > PLAIN_SECONDS:
            shown = now
            rate = (here - done) / max(now - start, 1e-6)
            left = f", {(total - here) / rate:.0f} s left" if rate and here < total else ""
            speed = f", {rate:.1f}/s" if rate else ""
            line = f"{title}: {here}/{total} in {now - start:.0f} s{speed}{left} {note}".rstrip()
            console.print(line, markup=False)  # a title may hold a file's name

    yield advance
