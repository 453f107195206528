"""Experiments: params changed for one run, beside others, taken over or not."""

import sys
from pathlib import Path

import pytest
import yaml
from support.dvc_project import Versioned, clone, run, stages_run

SHOWN = r"Experiment|train\.fidelity\.steps|.*test-256\.json:(psnr|ssim)"
"""Columns that docs/versioning.md asks for."""


@pytest.fixture(scope="module")
def project(first: Versioned, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with everything pulled, and an experiment of each kind: in the workspace, with --temp, from the queue."""
    mine = clone(first.folder, tmp_path_factory.mktemp("experiments") / "mine")
    run(mine, "dvc", "pull", "-q")
    (mine / ".venv").symlink_to(sys.prefix)
    # as where no environment is activated: nothing but the project's own
    plain = "/usr/bin:/bin"
    run(mine, ".venv/bin/dvc", "exp", "run", "-n", "two-faces", "-S", "evaluate.sheet_faces=2", PATH=plain)
    run(mine, "git", "checkout", "-q", ".")
    run(mine, "dvc", "checkout", "-q")
    run(mine, ".venv/bin/dvc", "exp", "run", "--temp", "-n", "six", "-S", "train.fidelity.steps=6", PATH=plain)
    # the queue's workers are started as `dvc`, whatever started the queue
    run(mine, "dvc", "exp", "run", "--queue", "-n", "three-faces", "-S", "evaluate.sheet_faces=3")
    run(mine, "dvc", "exp", "run", "--run-all")
    return mine


def value(folder: Path, section: str) -> dict:
    return yaml.safe_load((folder / "params.yaml").read_text())[section]


def test_runs_with_temp_and_from_the_queue_leave_the_workspace(project: Path) -> None:
    assert {"two-faces", "six", "three-faces"} <= set(run(project, "dvc", "exp", "list", "--name-only").split())
    assert value(project, "train")["fidelity"]["steps"] == 4
    assert value(project, "evaluate")["sheet_faces"] == 1
    assert run(project, "git", "status", "--short", "--untracked-files=no") == ""
    assert stages_run(run(project, "dvc", "repro")) == []


def test_experiments_are_shown_in_a_terminal_of_120_columns(project: Path) -> None:
    for more in ((), ("--drop", ".*", "--keep", SHOWN)):
        shown = run(project, "dvc", "exp", "show", "--no-pager", *more).splitlines()
        assert max(map(len, shown)) <= 120
    assert "train.fidelity.steps" in shown[1]
    assert "test-256.json:psnr" in shown[1]
    (six,) = (line for line in shown if "[six]" in line)
    assert six.split()[-1] == "6"


def test_an_experiment_is_compared_applied_and_made_a_branch(project: Path) -> None:
    difference = run(project, "dvc", "exp", "diff", "HEAD", "six")
    assert "train.fidelity.steps" in difference
    assert "valid-fidelity.json" in difference
    assert max(map(len, difference.splitlines())) <= 120
    run(project, "dvc", "exp", "branch", "six", "six-steps")
    assert "six-steps" in run(project, "git", "branch")
    run(project, "dvc", "exp", "apply", "six")
    assert value(project, "train")["fidelity"]["steps"] == 6
    assert stages_run(run(project, "dvc", "repro")) == []
