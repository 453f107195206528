"""From a number back to the archive: the weights, pairs, shards and sources that made it, by the hashes of dvc.lock."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.errors import FacesrError
from pipeline.core.files import content_hash
from pipeline.core.shards import count_rows, read_folder
from pipeline.lineage.lock import LOCK, LineageError, Locked, Stage, maker, read_lock
from pipeline.models.checkpoint import load_generator
from pipeline.models.weights_file import Provenance

DATA_HERE, DATA_ELSEWHERE = "the inputs and pairs that are here", "other inputs and pairs than are here now"


@dataclass
class Node:
    """Something that was made, and what of."""

    path: str
    md5: str | None
    state: str
    """As locked, changed since, or not here."""
    stage: str | None = None
    """That wrote it; None: it came from outside."""
    code: str | None = None
    """Hash of the stage's code."""
    said: list[str] = field(default_factory=list)
    """What the file says of itself, and what params said."""
    made_of: list["Node"] = field(default_factory=list)


def trace(path: str, project: Path = Path()) -> Node:
    """Walk from a file of the project to all that it was made of.

    Args:
        path: such as `reports/metrics.json` or `models/fidelity.safetensors`, relative to the project or absolute.
        project: root of the checkout.

    Raises:
        LineageError: there is no dvc.lock, or no stage wrote the file.
    """
    try:
        stages = read_lock((project / LOCK).read_bytes())
    except OSError as error:
        raise LineageError(f"{project / LOCK}: not there; the pipeline has not run here") from error
    path = os.path.relpath(project / path, project)
    found = maker(stages, path)
    if found is None:
        raise LineageError(f"{path}: no stage of {LOCK} wrote it")
    if found[1].path != path and (project / found[1].path).exists() and not (project / path).exists():
        raise LineageError(f"{path}: there is no such file in {found[1].path}")
    return _node(found[1], stages, project, {})


def _node(locked: Locked, stages: dict[str, Stage], project: Path, seen: dict[str, Node]) -> Node:
    if locked.path in seen:  # told once
        known = seen[locked.path]
        return Node(known.path, known.md5, known.state, known.stage, known.code, ["see above"])
    node = Node(locked.path, locked.md5, locked.state(project), said=_said(project / locked.path, project))
    seen[locked.path] = node
    found = maker(stages, locked.path)
    if found is not None:
        stage, out = found
        node.stage, node.code = stage.name, stage.code
        if out.md5 != locked.md5 and out.path == locked.path:
            node.said.append(f"{stage.name} has run again since: it wrote {_short(out.md5)}")
        node.said += _sources(stage)
        node.made_of = [_node(dep, stages, project, seen) for dep in stage.data]
    return node


def _sources(stage: Stage) -> list[str]:
    sources = stage.params.get("ingest", {}).get("sources", [])
    return [f"source: {json.dumps(source, sort_keys=True)}" for source in sources]


def _said(path: Path, project: Path) -> list[str]:
    """What a file says of itself: weights their provenance, shards their rows and sources; or why it cannot be read."""
    try:
        return _read(path, project)
    except FacesrError as error:
        return [str(error)]


def _read(path: Path, project: Path) -> list[str]:
    if path.suffix == ".safetensors" and path.is_file():
        said = load_generator(path)[1]
        lines = [f"{key}: {value}" for key, value in said["provenance"].items() if not isinstance(value, dict)]
        digest = said["provenance"].get("data_sha256")
        if digest and (now := training_data(project, learned_from_faces(said["provenance"]))) is not None:
            lines.append(f"trained on {DATA_HERE if digest == now else DATA_ELSEWHERE}")
        return lines
    if path.suffix == ".parquet" and path.is_file():
        return [f"{count_rows(path)} rows"]
    if path.is_dir() and path.name in ("faces", "train", "valid", "test"):
        sources: dict[str, int] = {}
        for row in read_folder(path, ["source"]):
            sources[row["source"]] = sources.get(row["source"], 0) + 1
        return [f"{count} faces of {source}" for source, count in sources.items()]
    return []


def learned_from_faces(provenance: Provenance) -> bool:
    """True of the supervised twin, which learns from originals; all others learn from inputs."""
    return provenance.get("phase") == "twin"


def training_data(project: Path, faces: bool) -> str | None:
    """The `data_sha256` of weights that learned from the inputs, or the faces, that are here; None without them."""
    inputs, manifest = project / "data/inputs", project / "data/pairs.parquet"
    if not manifest.is_file():
        return None
    data = (project / "data/faces",) if faces else (inputs / "train", inputs / "valid")
    return content_hash(*data, manifest)


def numbers(path: Path) -> Iterator[tuple[str, float]]:
    """PSNR of each split, scale and method in a metrics.json."""
    try:
        found: Any = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return
    for names, figures in _nested(found, 3):
        if isinstance(figures, dict) and isinstance(figures.get("psnr"), float):
            yield ", ".join([*names, "PSNR"]), figures["psnr"]


def _nested(values: Any, depth: int) -> Iterator[tuple[list[str], Any]]:
    """What lies `depth` objects deep, and its names on the way."""
    if not depth:
        yield [], values
    elif isinstance(values, dict):
        for name, inner in values.items():
            yield from (([name, *names], value) for names, value in _nested(inner, depth - 1))


def commit_of(path: str, project: Path) -> str | None:
    """Commit and date that last changed a file, and whether it was changed after it; None without git."""
    commit = git(project, "log", "-1", "--format=%h of %cs", "--", path).strip()
    if not commit:
        return None
    changed = git(project, "status", "--porcelain", "--", path).strip()
    return f"{commit}, and changed since: not committed" if changed else commit


def git(project: Path, *arguments: str) -> str:
    """What a git command prints; empty where it fails, or where there is no git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=False)  # noqa: S603, S607
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def _short(md5: str | None) -> str:
    return (md5 or "?")[:12]
