"""`facesr score --kinds`: generators on degraded inputs, told of them where they can be."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.archives import as_folder
from support.pictures import face, saved
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.core.chain import degrade_to_file
from pipeline.core.degradation import KINDS, draw_kind, reduced_for
from pipeline.core.images import decode, pixel_hash, psnr, resize
from pipeline.models.checkpoint import save_generator
from pipeline.models.config import GeneratorConfig
from pipeline.models.networks import Generator
from pipeline.upscale.upscaler import Upscaler


def score(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["score", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    config = GeneratorConfig((8,), blocks=0, bottleneck=1, told=("jpeg", "noise"))
    torch.manual_seed(0)
    generator = Generator(config)
    torch.nn.init.normal_(generator.to_rgb.weight, std=0.02)
    save_generator(tmp_path / "told.safetensors", generator, config, {}, torch.float32)
    return tmp_path / "told.safetensors"


def test_gains_are_told_by_kind_and_the_generator_is_told_of_each(model: Path, tmp_path: Path) -> None:
    truth = face(20, 128)
    archive = as_folder(tmp_path / "originals", {"a.png": saved(Image.fromarray(truth), "PNG")})
    said = score(model, "--faces", archive, "--kinds", "thumbnail,jpeg75", "--json", tmp_path / "scores.json")
    assert said.index("clean") < said.index("jpeg75") < said.index("thumbnail")
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores) == {"clean", "jpeg75", "thumbnail"}
    upscaler = Upscaler.load(model, back_projection=0, clean_only=True)
    for kind in ("jpeg75", "thumbnail"):
        drawn = draw_kind(pixel_hash(truth), f"256to1024-{kind}", 0)
        _, file = degrade_to_file(reduced_for(resize(truth, 32, 32), KINDS[kind], truth), KINDS[kind], drawn["seed"])
        own, plain = scores[kind][str(model)], psnr(truth, resize(decode(file), 128, 128))
        assert own["psnr"] == pytest.approx(psnr(truth, upscaler.encoded(file)), abs=1e-6), "as a file would be"
        untold = upscaler(decode(file), degradation="none")
        assert own["psnr"] != pytest.approx(psnr(truth, untold), abs=1e-6), "untold it would be another"
        assert own["gain"] == pytest.approx(own["psnr"] - plain, abs=1e-6)
    # the same again, and over a file of its own
    score(model, "--faces", archive, "--kinds", "jpeg75,thumbnail", "--json", tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text()) == scores


def test_all_kinds_can_be_asked_for_and_an_unknown_one_is_named(model: Path, tmp_path: Path) -> None:
    archive = as_folder(tmp_path / "originals", {"a.png": saved(Image.fromarray(face(20, 64)), "PNG")})
    score(model, "--faces", archive, "--kinds", "all", "--json", tmp_path / "scores.json")
    assert list(json.loads((tmp_path / "scores.json").read_text())) == sorted(["clean", *KINDS])
    said = score(model, "--faces", archive, "--kinds", "jpeg75,sepia", code=2)
    assert "--kinds sepia: known are jpeg90, jpeg75" in said


def test_no_number_is_cut_on_a_terminal_of_80_columns_whatever_there_are_more_of(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    archive = as_folder(tmp_path / "originals", {"a.png": saved(Image.fromarray(face(20, 64)), "PNG")})
    others = [model.with_name(f"a-generator-of-another-name-{number}.safetensors") for number in range(4)]
    for other in others:
        shutil.copyfile(model, other)
    for models, kinds in (([model], "all"), ([model, *others], "jpeg75,noise5")):
        json_file = tmp_path / "scores.json"
        said = score(*models, "--faces", archive, "--kinds", kinds, "--json", json_file, "--overwrite")
        for methods in json.loads(json_file.read_text()).values():
            assert all(f"{figures['gain']:+.3f}" in said for figures in methods.values())
        assert "…" not in said
