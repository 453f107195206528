"""Copies of the project under git and DVC, with a pipeline that takes seconds."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.images import encode_png
from support.pictures import face
from support.stages import ROOT

COPIED = (
    ".dvc/config",
    ".dvcignore",
    ".gitattributes",
    ".gitignore",
    "dvc.yaml",
    "pipeline",
    "stages",
    "data/raw",
    "data/forgotten.txt",
)
ARCHIVE = "data/raw/faces.zip"

TINY: dict[str, dict[str, Any]] = {
    "ingest": {"sources": [{"kind": "archive", "path": ARCHIVE, "splits": {"valid": 1, "test": 1, "train": "rest"}}]},
    "pairs": {},
    "train": {
        "generator": {"widths": [8], "blocks": 1, "bottleneck": 1, "norm": "none"},
        "discriminator": {"widths": [8], "scales": 1, "spectral_norm": False},
        "fidelity": {"steps": 4, "learning_rate": 0.002, "pixel": 1.0},
        "realism": {"steps": 2, "learning_rate": 0.0002, "pixel": 1.0, "perceptual": 0.3, "adversarial": 0.1},
        "batch": 2,
        "warmup": 1,
        "validate_every": 2,
        "valid_faces": 1,
    },
    "upscale": {"tile": 256, "workers": 1, "unit": 8},
    "baselines": {"methods": []},
    "evaluate": {"unit": 8, "sheet_faces": 1},
}
"""What differs from the smoke profile: faces of 256x256 in an archive, a network that learns nothing, no Ray."""


def run(folder: Path, *command: str, code: int = 0, **environment: str) -> str:
    """Run in `folder` with this environment's Python, fail with what was printed unless it exits with `code`.

    Returns:
        Standard output.
    """
    changed = {"DVC_NO_ANALYTICS": "1", "COLUMNS": "120"}
    changed |= {"OMP_NUM_THREADS": "1"}  # threads that wait for each other make tiny networks slow on a busy machine
    changed |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"} | environment
    done = subprocess.run(
        command, cwd=folder, env=os.environ | changed, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == code, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def commit(folder: Path, message: str, tag: str = "") -> None:
    """Commit all that git does not ignore."""
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", message)
    if tag:
        run(folder, "git", "tag", tag)


def clone(source: Path, folder: Path, cache: str = "") -> Path:
    """A clone with a cache of its own, linked in the way that `cache` names, by default DVC's."""
    run(source.parent, "git", "clone", "-q", str(source), str(folder))
    identify(folder)
    if cache:
        run(folder, "dvc", "config", "--local", "cache.type", cache)
    return folder


def identify(folder: Path) -> None:
    for key, value in (("user.name", "t"), ("user.email", "t@example.org"), ("commit.gpgsign", "false")):
        run(folder, "git", "config", key, value)


def copy_project(folder: Path, params: dict[str, Any] | None = None) -> Path:
    """The project's files without its data, as a git repository of its own; `params` change the smoke profile."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.parquet", "*.zip"))
        else:
            shutil.copyfile(source, target)
    if params is None:
        shutil.copyfile(ROOT / "profiles" / "smoke.yaml", folder / "params.yaml")
    else:
        smoke = yaml.safe_load((ROOT / "profiles" / "smoke.yaml").read_text())
        whole = {name: section | params[name] for name, section in smoke.items()}
        (folder / "params.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    run(folder, "git", "init", "-q")
    identify(folder)
    commit(folder, "start")
    return folder


def keep_raw_data(folder: Path, numbers: Iterable[int]) -> None:
    """Put an archive of faces under data/raw and give that folder to DVC, as docs/versioning.md tells."""
    write_archive(folder / ARCHIVE, numbers)
    if not (folder / "data/raw.dvc").exists():
        run(folder, "git", "rm", "-rq", "--cached", "data/raw")
    run(folder, "dvc", "add", "-q", "data/raw")


def write_archive(path: Path, numbers: Iterable[int]) -> None:
    """A zip of pictures of 256x256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for number in numbers:
            archive.writestr(zipfile.ZipInfo(f"{number}.png"), encode_png(face(number, 256)))


def stages_run(printed: str) -> list[str]:
    """Stages that `dvc repro` ran, by what it printed."""
    return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]


class Versioned:
    """A project and its remote, made by the lines that the README shows.

    Args:
        checkout: whose README it is.
        home: folder for everything; holds faces.zip.
        folder: the project.
    """

    def __init__(self, checkout: Path, home: Path, folder: Path):
        self.home, self.folder, self.remote = home, folder, home / "remote"
        text = (checkout / "README.md").read_text().partition("## Your archive, your remote, your model\n")[2]
        block = text.partition("\n    ")[2].partition("\n\n")[0]
        lines = [line.partition("  # ")[0].strip() for line in block.splitlines()]
        at = next(index for index, line in enumerate(lines) if line.startswith("git clone"))
        self.here, self.elsewhere = lines[:at], lines[at:]

    def begin(self) -> "Versioned":
        """Run the lines up to the clone."""
        for line in self.here:
            self.sh(line, self.folder)
        return self

    def sh(self, line: str, folder: Path) -> str:
        """Run a line of the README; its paths are those of this project."""
        for shown, real in (("~/faces.zip", self.home / "faces.zip"), ("/mnt/disk/faces", self.remote)):
            line = line.replace(shown, str(real))
        return run(folder, "sh", "-ec", line, PYTHONPATH=str(ROOT))
