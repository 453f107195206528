"""Workers of tests, in a module that is quick to import: every Ray actor imports it anew."""

import os
from pathlib import Path
from typing import Any


class Squares:
    """Squares a number and leaves a line in `runs-<number>`; on request it dies once, or raises."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def __call__(self, unit: dict[str, Any]) -> dict[str, Any]:
        number = unit["number"]
        marker = self.folder / f"died-{number}"
        if unit.get("dies") and not marker.exists():
            marker.touch()
            os._exit(1)
        if unit.get("raises"):
            raise ValueError(f"unit {number} is bad luck")
        with (self.folder / f"runs-{number}").open("a") as runs:
            runs.write(f"{os.getpid()}\n")
        return {"number": number, "square": number**2, "process": os.getpid()}
