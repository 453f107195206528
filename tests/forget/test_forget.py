"""A picture that is forgotten is in no shard, manifest or result any more, and what remains is said."""

from pathlib import Path

import pyarrow.parquet as pq
from support.project import ingest_again, of_split, run
from support.stages import faces_of, files_of


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
