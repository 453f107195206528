"""The facesr command as a user types it."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from support.stages import ROOT
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.core.images import lossless
from pipeline.version import __version__

runner = CliRunner()


def call(*arguments) -> str:
    """Run a command that must succeed."""
    done = runner.invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def picture(seed: int, width: int = 40, height: int = 32) -> Image.Image:
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encoded(seed: int, kind: str = "PNG", **size) -> bytes:
    buffer = io.BytesIO()
    picture(seed, **size).save(buffer, kind)
    return buffer.getvalue()


def test_the_version_is_printed():
    assert __version__ in call("--version")


def test_synth_writes_the_same_portraits_as_folder_zip_and_parquet(tmp_path):
    for name, extra in (("folder", ()), ("faces.zip", ()), ("shards", ("--to", "parquet")), ("one.parquet", ())):
        call("synth", tmp_path / name, "--count", 2, "--seed", 3, "--size", 128, "--workers", 1, *extra)
    files = {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()}
    assert sorted(files) == ["portrait-000000.png", "portrait-000001.png"]
    with zipfile.ZipFile(tmp_path / "faces.zip") as archive:
        assert {info.filename: archive.read(info) for info in archive.infolist()} == files
    assert (tmp_path / "one.parquet").is_file()
    assert pq.read_table(tmp_path / "one.parquet").equals(pq.read_table(tmp_path / "shards"))
    rows = pq.read_table(tmp_path / "shards").to_pylist()
    assert {row["name"]: row["image"]["bytes"] for row in rows} == files
    assert {(row["width"], row["height"]) for row in rows} == {(128, 128)}


def test_weights_say_where_a_missing_network_comes_from_and_take_only_the_true_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("COLUMNS", "300")
    shown = call("weights", "list")
    assert "vgg19" in shown
    assert "inception" in shown
    fake = tmp_path / "vgg19-dcbb9e9d.pth"
    fake.write_bytes(b"something else")
    done = runner.invoke(app, ["weights", "add", str(fake)])
    assert done.exit_code == 2
    assert "sha256" in done.output
    assert not list((tmp_path / "torch").rglob("*.pth"))


def test_fetching_without_a_network_says_file_address_and_place(tmp_path):
    environment = os.environ | {"TORCH_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9", "COLUMNS": "400"}
    command = [sys.executable, "-m", "pipeline.cli", "weights", "fetch", "vgg19"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    said = re.sub(r"\s+", " ", done.stderr)
    for part in ("vgg19-dcbb9e9d.pth", "https://download.pytorch.org/", str(tmp_path)):
        assert part in said
    assert "Traceback" not in done.stderr


def test_a_profile_takes_the_place_of_params_and_what_was_there_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles").mkdir()
    other = (ROOT / "profiles/smoke.yaml").read_text()
    (tmp_path / "profiles/smoke.yaml").write_text(other)
    mine = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(mine)
    call("profile", "--use", "smoke")
    assert (tmp_path / "params.yaml").read_text() == other
    assert (tmp_path / "params.yaml.before").read_text() == mine
    assert runner.invoke(app, ["profile", "--use", "nothing"]).exit_code == 2
    (tmp_path / "params.yaml").write_text(mine + "\n# changed")
    call("profile", "--use", "smoke")
    assert (tmp_path / "params.yaml.before").read_text() == mine
    assert (tmp_path / "params.yaml.before-2").read_text() == mine + "\n# changed"


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use the card of this machine")
def test_a_card_that_torch_cannot_use_is_named_before_a_run_without_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "profiles/smoke.yaml").read_text())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "warning" not in call("profile")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: an old card'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert "this machine has GPU 0: an old card, but torch" in call("profile")


def test_the_table_shows_the_gain_over_bicubic(tmp_path):
    scores = {"psnr": 30.0, "ssim": 0.9, "fid": None, "fid_reason": "none"}
    metrics = {"test": {"256to1024": {"facesr": scores | {"psnr": 31.25}, "bicubic": scores}}}
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(metrics))
    printed = call("table", path)
    assert "+1.25" in printed
    assert printed.index("bicubic") < printed.index("facesr")


@pytest.mark.parametrize(
    ("score", "wrong"),
    [
        ({"psnr": "high"}, "psnr is no number"),
        ({"psnr": 30.0, "count": [1]}, "count is no number"),
        ({"psnr": 30.0, "ssim": {}}, "ssim is no number"),
        ({"psnr": 30.0, "on_same_faces": {"bicubic": 4}}, "not a metrics.json"),
        ({"ssim": 0.9}, "a method without figures"),
    ],
)
def test_a_table_of_what_are_no_figures_is_one_line(tmp_path, score, wrong):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"test": {"256to1024": {"bicubic": score}}}))
    for form in ("terminal", "csv"):
        result = runner.invoke(app, ["table", str(path), "--format", form])
        assert result.exit_code == 1
        assert wrong in result.output


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("PNG", {}, True),
        ("BMP", {}, True),
        ("WEBP", {"lossless": True}, True),
        ("WEBP", {}, False),
        ("JPEG", {}, False),
    ],
)
def test_formats_that_keep_every_pixel_are_told_from_those_that_do_not(
    kind: str, options: dict[str, bool], expected: bool
) -> None:
    buffer = io.BytesIO()
    picture(6).save(buffer, kind, **options)
    assert lossless(buffer.getvalue()) is expected
