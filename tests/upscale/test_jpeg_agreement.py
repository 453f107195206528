"""A result of a JPEG agrees with the intervals that its file stores, by a generator that can be told of it."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import jpeg, psnr, saved
from support.upscaling import CONFIG, make_models

from pipeline.core.chain import TOLD
from pipeline.core.images import Pixels, resize
from pipeline.models.networks import enlarge
from pipeline.synthetic.portrait import portrait
from pipeline.upscale.blocks import cosines
from pipeline.upscale.jpeg_agreement import WIDTH, Stored, _coefficients, agreed, read_stored
from pipeline.upscale.upscaler import JPEG_STEPS, Upscaler

TRUTH = portrait(5, 0)
LOW = resize(TRUTH, 256, 256)


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> Upscaler:
    return Upscaler.load(make_models(tmp_path_factory.mktemp("agree"), replace(CONFIG, told=TOLD)), precision="fp32")


def tensor(pixels: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255


def outside(result: torch.Tensor, stored: Stored) -> float:
    """Mean distance of the reduced result's coefficients from their intervals."""
    low = torch.nn.functional.interpolate(result, scale_factor=0.25, mode="bicubic", antialias=True)[0] * 255
    matrix = torch.from_numpy(cosines()).float()
    luma = (low * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
    step = torch.from_numpy(stored.steps)
    middle = _coefficients(torch.from_numpy(stored.luma.astype(np.float32)) - 128, matrix)
    off = (_coefficients(luma - 128, matrix) - torch.round(middle / step) * step).abs() - step * WIDTH / 2
    return float(off.clamp(min=0).mean())


def test_each_step_brings_coefficients_into_their_intervals_and_the_result_nearer_to_the_truth() -> None:
    data = jpeg(LOW, 60)
    stored = read_stored(data)
    assert stored is not None
    # smooth as a generator that takes too much away
    blurred = enlarge(torch.nn.functional.avg_pool2d(tensor(LOW), 3, 1, 1))
    distances = [outside(agreed(blurred, stored, steps), stored) for steps in range(3)]
    assert distances[1] < distances[0] / 3
    assert distances[2] < distances[1]
    after = agreed(blurred, stored, 1)
    values = [(one[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(np.uint8) for one in (blurred, after)]
    assert psnr(values[1], TRUTH) > psnr(values[0], TRUTH) + 0.5


def test_what_lies_within_the_intervals_is_left_as_it_is() -> None:
    stored = read_stored(jpeg(LOW, 90))
    assert stored is not None
    coarse = replace(stored, steps=stored.steps * 0 + 255.0, luma=np.full_like(stored.luma, 128))
    flat = torch.full((1, 3, 1024, 1024), 130 / 255)
    assert torch.allclose(agreed(flat, coarse, 2), flat)


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:0"])
def test_luma_is_read_as_the_file_stores_it(sampling: str) -> None:
    stored = read_stored(jpeg(LOW, 75, subsampling=sampling))
    assert stored is not None
    matrix = torch.from_numpy(cosines()).float()
    found = _coefficients(torch.from_numpy(stored.luma.astype(np.float32)) - 128, matrix) / torch.from_numpy(
        stored.steps
    )
    assert float((found - found.round()).abs().mean()) < 0.03, "coefficients are multiples of the steps"


def test_files_that_store_no_luma_are_passed_over() -> None:
    image = Image.fromarray(LOW)
    assert read_stored(saved(image.convert("CMYK"), "JPEG")) is None
    assert read_stored(saved(image, "JPEG", keep_rgb=True)) is None
    assert read_stored(saved(image, "PNG")) is None
    assert read_stored(jpeg(LOW)[:300]) is None
    assert read_stored(b"") is None
    assert read_stored(saved(image.convert("L"), "JPEG")) is not None
    assert read_stored(saved(image, "JPEG", progressive=True)) is not None


@pytest.mark.parametrize("size", [(256, 256), (203, 150), (17, 40), (7, 300)])
def test_tiles_give_what_the_whole_picture_gives(size: tuple[int, int], upscaler: Upscaler) -> None:
    data = jpeg(resize(TRUTH, *size), 50)
    low = np.asarray(Image.open(io.BytesIO(data)))
    stored = read_stored(data)
    (whole,) = upscaler.batch([low], 2, [(1.0, 0.0)], [stored])
    tiled, _ = upscaler.into(low, None, 2, tile=64, told=(1.0, 0.0), stored=stored)
    assert np.abs(tiled.astype(int) - whole).max() <= 1


def test_pictures_of_one_batch_agree_each_with_its_own_file(upscaler: Upscaler) -> None:
    files = [jpeg(resize(portrait(5, index), 64, 64), 60) for index in range(2)]
    lows = [np.asarray(Image.open(io.BytesIO(data))) for data in files]
    stored = [read_stored(data) for data in files]
    together = upscaler.batch([*lows, lows[0]], 1, None, [*stored, None])
    for low, file, result in zip([*lows, lows[0]], [*stored, None], together, strict=True):
        assert np.abs(upscaler.batch([low], 1, None, [file])[0].astype(int) - result).max() <= 1
    assert not (together[0] == together[2]).all()


def enlarged(upscaler: Upscaler, path: Path, *options: Any) -> Pixels:
    return np.asarray(upscaler(path, *options))


def test_a_jpeg_file_is_agreed_with_unless_it_is_turned_or_no_steps_are_asked_for(
    upscaler: Upscaler, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(resize(TRUTH, 64, 64), 40))
    low, stored = np.asarray(Image.open(path)), read_stored(path.read_bytes())
    values = upscaler.told_of(low, path.read_bytes())
    plain = upscaler.batch([low], 0, [values])[0]
    assert (enlarged(upscaler, path) == upscaler.batch([low], JPEG_STEPS, [values], [stored])[0]).all()
    assert (enlarged(upscaler, path, 0) == plain).all()
    assert not (enlarged(upscaler, path) == plain).all()
    exif = Image.Exif()
    exif[0x0112] = 3
    (tmp_path / "turned.jpg").write_bytes(saved(Image.fromarray(low), "JPEG", quality=40, exif=exif))
    turned = tmp_path / "turned.jpg"
    assert upscaler.stored_of(turned.read_bytes(), 3) is None
    assert (enlarged(upscaler, turned) == enlarged(upscaler, turned, 0)).all()


def test_blind_generators_give_what_they_always_gave(tmp_path: Path) -> None:
    blind = Upscaler.load(make_models(tmp_path), precision="fp32")
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(resize(TRUTH, 64, 64), 40))
    low = np.asarray(Image.open(path))
    assert (enlarged(blind, path) == blind.batch([low], 0)[0]).all()
    assert (enlarged(blind, path, 2) == blind.batch([low], 2)[0]).all()


def test_realism_agrees_with_the_intervals_of_a_jpeg_file_and_not_with_the_pixels_of_a_clean_one(
    tmp_path: Path,
) -> None:
    model = make_models(tmp_path, replace(CONFIG, told=TOLD))
    assert Upscaler.load(model, realism=1).jpeg_steps == JPEG_STEPS
    assert Upscaler.load(model, realism=1).back_projection == 0
    assert Upscaler.load(model).jpeg_steps == JPEG_STEPS
    realism = Upscaler.load(model, realism=1, precision="fp32")
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(resize(TRUTH, 64, 64), 40))
    low, stored = np.asarray(Image.open(path)), read_stored(path.read_bytes())
    values = realism.told_of(low, path.read_bytes())
    assert (enlarged(realism, path) == realism.batch([low], JPEG_STEPS, [values], [stored])[0]).all()
    assert not (enlarged(realism, path) == enlarged(realism, path, 0)).all()
    path = tmp_path / "a.png"
    Image.fromarray(resize(TRUTH, 64, 64)).save(path)
    assert (enlarged(realism, path) == enlarged(realism, path, 0)).all()
    assert Upscaler.load(model, back_projection=0).jpeg_steps == 0
