"""Clean sharp pictures are enlarged by weights of their own where there are any, and no others are."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from support.pictures import jpeg, saved
from support.upscaling import CONFIG, make_models, manifest, said, upscale

from pipeline.core.chain import TOLD
from pipeline.core.images import Pixels, decode
from pipeline.lineage.result import made_by
from pipeline.models.checkpoint import load_generator, save_generator
from pipeline.models.networks import Generator
from pipeline.models.weights_file import ModelError
from pipeline.upscale.estimate import find_degradation
from pipeline.upscale.told import CLEAN, SHARP
from pipeline.upscale.upscaler import Upscaler

TOLD_CONFIG = replace(CONFIG, told=TOLD)


def textured(seed: int, side: int = 96) -> Pixels:
    """A picture of many edges, reduced 4 times as a photograph would be: clean and sharp."""
    random = np.random.default_rng(seed)
    large = np.full((4 * side, 4 * side, 3), 128, np.uint8)
    for _ in range(side * 2):
        top, left = random.integers(0, 4 * side, 2)
        height, width = random.integers(4, side, 2)
        large[top : top + height, left : left + width] = random.integers(30, 220, 3)
    turned = Image.fromarray(large).rotate(float(random.uniform(10, 35)), Image.Resampling.BICUBIC)
    middle = turned.crop((side // 2, side // 2, side // 2 + 3 * side, side // 2 + 3 * side))
    return np.asarray(middle.resize((side * 3 // 4, side * 3 // 4), Image.Resampling.BICUBIC))


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


def noisy(pixels: Pixels) -> Pixels:
    noise = np.random.default_rng(0).normal(0, 4, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def with_sharp(folder: Path, source: Path) -> Path:
    """A copy of the generators in a folder of its own, with one for sharp pictures beside them."""
    folder.mkdir()
    for path in source.parent.glob("*.safetensors"):
        shutil.copy(path, folder)
    torch.manual_seed(7)
    config = replace(TOLD_CONFIG, residual="zero")  # how sums are written may differ
    generator = Generator(config)
    torch.nn.init.normal_(generator.to_rgb.weight, std=0.01)
    save_generator(folder / "sharp.safetensors", generator, config, {}, torch.float16)
    return folder / "fidelity.safetensors"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("alone"), TOLD_CONFIG)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, alone: Path) -> Path:
    return with_sharp(tmp_path_factory.mktemp("models") / "both", alone)


@pytest.fixture(scope="module")
def special(both: Path, tmp_path_factory: pytest.TempPathFactory) -> Upscaler:
    """The weights for sharp pictures as if they were for all."""
    path = shutil.copy(both.with_name("sharp.safetensors"), tmp_path_factory.mktemp("special"))
    return Upscaler.load(path, precision="fp32")


def test_what_is_blurred_noisy_or_compressed_is_not_sharp() -> None:
    for seed in range(8):
        clean = textured(seed)
        assert find_degradation(clean, saved(Image.fromarray(clean), "PNG")).sharp, seed
        assert not find_degradation(blurred(clean, 1.0), None).sharp, seed
        assert not find_degradation(noisy(clean), None).sharp, seed
        data = jpeg(clean, 85)
        assert not find_degradation(decode(data), data).sharp, seed


@pytest.mark.parametrize("value", [0, 127, 255])
def test_a_flat_picture_is_not_sharp(value: int) -> None:
    assert not find_degradation(np.full((64, 64, 3), value, np.uint8), None).sharp


def test_sharp_pictures_alone_are_enlarged_by_their_own_weights(alone: Path, both: Path, special: Upscaler) -> None:
    upscaler, before = Upscaler.load(both, precision="fp32"), Upscaler.load(alone, precision="fp32")
    clean = textured(0)
    assert (upscaler(clean) == special(clean)).all()
    assert not (upscaler(clean) == before(clean)).all()
    for other in (blurred(clean, 1.0), noisy(clean)):
        assert (upscaler(other) == before(other)).all()


def test_a_lossy_file_is_not_taken_for_a_sharp_picture(alone: Path, both: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    Image.fromarray(textured(0)).save(path, quality=100)
    results = [np.asarray(Upscaler.load(model, precision="fp32")(path)) for model in (alone, both)]
    assert (results[0] == results[1]).all()


def test_tiles_and_mixed_batches_give_what_each_picture_gives_alone(both: Path) -> None:
    upscaler = Upscaler.load(both, precision="fp32")
    clean = textured(1)
    pictures = [clean, blurred(clean, 1.0), textured(2)]
    single = [upscaler(picture) for picture in pictures]
    for result, expected in zip(upscaler(pictures), single, strict=True):
        assert np.abs(result.astype(int) - expected).max() <= 1
    told = [upscaler.told_of(picture) for picture in pictures]
    assert [type(value) for value in told] == [type(SHARP), type(CLEAN), type(SHARP)]
    for result, expected in zip(upscaler.batch(pictures, None, told), single, strict=True):
        assert np.abs(result.astype(int) - expected).max() <= 1
    tiled = Upscaler.load(both, precision="fp32", tile=32)(clean)
    assert np.abs(tiled.astype(int) - single[0]).max() <= 1


def test_with_realism_or_where_something_else_is_told_they_are_not_used(alone: Path, both: Path) -> None:
    clean = textured(3)
    for options in ({"realism": 0.5}, {"realism": 1.0}, {"degradation": "none"}, {"degradation": "jpeg=60"}):
        results = [Upscaler.load(model, precision="fp32", **options)(clean) for model in (alone, both)]  # type: ignore[arg-type]
        assert (results[0] == results[1]).all(), options


def test_a_file_by_another_name_has_its_own_beside_it(alone: Path, both: Path, tmp_path: Path) -> None:
    mine = shutil.copy(alone, tmp_path / "mine.safetensors")
    shutil.copy(both.with_name("sharp.safetensors"), tmp_path / "sharp.safetensors")
    clean = textured(4)
    expected = [Upscaler.load(model, precision="fp32")(clean) for model in (alone, both)]
    assert (Upscaler.load(mine, precision="fp32")(clean) == expected[0]).all()
    shutil.copy(both.with_name("sharp.safetensors"), tmp_path / "mine-sharp.safetensors")
    assert (Upscaler.load(mine, precision="fp32")(clean) == expected[1]).all()


def test_weights_of_another_architecture_are_refused(both: Path, tmp_path: Path) -> None:
    fidelity = shutil.copy(both, tmp_path / "fidelity.safetensors")
    make_models(tmp_path, CONFIG)
    (tmp_path / "fidelity.safetensors").replace(tmp_path / "sharp.safetensors")
    shutil.copy(both, fidelity)
    with pytest.raises(ModelError, match=r"sharp\.safetensors: not of the architecture of fidelity\.safetensors"):
        Upscaler.load(fidelity)


def test_the_manifest_and_each_picture_name_the_weights_that_made_it(both: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    clean = textured(5)
    for name, pixels in {"a.png": clean, "b.png": blurred(clean, 1.0), "c.png": textured(6)}.items():
        (folder / name).write_bytes(saved(Image.fromarray(pixels), "PNG"))
    upscale(folder, tmp_path / "out", "--model", both, "--precision", "fp32")
    general, own = (
        load_generator(both.with_name(f"{name}.safetensors"))[1]["sha256"] for name in ("fidelity", "sharp")
    )
    rows = manifest(tmp_path / "out")
    assert {name: row["model"] for name, row in rows.items()} == {"a.png": own, "b.png": general, "c.png": own}
    for name, row in rows.items():
        assert (made_by(tmp_path / "out" / name) or {})["sha256"] == row["model"], name


def test_a_run_is_not_gone_on_with_by_other_weights_for_sharp_pictures(both: Path, alone: Path, tmp_path: Path) -> None:
    folder, own = tmp_path / "in", with_sharp(tmp_path / "own", alone)
    folder.mkdir()
    (folder / "a.png").write_bytes(saved(Image.fromarray(textured(5)), "PNG"))
    upscale(folder, tmp_path / "out", "--model", own, "--precision", "fp32")
    own.with_name("sharp.safetensors").unlink()
    (folder / "b.png").write_bytes(saved(Image.fromarray(textured(6)), "PNG"))
    refused = said(upscale(folder, tmp_path / "out", "--model", own, "--precision", "fp32", code=2))
    general, special = (load_generator(path)[1]["sha256"][:12] for path in (own, both.with_name("sharp.safetensors")))
    assert f"model was {general}…,{special}…, now {general}…" in refused
