"""`facesr train` and `facesr score` as a user types them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support.archives import as_folder
from support.pictures import face, psnr, saved
from support.training import TINY_TRAIN, train_project, write_inputs
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.core.files import file_hash
from pipeline.core.images import resize
from pipeline.metrics.fidelity import ssim
from pipeline.models.checkpoint import load_generator, save_generator
from pipeline.train.engine.losses import PerceptualLoss
from pipeline.upscale.upscaler import Upscaler

pytestmark = pytest.mark.usefixtures("fixed_threads")
runner = CliRunner()

CHANGES: dict[str, Any] = {
    "generator": TINY_TRAIN["generator"] | {"tail": "resize"},
    "fidelity": {"steps": 30, "learning_rate": 0.003},
    "realism": TINY_TRAIN["realism"] | {"steps": 4},
    "checkpoint_minutes": 0.0001,
}


def call(*arguments: Any, code: int = 0) -> str:
    done = runner.invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Inputs, manifest and params as the stages before leave them; it is also the current folder."""
    train_project(tmp_path, **CHANGES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_leaves_weights_states_and_logs_and_says_where(data: Path) -> None:
    said = call("train", "--out", "run")
    for phase, steps in (("fidelity", 30), ("realism", 4)):
        assert f"{phase}: run/{phase}/generator.safetensors" in said
        _, facts = load_generator(data / f"run/{phase}/generator.safetensors")
        assert facts["provenance"]["step"] == steps
        assert (data / f"run/{phase}/log/plots/metrics/pixel.tsv").is_file()
        assert (data / f"run/{phase}/speed/plots/metrics/images_per_second.tsv").is_file()


def test_what_is_logged_is_the_same_every_time(data: Path) -> None:
    for out in ("a", "b"):
        call("train", "--out", out, "--phase", "fidelity")
    a, b = (
        {
            path.relative_to(data / out): path.read_bytes()
            for path in (data / out / "fidelity/log").rglob("*")
            if path.is_file()
        }
        for out in ("a", "b")
    )
    assert a == b
    assert {"valid_psnr.tsv", "valid_ssim.tsv", "learning_rate.tsv"} <= {path.name for path in a}


def test_a_setting_can_be_changed_for_one_run_and_a_wrong_one_is_named(data: Path) -> None:
    call("train", "--out", "run", "--phase", "fidelity", "--set", "train.fidelity.steps=7")
    assert load_generator(data / "run/fidelity/generator.safetensors")[1]["provenance"]["step"] == 7
    said = call("train", "--out", "other", "--set", "train.fidelity.stepz=7", code=2)
    assert "train.fidelity.stepz" in " ".join(said.split())


def test_a_run_of_other_settings_is_not_continued_by_mistake(data: Path) -> None:
    call("train", "--out", "run", "--phase", "fidelity")
    for other in (("--phase", "fidelity", "--set", "train.seed=5"), ("--phase", "realism")):
        said = call("train", "--out", "run", *other, code=2)
        assert "other data or params" in " ".join(said.split())


def test_trace_prints_where_the_time_goes_and_saves_nothing(data: Path) -> None:
    said = call("train", "--out", "run", "--trace")
    assert "images/s" in said
    assert "pairs/s" in said
    assert "convolution" in said
    assert not (data / "run").exists()


def test_pairs_that_are_not_there_are_named(data: Path) -> None:
    said = call("train", "--out", "run", "--pairs", "data/none.parquet", code=2)
    assert "data/none.parquet" in said


def test_scores_are_those_of_the_enlarged_pictures(data: Path) -> None:
    call("train", "--out", "run", "--phase", "fidelity")
    truths = [face(20, 128), face(21, 128)]
    archive = as_folder(
        data / "originals", {f"{i}.png": saved(Image.fromarray(t), "PNG") for i, t in enumerate(truths)}
    )
    vgg = PerceptualLoss(("relu3_1",))
    torch.save({f"features.{name}": value for name, value in vgg.features.state_dict().items()}, data / "vgg.pth")
    model = data / "run/fidelity/generator.safetensors"
    said = call("score", model, "--faces", archive, "--vgg", "vgg.pth", "--json", "scores.json")
    assert "bicubic" in said
    scores = json.loads((data / "scores.json").read_text())
    upscaler = Upscaler.load(model, back_projection=0)
    lows = [resize(truth, 32, 32) for truth in truths]
    results = [upscaler([low])[0] for low in lows]
    row = scores[str(model)]
    assert row["count"] == 2
    assert row["psnr"] == pytest.approx(sum(map(psnr, results, truths)) / 2, abs=1e-6)
    assert row["ssim"] == pytest.approx(sum(map(ssim, truths, results)) / 2, abs=1e-6)
    plain = sum(psnr(resize(low, 128, 128), truth) for low, truth in zip(lows, truths, strict=True)) / 2
    assert row["gain"] == pytest.approx(row["psnr"] - plain, abs=1e-6)
    assert scores["bicubic"]["fd"] == 1
    assert row["fd"] != 1


def test_every_checkpoint_of_a_run_can_be_scored(data: Path) -> None:
    call("train", "--out", "run", "--phase", "fidelity")
    archive = as_folder(data / "originals", {"a.png": saved(Image.fromarray(face(20, 64)), "PNG")})
    call("score", "run", "--faces", archive, "--json", "scores.json")
    names = {Path(name).name for name in json.loads((data / "scores.json").read_text())} - {"bicubic", "lanczos"}
    assert {"best.safetensors", "generator.safetensors", "state-00000030.safetensors"} <= names


def test_without_vgg_the_distance_is_null_and_the_rest_is_there(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(data / "none"))
    call("train", "--out", "run", "--phase", "fidelity")
    archive = as_folder(data / "originals", {"a.png": saved(Image.fromarray(face(20, 64)), "PNG")})
    said = call("score", "run/fidelity/generator.safetensors", "--faces", archive, "--json", "scores.json")
    assert "facesr weights fetch vgg19" in said
    assert all(row["fd"] is None for row in json.loads((data / "scores.json").read_text()).values())


def test_a_face_that_cannot_be_scored_is_named_and_the_others_are_scored(data: Path) -> None:
    call("train", "--out", "run", "--phase", "fidelity")
    good, odd = (saved(Image.fromarray(face(20, side)), "PNG") for side in (64, 66))
    archive = as_folder(data / "originals", {"bad.png": b"no picture", "good.png": good, "odd.png": odd})
    said = call("score", "run/fidelity/generator.safetensors", "--faces", archive, code=1)
    assert "bad.png: not a picture" in said
    assert "odd.png: a true picture of 66x66 cannot be reduced 4x exactly" in " ".join(said.split())
    assert "1 faces, reduced 4x from 64 pixels a side" in " ".join(said.split())


def test_a_split_without_faces_is_said_and_no_other_is_scored_instead(data: Path) -> None:
    call("train", "--out", "run", "--phase", "fidelity")
    model = "run/fidelity/generator.safetensors"
    write_inputs(data / "faces", [face(20, 64)], "train")
    said = " ".join(call("score", model, "--faces", "faces", code=2).split())
    assert "no faces of the valid split" in said
    assert "--split vlaid: one of" in call("score", model, "--faces", "faces", "--split", "vlaid", code=2)
    assert "--precision fp16: auto" in call("score", model, "--faces", "faces", "--precision", "fp16", code=2)
    assert "1 faces" in call("score", model, "--faces", "faces", "--split", "train")


def test_weights_to_start_from_are_on_record_and_must_fit(data: Path) -> None:
    call("train", "--out", "first", "--phase", "fidelity")
    start = data / "first/fidelity/generator.safetensors"
    change = ("--set", "train.generator.widths=[12]")
    done = runner.invoke(app, ["train", "--out", "run", "--phase", "fidelity", "--start", str(start), *change])
    assert "a generator with widths" in str(done.exception)
    assert "asked for (12,)" in str(done.exception)
    said = call("train", "--out", "run", "--phase", "fidelity", "--start", "typo.safetensors", code=2)
    assert "no such weights file" in " ".join(said.split())
    # neither of the two has begun anything that would keep others out
    call("train", "--out", "run", "--phase", "fidelity", "--start", start)
    result = data / "run/fidelity/generator.safetensors"
    provenance = load_generator(result)[1]["provenance"]
    assert provenance["start_sha256"] == file_hash(start)
    assert "earlier_data_sha256" not in provenance, "the same data"
    generator, facts = load_generator(start)
    save_generator(start, generator, generator.config, facts["provenance"] | {"data_sha256": "other"}, torch.float32)
    said = call("train", "--out", "run", "--phase", "fidelity", "--start", start, code=2)
    assert "other data or params" in " ".join(said.split())
    call("train", "--out", "second", "--start", start)
    for phase in ("fidelity", "realism"):
        provenance = load_generator(data / f"second/{phase}/generator.safetensors")[1]["provenance"]
        assert provenance["earlier_data_sha256"] == ["other"]


def test_realism_alone_says_that_it_begins_from_random_weights(data: Path) -> None:
    alone = ("train", "--phase", "realism", "--set", "train.realism.steps=1")
    assert "no --start: realism begins from random weights" in call(*alone, "--out", "alone")
    call("train", "--out", "first", "--phase", "fidelity", "--set", "train.fidelity.steps=1")
    start = ("--start", data / "first/fidelity/generator.safetensors")
    assert "random weights" not in call(*alone, "--out", "after", *start)


def test_faces_that_are_not_there_are_an_error(data: Path) -> None:
    call("train", "--out", "run", "--phase", "fidelity")
    done = runner.invoke(app, ["score", "run/fidelity/generator.safetensors", "--faces", "nowhere"])
    assert done.exit_code != 0
