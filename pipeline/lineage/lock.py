"""dvc.lock as a graph: which stage made a path, from which others, and whether they are here as they were then."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from pipeline.core.errors import FacesrError

LOCK = "dvc.lock"
CODE = ("pipeline", "stages")
"""Folders of the project whose contents are code."""

AS_LOCKED, CHANGED, ABSENT = "as locked", "changed since", "not here"


class LineageError(FacesrError):
    """Nothing is known of where something comes from."""


@dataclass(frozen=True)
class Locked:
    """A path that a stage read or wrote, as dvc.lock has it."""

    path: str
    md5: str | None

    def state(self, project: Path) -> str:
        """AS_LOCKED, CHANGED or ABSENT: what lies there now."""
        found = dvc_md5(project / self.path)
        return ABSENT if found is None else AS_LOCKED if found == self.md5 else CHANGED


@dataclass(frozen=True)
class Stage:
    """A stage as it last ran."""

    name: str
    deps: list[Locked]
    outs: list[Locked]
    params: dict[str, Any]

    @property
    def data(self) -> list[Locked]:
        """Dependencies that are no code."""
        return [dep for dep in self.deps if PurePosixPath(dep.path).parts[0] not in CODE]

    @property
    def code(self) -> str:
        """One hash over all code that it depends on, the first 12 digits."""
        known = [(dep.path, dep.md5) for dep in self.deps if dep not in self.data]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:12]


def read_lock(text: bytes, name: str = LOCK) -> dict[str, Stage]:
    """Read the stages of a dvc.lock.

    Raises:
        LineageError: it is none.
    """
    try:
        stages = yaml.safe_load(text)["stages"]
        return {
            stage: Stage(
                stage,
                [Locked(dep["path"], dep.get("md5")) for dep in entry.get("deps", [])],
                [Locked(out["path"], out.get("md5")) for out in entry.get("outs", [])],
                {key: value for file in entry.get("params", {}).values() for key, value in file.items()},
            )
            for stage, entry in stages.items()
        }
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise LineageError(f"{name}: not a dvc.lock ({type(error).__name__})") from error


def maker(stages: dict[str, Stage], path: str) -> tuple[Stage, Locked] | None:
    """The stage that wrote a path, and the out that is it or that it lies in."""
    parents = [path, *map(str, PurePosixPath(path).parents)]
    found = ((stage, out) for stage in stages.values() for out in stage.outs if out.path in parents)
    return next(found, None)


def dvc_md5(path: Path) -> str | None:
    """What DVC calls a file or folder: md5, of a folder that of its listing; None where nothing is there."""
    if path.is_file():
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "md5").hexdigest()
    if not path.is_dir():
        return None
    listing = [
        {"md5": dvc_md5(file), "relpath": file.relative_to(path).as_posix()}
        for file in path.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    ]
    listing.sort(key=lambda entry: str(entry["relpath"]))
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"
