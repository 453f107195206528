"""The whole pipeline through DVC, in a copy of the project: the smoke profile, small but real at every stage."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from support.dvc_project import copy_project, run, stages_run
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.core.images import decode, encode_png


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = copy_project(tmp_path_factory.mktemp("project"))
    run(folder, "dvc", "repro")
    return folder


def metrics(folder: Path) -> dict:
    return json.loads((folder / "reports/metrics.json").read_text())


def test_the_metrics_have_the_promised_shape(project):
    found = metrics(project)
    assert set(found) == {"train", "test"}
    for split, scales in found.items():
        kinds = {"64to256-thumbnail", "256to1024-thumbnail"} if split == "test" else set()
        assert set(scales) == {"64to256", "256to1024", *kinds}
        for methods in scales.values():
            assert {"bicubic", "lanczos", "facesr", "facesr-realism"} <= set(methods)
            for values in methods.values():
                assert 15 < values["psnr"] < 60
                assert 0.3 < values["ssim"] < 1
                assert values["fid"] is None
                assert values["fid_reason"]


def test_no_picture_is_in_two_splits_and_no_test_face_is_in_the_manifest(project):
    faces = pq.read_table(project / "data/faces", columns=["id", "split"]).to_pylist()
    splits: dict[str, set[str]] = {}
    for row in faces:
        splits.setdefault(row["id"].split("-")[0], set()).add(row["split"])
    assert len(faces) == 8
    assert all(len(found) == 1 for found in splits.values())
    tested = {row["id"] for row in faces if row["split"] == "test"}
    manifest = pq.read_table(project / "data/pairs.parquet").to_pylist()
    assert manifest
    assert not tested & {row["image_id"] for row in manifest}


def test_every_input_was_enlarged_four_times_by_both_generators(project):
    for method in ("facesr", "facesr-realism"):
        for scale, side in (("64to256", 256), ("256to1024", 1024)):
            rows = pq.read_table(project / "data/upscaled" / method / scale).to_pylist()
            assert len(rows) == 6
            assert {(row["status"], row["width"], row["height"]) for row in rows} == {("ok", side, side)}


def test_zssr_and_the_supervised_twin_lie_where_evaluation_finds_them(project):
    told = json.loads((project / "data/baselines/methods.json").read_text())
    assert {name: one["reason"] for name, one in told.items()} == {"twin": None, "zssr": None}
    for method in told:
        for scale, side in (("64to256", 256), ("256to1024", 1024)):
            rows = pq.read_table(project / "data/baselines" / method / scale).to_pylist()
            tested = pq.read_table(project / "data/inputs/test", columns=["id"])["id"].to_pylist()
            assert [row["id"] for row in rows] == tested
            assert {(row["status"], row["width"], row["height"]) for row in rows} == {("ok", side, side)}


def test_the_report_and_pictures_are_there(project):
    page = (project / "reports/report.html").read_text()
    assert "data:image" in page
    for sheet in ("train-64to256", "train-256to1024", "test-64to256", "test-256to1024", "kinds-test-256to1024"):
        assert (project / f"reports/sheets/{sheet}.png").stat().st_size > 10_000
    assert list((project / "reports/train/fidelity/samples").glob("*.png"))
    assert "PSNR on the valid split" in page
    for table in ("results.csv", "table1.tex", "table2.md"):
        assert "SSIM" in (project / "reports/tables" / table).read_text()


def test_a_second_repro_does_nothing(project):
    before = (project / "reports/report.html").stat().st_mtime_ns
    assert "Data and pipelines are up to date" in run(project, "dvc", "repro")
    assert (project / "reports/report.html").stat().st_mtime_ns == before


def test_dvc_shows_metrics_and_plots(project):
    shown = run(project, "dvc", "metrics", "show").splitlines()
    assert any(line.startswith("reports/dvc/test-1024.json ") for line in shown)
    assert max(map(len, shown)) <= 120
    assert "reports/dvc/test-1024.json" in run(project, "dvc", "metrics", "diff", "--all", "--md")
    run(project, "dvc", "plots", "show")
    assert (project / "dvc_plots/index.html").stat().st_size > 5_000


def test_changing_an_evaluate_param_runs_evaluate_alone(project):
    path = project / "params.yaml"
    values = yaml.safe_load(path.read_text())
    values["evaluate"]["sheet_faces"] = 1
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    assert stages_run(run(project, "dvc", "repro", "--dry")) == ["evaluate"]


def test_another_run_from_scratch_without_ray_gives_the_same_manifest_weights_and_metrics(project, tmp_path):
    again = copy_project(tmp_path / "again")
    path = again / "params.yaml"
    values = yaml.safe_load(path.read_text())
    assert "workers" not in values["upscale"], "the other run's stage is Ray's"
    values["upscale"]["workers"] = 1
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    run(again, "dvc", "repro")
    assert metrics(again) == metrics(project)
    models = ("models/fidelity.safetensors", "models/realism.safetensors", "models/baselines/twin.safetensors")
    for name in ("data/pairs.parquet", *models):
        assert (again / name).read_bytes() == (project / name).read_bytes(), name


def test_evaluation_of_other_results_measures_what_lies_there_now(project, tmp_path, monkeypatch):
    # test faces alone: the others would take as long again
    for name in ("params.yaml", "data/ingest.json", "models", "data/inputs/test", "data/upscaled"):
        source, target = project / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    (tmp_path / "data/faces").mkdir()
    rows = pq.read_table(project / "data/faces", columns=["id", "split", "image"]).to_pylist()
    for shard in (project / "data/faces").glob("test-*.parquet"):
        shutil.copyfile(shard, tmp_path / "data/faces" / shard.name)
    folder = tmp_path / "theirs"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    gains = []
    for shift in (4, 60):
        for row in (row for row in rows if row["split"] == "test"):
            worse = decode(row["image"]["bytes"]) // 2 + shift
            (folder / f"{row['id']}.png").write_bytes(encode_png(worse))
        done = CliRunner().invoke(app, ["evaluate", "--method", "theirs=theirs", "--out", "other", "--workers", "1"])
        assert done.exit_code == 0, done.output
        found = json.loads((tmp_path / "other/metrics.json").read_text())
        gains.append(found["test"]["256to1024"]["theirs"]["psnr"])
    assert abs(gains[0] - gains[1]) > 0.5
    assert not list((tmp_path / "work").glob("evaluate-with/*"))
