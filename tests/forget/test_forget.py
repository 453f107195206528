"""A picture that is forgotten is in no shard, manifest or result any more, and what remains is said."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
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


def ids_in(project: Path) -> set[str]:
    """Pixel hashes of all that tables, shards and results name."""
    found: set[str] = set()
    for path in project.rglob("*.parquet"):
        names = set(pq.read_schema(path).names) & {"id", "image_id"}
        found |= {str(value).partition("-")[0] for name in names for value in pq.read_table(path)[name].to_pylist()}
    return found


@pytest.mark.parametrize("by", ["names", "ids"])
def test_a_forget_that_was_stopped_anywhere_is_finished_by_the_same_command(
    by: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # of several shards, and with another of the same pixels in a split of its own
    faces = {split: of_split(project, split) for split in ("train", "test")}
    names = {row["id"]: row["name"] for row in faces_of(project / "data/faces")}
    shard = project / "data/faces/train-00000.parquet"
    table = pq.read_table(shard)
    row = next(row for row in table.to_pylist() if row["id"] == faces["train"])
    twin = row | {"id": faces["train"].partition("-")[0] + "-1", "name": "twin.png"}
    pq.write_table(pa.Table.from_pylist([twin], schema=table.schema), shard.with_name("train-00001.parquet"))
    asked = [names[face] if by == "names" else face for face in faces.values()]
    hashes = {face.partition("-")[0] for face in faces.values()}
    assert hashes < ids_in(project)
    without, codes = take_out._without, []
    for stops in range(30):
        left = iter(range(stops))

        def stopped(*arguments: Any, left: Iterator[int] = left) -> int:
            if next(left, None) is None:
                raise OSError("no space left on device")
            return without(*arguments)

        monkeypatch.setattr(take_out, "_without", stopped)
        done = CliRunner().invoke(app, ["forget", *asked, "--yes"])
        codes.append(done.exit_code)
        if done.exit_code != 1:
            break
        assert "run the same command again" in done.output
    assert len(codes) > 8, "every table was one at which it was stopped"
    # 2: it was stopped when all was done, and nothing is left to be found
    assert codes[-1] in (0, 2)
    assert not hashes & ids_in(project)
    assert all(digest in (project / "data/forgotten.txt").read_text() for digest in hashes)
    assert f"{asked[0]}" in run("forget", *asked, "--yes", code=2).output


def test_a_forgotten_picture_that_is_asked_for_again_is_said_to_be_forgotten(project: Path) -> None:
    face = of_split(project, "train")
    name = next(row["name"] for row in faces_of(project / "data/faces") if row["id"] == face)
    run("forget", name, "--yes")
    for command in (["forget", face[:12], "--yes"], ["lineage", "--image", face[:12]]):
        assert f"{face[:12]}: forgotten, and no longer here" in run(*command, code=2).output
    assert "no longer known by its name" in " ".join(run("forget", name, "--yes", code=2).output.split())
