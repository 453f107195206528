"""A picture that is forgotten is in no shard, manifest or result any more, and what remains is said."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.project import ingest_again, of_split, run
from support.stages import faces_of, files_of
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.forget import take_out


def test_nothing_is_changed_without_yes(project: Path) -> None:
    before = files_of(project)
    said = run("forget", of_split(project, "train")).output
    for words in ("nothing was changed", "would be removed, since they show faces: reports/sheets", "train again"):
        assert words in said
    assert files_of(project) == before


def test_a_forgotten_picture_is_nowhere_and_stays_away(project: Path) -> None:
    face = of_split(project, "train")
    others = {row["id"]: row for row in faces_of(project / "data/faces") if row["id"] != face}
    (project / "dvc_plots/static").mkdir(parents=True)
    (project / "dvc_plots/static/sheet.png").write_bytes(b"shows faces")
    found = run("forget", face, "--yes").output
    digest = face.partition("-")[0]
    for name, data in files_of(project).items():
        assert digest.encode() not in data or name == "data/forgotten.txt", name
    assert digest in (project / "data/forgotten.txt").read_text()
    left = {row["id"]: row for row in faces_of(project / "data/faces")}
    assert left == others, "the others are as they were, to the byte"
    assert {row["image_id"] for row in pq.read_table("data/pairs.parquet").to_pylist()} < set(others)
    assert not (project / "reports/sheets").exists()
    assert not (project / "dvc_plots").exists()
    for words in (
        "models/fidelity.safetensors",
        "models/old.safetensors",
        "dvc gc",
        "--remote",
        "git tag",
        "dvc repro",
    ):
        assert words in found
    ingest_again(project)
    assert {row["id"] for row in faces_of(project / "data/faces")} == set(others)


def test_a_forget_that_was_stopped_anywhere_is_finished_by_the_same_command(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    face = of_split(project, "train")
    name = next(row["name"] for row in faces_of(project / "data/faces") if row["id"] == face)
    without, stops = take_out._without, 0
    for stops in range(20):
        left = iter(range(stops))

        def stopped(*arguments: Any, left: Iterator[int] = left) -> int:
            if next(left, None) is None:
                raise OSError("no space left on device")
            return without(*arguments)

        monkeypatch.setattr(take_out, "_without", stopped)
        done = CliRunner().invoke(app, ["forget", name, "--yes"])
        if done.exit_code in (0, 2):  # 2: it was stopped when all was done
            break
        assert "run the same command again" in done.output
    assert stops > 6, "every table was one at which it was stopped"
    digest = face.partition("-")[0].encode()
    assert {name for name, data in files_of(project).items() if digest in data} == {"data/forgotten.txt"}
    assert f"{face[:12]}: forgotten" in run("forget", face[:12], "--yes", code=2).output
    assert "no longer known by its name" in " ".join(run("forget", name, "--yes", code=2).output.split())
