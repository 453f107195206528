"""dvc.yaml says what the stages really use."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.stages import ROOT

from pipeline.params.all_sections import Params

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run: what only type checkers see is no dependency."""
    if isinstance(tree, ast.If) and isinstance(tree.test, ast.Name) and tree.test.id == "TYPE_CHECKING":
        return
    yield tree
    for child in ast.iter_child_nodes(tree):
        yield from _nodes(child)


def imported(start: Path) -> set[str]:
    """Every module of the project that `start` imports, directly or not, as paths from the root."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in _nodes(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                if name.split(".")[0] != "pipeline":
                    continue
                parts = name.split(".")
                for end in range(1, len(parts) + 1):
                    place = ROOT.joinpath(*parts[:end])
                    waiting += [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
    return {path.relative_to(ROOT).as_posix() for path in seen}


def test_stages_sections_and_entry_points_have_the_same_names():
    entries = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert set(STAGES) == entries == set(Params.model_fields)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_modules_that_it_imports(stage):
    listed = {path for path in STAGES[stage]["deps"] if path.endswith(".py")}
    assert listed == imported(ROOT / "stages" / f"{stage}.py")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_params_that_it_reads(stage):
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text())
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "params"
    }
    assert read == set(STAGES[stage]["params"])


def test_training_depends_on_the_inputs_and_the_manifest_alone():
    data = {path for path in STAGES["train"]["deps"] if path.startswith("data/")}
    assert data == {"data/inputs/train", "data/inputs/valid", "data/pairs.parquet"}


def test_no_stage_but_baselines_can_train_on_originals():
    users = {stage for stage in STAGES if "pipeline/baselines/supervised_twin.py" in STAGES[stage]["deps"]}
    assert users == {"baselines"}


def test_dvc_finds_the_graph_sound():
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--dry", "--allow-missing"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_stage_entry_points_stay_thin():
    for path in (ROOT / "stages").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 60, path
