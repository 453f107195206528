"""Crash journal: finds the picture that kills its worker, and tells it from bad luck.

Every try at a unit notes what it begins and ends. A try that was not closed died, and what it had begun is suspect,
unless its death has a reason of its own: its node was lost, or the whole run was killed. The next try takes suspects
alone; one that was alone in work when its worker died, twice, is named and skipped. Once would not do: whoever kills
workers at random also hits some picture that is tried alone.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from threading import Lock
from typing import NamedTuple

from pipeline.bulk.record import json_line, json_lines
from pipeline.storage.path import StoragePath

DEATHS_ALONE = 2


class _Try(NamedTuple):
    run: str
    node: str
    open: set[int]
    """Pictures that were begun and not ended; none where the try was closed."""


class CrashJournal:
    """The journal of one unit, beside its part; threads may share it.

    Args:
        path: its file.
        run: names this run of the command.
        node: names this machine in the cluster; empty without Ray.
        alive: says if a node is still there.
    """

    def __init__(self, path: StoragePath, run: str, node: str, alive: Callable[[str], bool]):
        self.path = path
        self._lock = Lock()
        self._text = path.read_bytes().decode(errors="replace") if path.exists() else ""
        self.suspects: set[int] = set()
        alone: Counter[int] = Counter()
        for earlier in _tries(self._text):
            # without Ray the worker was the run itself; with it, a killed run takes all of its workers with it
            if not node or not earlier.node or (earlier.run == run and alive(earlier.node)):
                self.suspects |= earlier.open
                alone.update(earlier.open if len(earlier.open) == 1 else ())
        self.poison = {index for index, deaths in alone.items() if deaths >= DEATHS_ALONE}
        self.suspects -= self.poison
        if path.local is not None:
            path.local.parent.mkdir(parents=True, exist_ok=True)
        self._write(**{"try": run, "node": node})

    def begin(self, indices: Iterable[int]) -> None:
        """These pictures are in work from now on."""
        self._write(begin=list(indices))

    def end(self, indices: Iterable[int]) -> None:
        """These are done, well or badly."""
        self._write(end=list(indices))

    def close(self) -> None:
        """The try ends in order: nothing in it was a death."""
        self._write(closed=True)

    def remove(self) -> None:
        """The unit is done."""
        self.path.remove()

    def _write(self, **line: object) -> None:
        with self._lock:
            if self.path.local is None:  # objects cannot be appended to
                self._text += json_line(line)
                self.path.write_bytes(self._text.encode())
            else:
                with self.path.local.open("a") as file:
                    file.write(json_line(line))


def _tries(text: str) -> list[_Try]:
    tries: list[_Try] = []
    for line in json_lines(text):
        if "try" in line:
            tries.append(_Try(line["try"], line["node"], set()))
        elif tries and "closed" in line:
            tries[-1].open.clear()
        elif tries:
            tries[-1].open.update(line.get("begin", ()))
            tries[-1].open.difference_update(line.get("end", ()))
    return tries
