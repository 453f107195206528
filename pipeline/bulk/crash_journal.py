"""Which pictures were in work when a worker died: how a picture that kills its worker is told from bad luck.

Every try at a unit notes what it begins and ends. A try that left without a word died, and what it had begun is
suspect, unless its death has a reason of its own: its node went, or the whole run was killed. The next try takes
suspects alone; one that was alone in work when its worker died, twice, is named and skipped. Once would not do: whoever
kills workers at random also hits some picture that is tried alone.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

from pipeline.storage.path import StoragePath

DEATHS_ALONE = 2


class Journal:
    """The journal of one unit, beside its part.

    Args:
        place: its file.
        run: names this run of the command.
        node: names this machine in the cluster; empty without Ray.
        alive: whether a node is still there.
    """

    def __init__(self, place: StoragePath, run: str, node: str, alive: Callable[[str], bool]):
        self.place = place
        tries = _tries(place)
        local = not node
        dead = [one for one in tries if not one["closed"] and one["open"] and _unexplained(one, run, local, alive)]
        deaths: dict[int, list[bool]] = {}
        for one in dead:
            for index in one["open"]:
                deaths.setdefault(index, []).append(len(one["open"]) == 1)
        self.poison = {i for i, alone in deaths.items() if sum(alone) >= DEATHS_ALONE}
        self.suspects = set(deaths) - self.poison
        self._removed = False
        self._lines = [json.dumps(line) for one in tries for line in one["lines"]]
        self._write({"try": run, "node": node})

    def begin(self, indices: Iterable[int]) -> None:
        """These pictures are in work from now on."""
        self._write({"begin": list(indices)})

    def end(self, indices: Iterable[int]) -> None:
        """These are done, well or badly."""
        self._write({"end": list(indices)})

    def close(self) -> None:
        """The try ends by its own will: nothing in it was a death."""
        if not self._removed:
            self._write({"closed": True})

    def remove(self) -> None:
        """The unit is done."""
        self._removed = True
        self.place.remove()

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line)
        local = self.place.local
        if local is None:  # objects cannot be appended to
            self._lines.append(text)
            self.place.write_bytes("\n".join(self._lines).encode())
            return
        local.parent.mkdir(parents=True, exist_ok=True)
        with local.open("a") as file:
            file.write(text + "\n")


def _tries(place: StoragePath) -> list[dict[str, Any]]:
    if not place.exists():
        return []
    tries: list[dict[str, Any]] = []
    for text in place.read_bytes().decode(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # cut off in the middle of a line
        if "try" in line:
            tries.append({"run": line["try"], "node": line["node"], "open": set(), "closed": False, "lines": []})
        if tries:
            one = tries[-1]
            one["lines"].append(line)
            one["open"] |= set(line.get("begin", ()))
            one["open"] -= set(line.get("end", ()))
            one["closed"] |= bool(line.get("closed"))
    return tries


def _unexplained(one: dict[str, Any], run: str, local: bool, alive: Callable[[str], bool]) -> bool:
    if local or not one["node"]:
        return True  # the worker was the run itself
    # a killed run takes all of its workers with it
    return bool(one["run"] == run and alive(one["node"]))
