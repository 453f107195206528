"""dvc.yaml says what the stages really use, by folders; what lies idle in those is stated here."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.imports import has_code, reached
from support.stages import ROOT

from pipeline.params.all_sections import Params

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

IDLE: dict[str, set[str]] = {
    "ingest": {
        "pipeline/codecs/writer.py",
        "pipeline/core/chain.py",
        "pipeline/core/chain_draws.py",
        "pipeline/core/degradation.py",
        "pipeline/pretrained/vgg19.py",
        "pipeline/synthetic/writer.py",
    },
    "pairs": set(),
    "train": set(),
    "upscale": {"pipeline/codecs/strict_jpeg.py", "pipeline/codecs/writer.py"},
    "baselines": {"pipeline/codecs/strict_jpeg.py", "pipeline/codecs/writer.py"},
    "evaluate": {"pipeline/pretrained/vgg19.py"},
}
"""Modules that lie in a stage's folders without being used by it: an edit in them runs it again for nothing."""


def code(stage: str) -> list[str]:
    return [path for path in STAGES[stage]["deps"] if path.startswith(("pipeline/", "stages/"))]


def covered(stage: str) -> set[str]:
    """Modules that a stage depends on."""
    files: set[Path] = set()
    for path in code(stage):
        place = ROOT / path
        files |= set(place.rglob("*.py")) if place.is_dir() else {place}
    return {path.relative_to(ROOT).as_posix() for path in files}


def used(stage: str) -> set[str]:
    return reached(ROOT / "stages" / f"{stage}.py")


def test_stages_sections_entry_points_and_wings_have_the_same_names() -> None:
    entries = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    wings = {path.name for path in (ROOT / "pipeline").iterdir() if path.is_dir()}
    assert set(STAGES) == entries == set(Params.model_fields)
    assert set(STAGES) <= wings


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_that_it_imports(stage: str) -> None:
    assert used(stage) - covered(stage) == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_nothing_else_but_what_is_stated_here(stage: str) -> None:
    idle = {path for path in covered(stage) - used(stage) if has_code(ROOT / path)}
    assert idle == IDLE[stage]


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_depends_on_can_be_read_at_a_glance(stage: str) -> None:
    assert len(code(stage)) <= 17
    assert all((ROOT / path).exists() for path in code(stage))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_params_that_it_reads(stage: str) -> None:
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "run_stage"]
    read = {keyword.arg for call in calls for keyword in call.keywords}
    assert read == set(STAGES[stage]["params"])


def test_training_depends_on_the_inputs_and_the_manifest_alone() -> None:
    data = {path for path in STAGES["train"]["deps"] if path.startswith("data/")}
    assert data == {"data/inputs/train", "data/inputs/valid", "data/pairs.parquet"}


def test_no_stage_but_baselines_can_train_on_originals() -> None:
    assert {stage for stage in STAGES if "pipeline/baselines/supervised_twin.py" in covered(stage)} == {"baselines"}


def test_dvc_finds_the_graph_sound() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--dry", "--allow-missing"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_stage_entry_points_stay_thin() -> None:
    for path in (ROOT / "stages").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 60, path


# what makes a stage run again, as DVC itself sees it


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout's code under DVC, with one file in the place of each of train's data; train's state is committed."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("pipeline", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copyfile(ROOT / name, folder / name)
    stage = STAGES["train"]
    for path in (*stage["deps"], *stage["outs"]):
        if not (folder / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(path)
    dvc(folder, "init", "--no-scm", "--quiet")
    dvc(folder, "commit", "--force", "--quiet", "train")
    return folder


def dvc(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_edit_elsewhere_or_a_byte_code_cache_leaves_training_done(project: Path) -> None:
    assert "up to date" in dvc(project, "status", "train")
    for wing in ("ingest", "evaluate", "report", "bulk", "cli"):
        module = next((project / "pipeline" / wing).glob("*.py"))
        module.write_text(module.read_text() + "\n# edited\n")
    subprocess.run([sys.executable, "-m", "compileall", "-q", "pipeline", "stages"], cwd=project, check=True)
    assert list((project / "pipeline/train").rglob("__pycache__"))
    assert "up to date" in dvc(project, "status", "train")


def test_an_edit_in_what_training_uses_makes_it_run_again(project: Path) -> None:
    module = project / "pipeline/train/engine/losses.py"
    module.write_text(module.read_text() + "\n# edited\n")
    assert "pipeline/train" in dvc(project, "status", "train")
