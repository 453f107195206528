"""Crash journal: finds the picture that kills its worker, and tells it from bad luck.

Every try at a unit notes what it begins and ends. A try that was not closed died, and what it had begun is suspect,
unless its death has a reason of its own: its node was lost, or the whole run was killed. The next try takes suspects
alone; one that was alone in work when its worker died, twice, is named and skipped. Once would not do: whoever kills
workers at random also hits some picture that is tried alone.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from pipeline.storage.path import StoragePath

DEATHS_ALONE = 2


@dataclass
class _Try:
    run: str
    node: str
    open: set[int] = field(default_factory=set)
    """Pictures that were begun and not ended."""
    closed: bool = False

    def unexplained(self, run: str, local: bool, alive: Callable[[str], bool]) -> bool:
        """True if it died, and only a picture can have been the reason."""
        if self.closed or not self.open:
            return False
        if local or not self.node:
            return True  # the worker was the run itself
        # a killed run takes all of its workers with it
        return self.run == run and alive(self.node)


class CrashJournal:
    """The journal of one unit, beside its part.

    Args:
        path: its file.
        run: names this run of the command.
        node: names this machine in the cluster; empty without Ray.
        alive: says if a node is still there.
    """

    def __init__(self, path: StoragePath, run: str, node: str, alive: Callable[[str], bool]):
        self.path = path
        self._text = path.read_bytes().decode(errors="replace") if path.exists() else ""
        alone: defaultdict[int, list[bool]] = defaultdict(list)
        for earlier in _tries(self._text):
            if earlier.unexplained(run, not node, alive):
                for index in earlier.open:
                    alone[index].append(len(earlier.open) == 1)
        self.poison = {index for index, deaths in alone.items() if sum(deaths) >= DEATHS_ALONE}
        self.suspects = set(alone) - self.poison
        self._removed = False
        self._write(**{"try": run, "node": node})

    def begin(self, indices: Iterable[int]) -> None:
        """These pictures are in work from now on."""
        self._write(begin=list(indices))

    def end(self, indices: Iterable[int]) -> None:
        """These are done, well or badly."""
        self._write(end=list(indices))

    def close(self) -> None:
        """The try ends in order: nothing in it was a death."""
        if not self._removed:
            self._write(closed=True)

    def remove(self) -> None:
        """The unit is done."""
        self._removed = True
        self.path.remove()

    def _write(self, **line: object) -> None:
        # the line before may have been cut off in its middle
        text = f"\n{json.dumps(line)}"
        local = self.path.local
        if local is None:  # objects cannot be appended to
            self._text += text
            self.path.write_bytes(self._text.encode())
            return
        local.parent.mkdir(parents=True, exist_ok=True)
        with local.open("a") as file:
            file.write(text)


def _tries(text: str) -> list[_Try]:
    tries: list[_Try] = []
    for line in text.splitlines():
        with suppress(ValueError):  # cut off in the middle of a line
            values = json.loads(line)
            if "try" in values:
                tries.append(_Try(values["try"], values["node"]))
            elif tries:
                tries[-1].open |= set(values.get("begin", ()))
                tries[-1].open -= set(values.get("end", ()))
                tries[-1].closed |= "closed" in values
    return tries
