"""Workers of tests, in a module that is quick to import: every Ray actor imports it anew."""

import os
import time
from pathlib import Path
from typing import Any

from pipeline.runtime.nodes import here, node_alive


class Squares:
    """Squares a number and leaves a line in `runs-<number>`; on request it sleeps (until there is a file `fast`), dies
    some times, or raises.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def __call__(self, unit: dict[str, Any]) -> dict[str, Any]:
        number = unit["number"]
        if not (self.folder / "fast").exists():
            time.sleep(unit.get("seconds", 0))
        marker = self.folder / f"died-{number}"
        deaths = len(marker.read_text()) if marker.exists() else 0
        if deaths < unit.get("dies", 0):
            marker.write_text("x" * (deaths + 1))
            os._exit(1)
        if unit.get("raises"):
            raise ValueError(f"unit {number} is bad luck")
        with (self.folder / f"runs-{number}").open("a") as runs:
            runs.write(f"{os.getpid()}\n")
        answer = {"number": number, "square": number**2, "process": os.getpid(), "node": here()}
        return answer | {"alive": {node: node_alive(node) for node in unit.get("nodes", ())}}


class NoModel:
    """A worker that cannot be built."""

    def __init__(self, path: str):
        raise ValueError(f"no model at {path}")

    def __call__(self, unit: dict[str, Any]) -> dict[str, Any]:
        return {}


class Share:
    """Says what of its node Ray gave it."""

    def __call__(self, unit: dict[str, Any]) -> dict[str, Any]:
        import ray

        return dict(ray.get_runtime_context().get_assigned_resources())


def double(number: int) -> int:
    return 2 * number


def hang(seconds: float) -> None:
    time.sleep(seconds)
