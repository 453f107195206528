"""The facesr command as a user types it."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pipeline import __version__, bulk
from pipeline.checkpoint import save_generator
from pipeline.cli import app
from pipeline.images import decode, lossless
from pipeline.networks import Generator, GeneratorConfig
from pipeline.upscaling import Upscaler

ROOT = Path(__file__).parent.parent
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


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A generator that is tiny and not bicubic, with a realism twin beside it."""
    folder = tmp_path_factory.mktemp("models")
    config = GeneratorConfig(widths=(8,), blocks=1, bottleneck=1)
    for seed, name in enumerate(("fidelity", "realism")):
        torch.manual_seed(seed)
        generator = Generator(config)
        torch.nn.init.normal_(generator.to_rgb.weight, std=0.01)
        save_generator(folder / f"{name}.safetensors", generator, config, {}, torch.float16)
    return folder / "fidelity.safetensors"


@pytest.fixture
def archive(tmp_path) -> Path:
    """A folder with sub-folders, two pictures that share a stem, a truncated one and one that is no picture."""
    folder = tmp_path / "in"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a.png").write_bytes(encoded(1))
    (folder / "a.jpg").write_bytes(encoded(2, "JPEG"))
    (folder / "deep" / "er" / "b.png").write_bytes(encoded(3, width=17, height=16))
    (folder / "cut.jpg").write_bytes(encoded(4, "JPEG")[:300])
    (folder / "words.png").write_text("not a picture")
    return folder


def test_the_version_is_printed():
    assert __version__ in call("--version")


def test_upscale_keeps_names_and_folders_and_names_every_failure(archive, model, tmp_path):
    out = tmp_path / "out"
    done = runner.invoke(app, ["upscale", str(archive), str(out), "--model", str(model), "--workers", "1"])
    assert done.exit_code == 1
    pictures = {path.relative_to(out).as_posix() for path in out.rglob("*.png")}
    assert pictures == {"a.png.png", "a.jpg.png", "deep/er/b.png"}
    with Image.open(out / "deep/er/b.png") as image:
        assert image.size == (68, 64)
    rows = {row["name"]: row for row in pq.read_table(out / "manifest.parquet").to_pylist()}
    assert {name: row["status"] for name, row in rows.items()} == {
        "a.png": "ok",
        "a.jpg": "ok",
        "deep/er/b.png": "ok",
        "cut.jpg": "failed",
        "words.png": "failed",
    }
    assert "truncated" in rows["cut.jpg"]["error"]
    assert "not a picture" in rows["words.png"]["error"]
    assert (rows["a.png"]["width"], rows["a.png"]["height"]) == (160, 128)
    assert rows["a.png"]["model"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"], "partial work is left behind"


def test_zip_tar_and_parquet_hold_the_same_pictures_as_a_folder(archive, model, tmp_path):
    (archive / "cut.jpg").unlink()
    (archive / "words.png").unlink()
    zipped = tmp_path / "in.zip"
    with zipfile.ZipFile(zipped, "w") as file:
        for path in sorted(archive.rglob("*.*")):
            file.write(path, path.relative_to(archive).as_posix())
    found = {}
    for source, name in ((archive, "folder"), (zipped, "out.zip"), (zipped, "out.tar"), (archive, "out.parquet")):
        out = tmp_path / name
        call("upscale", source, out, "--model", model, "--workers", 1)
        if name == "folder":
            found[name] = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.png")}
        elif name == "out.zip":
            with zipfile.ZipFile(out) as file:
                found[name] = {info.filename: file.read(info) for info in file.infolist()}
        elif name == "out.tar":
            with tarfile.open(out) as file:
                found[name] = {member.name: file.extractfile(member).read() for member in file}
        else:
            rows = pq.read_table(out).to_pylist()
            found[name] = {row["image"]["path"]: row["image"]["bytes"] for row in rows}
        if name != "folder":
            assert (tmp_path / f"{name}.manifest.parquet").is_file()
    assert len(found["folder"]) == 3
    assert found["out.zip"] == found["out.tar"] == found["out.parquet"] == found["folder"]


def test_one_picture_in_and_one_picture_out(archive, model, tmp_path):
    call("upscale", archive / "a.jpg", tmp_path / "big.png", "--model", model, "--workers", 1)
    with Image.open(tmp_path / "big.png") as image:
        assert image.size == (160, 128)
    assert (tmp_path / "big.png.manifest.parquet").is_file()
    done = runner.invoke(app, ["upscale", str(archive), str(tmp_path / "x.png"), "--model", str(model)])
    assert done.exit_code == 2
    assert not (tmp_path / "x.png").exists()


def test_the_released_generators_need_no_option_and_agree_with_their_input(tmp_path):
    source = tmp_path / "face.png"
    source.write_bytes(encoded(6, width=64, height=64))
    for realism in (0, 1):
        out = tmp_path / f"{realism}.png"
        call("upscale", source, out, "--realism", realism, "--workers", 1)
        low = np.asarray(Image.open(source)).astype(float)
        result = Image.open(out)
        assert result.size == (256, 256)
        again = np.asarray(result.resize((64, 64), Image.Resampling.BICUBIC)).astype(float)
        assert np.abs(again - low).mean() < 1.0, "the result must agree with what it was made from"


def test_realism_moves_between_the_two_generators(model, tmp_path):
    source = tmp_path / "face.png"
    source.write_bytes(encoded(5))
    results = []
    for share in (0, 0.5, 1):
        out = tmp_path / f"out{share}"
        call("upscale", source, out, "--model", model, "--realism", share, "--workers", 1, "--precision", "fp32")
        results.append(np.asarray(Image.open(out / "face.png")).astype(float))
    assert np.abs(results[0] - results[2]).mean() > 0.5
    between = np.abs(results[0] - results[1]).mean()
    assert 0 < between < np.abs(results[0] - results[2]).mean()


def test_upscale_goes_on_after_kill_9_and_ends_with_the_same_bytes(model, tmp_path):
    source = tmp_path / "many.zip"
    with zipfile.ZipFile(source, "w") as file:
        for index in range(96):
            file.writestr(f"{index:03d}.png", encoded(index, width=96, height=96))
    call("upscale", source, tmp_path / "whole.zip", "--model", model, "--workers", 1)
    out = tmp_path / "killed.zip"
    command = [sys.executable, "-m", "pipeline.cli", "upscale", source, out, "--model", model, "--workers", "1"]
    process = subprocess.Popen([str(part) for part in command], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(".killed.zip.facesr/*/000000.parquet")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    finally:
        process.wait()
    assert not out.exists()
    call(*command[3:])
    assert out.read_bytes() == (tmp_path / "whole.zip").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing.zip", "out"), "no such file"),
        (("{archive}", "out", "--model", "nowhere.safetensors"), "nowhere.safetensors"),
        (("{archive}", "out", "--model", "{archive}/a.png"), "safetensors"),
    ],
)
def test_what_cannot_start_exits_2_and_says_why(archive, model, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    arguments = [argument.format(archive=archive) for argument in arguments]
    if "--model" not in arguments:
        arguments += ["--model", str(model)]
    done = runner.invoke(app, ["upscale", *arguments])
    assert done.exit_code == 2
    assert said in re.sub(r"\s+", " ", done.output)
    assert not (tmp_path / "out").exists()


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


def test_the_table_shows_the_gain_over_bicubic(tmp_path):
    scores = {"psnr": 30.0, "ssim": 0.9, "fid": None, "fid_reason": "none"}
    metrics = {"test": {"256to1024": {"facesr": scores | {"psnr": 31.25}, "bicubic": scores}}}
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(metrics))
    printed = call("table", path)
    assert "+1.25" in printed
    assert printed.index("bicubic") < printed.index("facesr")


def test_only_losslessly_stored_pictures_are_made_to_agree_with_their_input(model: Path, tmp_path: Path) -> None:
    pixels = np.asarray(picture(5))
    for name, data, steps in (("a.png", encoded(5), bulk.CLEAN_STEPS), ("b.jpg", encoded(5, "JPEG"), 0)):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
        low = decode(data)
        call("upscale", tmp_path / "in" / name, tmp_path / f"{name}.png", "--model", model, "--workers", 1)
        made = np.asarray(Image.open(tmp_path / f"{name}.png"))
        (expected,) = Upscaler.load(model, back_projection=steps)([low])
        (other,) = Upscaler.load(model, back_projection=bulk.CLEAN_STEPS - steps)([low])
        assert (made == expected).all()
        assert not (made == other).all()
    assert pixels.shape == low.shape
    call("upscale", tmp_path / "in/a.png", tmp_path / "c.png", "--model", model, "--workers", 1, "--back-projection", 0)
    (plain,) = Upscaler.load(model)([pixels])
    assert (np.asarray(Image.open(tmp_path / "c.png")) == plain).all()


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
