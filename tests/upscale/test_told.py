"""A generator that can be told is told what a picture has suffered; one that cannot gives what it always gave."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import jpeg, saved
from support.upscaling import CONFIG, make_models

from pipeline.core.chain import TOLD, compress, told
from pipeline.core.images import Pixels, resize, rounded
from pipeline.models.networks import Generator
from pipeline.synthetic.portrait import portrait
from pipeline.upscale.told import CLEAN, DegradationError, Telling, as_text
from pipeline.upscale.upscaler import CLEAN_STEPS, Upscaler


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("told"), replace(CONFIG, told=TOLD))


@pytest.fixture(scope="module")
def upscaler(model: Path) -> Upscaler:
    return Upscaler.load(model, precision="fp32")


@pytest.fixture(scope="module")
def clean() -> Pixels:
    return resize(portrait(5, 0), 64, 64)


@pytest.fixture(scope="module")
def noisy(clean: Pixels) -> Pixels:
    return rounded(clean + np.random.default_rng(0).normal(0, 5, clean.shape))


def enlarged(upscaler: Upscaler, pixels: Any, values: tuple[float, float], steps: int = 0) -> Any:
    """By the network alone, told these values of its planes."""
    return upscaler.batch([pixels], steps, [values])[0]


def test_a_file_tells_what_was_found_in_it(upscaler: Upscaler, clean: Pixels, noisy: Pixels, tmp_path: Path) -> None:
    blocks = compress(clean, 50, "4:4:4")
    files = {"a.jpg": jpeg(clean, 50), "b.png": saved(Image.fromarray(noisy), "PNG")}
    files |= {"c.png": saved(Image.fromarray(blocks), "PNG"), "d.png": saved(Image.fromarray(clean), "PNG")}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    sigma = upscaler.told_of(noisy)[1]
    assert sigma == pytest.approx(0.5, rel=0.2)
    expected = {"a.jpg": told(50, None), "b.png": (0, sigma), "c.png": told(50, None), "d.png": CLEAN}
    for name, values in expected.items():
        low = np.asarray(Image.open(tmp_path / name))
        steps = CLEAN_STEPS if values == CLEAN else 0
        # a JPEG's result agrees with its file besides, which is not of interest here
        result = np.asarray(upscaler(tmp_path / name, steps))
        assert (np.asarray(upscaler(tmp_path / name)) == result).all() or name == "a.jpg"
        assert np.abs(result.astype(int) - enlarged(upscaler, low, values, steps)).max() <= 1, name
        if values != CLEAN:
            assert not (result == enlarged(upscaler, low, CLEAN)).all(), name


def test_an_array_or_a_pil_image_is_looked_at_as_its_file_would_be(upscaler: Upscaler, noisy: Pixels) -> None:
    result = upscaler(noisy)
    assert (result == enlarged(upscaler, noisy, upscaler.told_of(noisy))).all()
    assert (np.asarray(upscaler(Image.fromarray(noisy))) == result).all()


@pytest.mark.parametrize(
    ("degradation", "values"),
    [
        ("none", CLEAN),
        ({"jpeg": 60}, told(60, None)),
        ({"noise": 4.0}, (0.0, 0.4)),
        ("noise=4", (0.0, 0.4)),
        ({"jpeg": 60, "noise": 4}, told(60, None)),  # as in training: noise under a compression is not told
        ({"noise": 200}, (0.0, 1.0)),  # no more than generators are trained on
    ],
)
def test_it_is_told_what_it_is_told_to_be(
    degradation: str | Mapping[str, float], values: tuple[float, float], model: Path, noisy: Pixels
) -> None:
    steps = CLEAN_STEPS if values == CLEAN else 0
    loaded = Upscaler.load(model, precision="fp32", degradation=degradation)
    expected = enlarged(loaded, noisy, values, steps)
    assert (loaded(noisy) == expected).all()
    assert (Upscaler.load(model, precision="fp32")(noisy, degradation=degradation) == expected).all()


WRONG = ["some", "", "jpeg", "jpeg=0", "jpeg=101", "noise=-1", "blur=2", {}, {"noise": "x"}, "jpeg=nan"]


@pytest.mark.parametrize("degradation", WRONG)
def test_another_degradation_is_refused(degradation: Any, model: Path) -> None:
    with pytest.raises(DegradationError, match="auto, none"):
        Upscaler.load(model, degradation=degradation)
    with pytest.raises(DegradationError, match="denoise must lie between 0 and 1"):
        Upscaler.load(model, denoise=1.5)


def test_the_same_degradation_is_the_same_text() -> None:
    texts = {as_text(one) for one in ("noise=4,jpeg=60", "jpeg=60.0, noise=4", {"jpeg": 60, "noise": 4.0})}
    assert texts == {"jpeg=60,noise=4"}


def test_shares_scale_what_is_told(model: Path, noisy: Pixels, clean: Pixels) -> None:
    told_noise = Upscaler.load(model).told_of(noisy)
    half = Upscaler.load(model, denoise=0.5, deblock=0)
    assert half.told_of(noisy) == (0, told_noise[1] / 2)
    data = jpeg(clean, 50)
    assert half.told_of(compress(clean, 50, "4:2:0"), data) == CLEAN
    assert Telling(deblock=0.25, degradation="jpeg=50").deblock == 0.25


def test_noise_is_not_put_back_by_agreement_unless_that_is_asked_for(model: Path, noisy: Pixels) -> None:
    upscaler = Upscaler.load(model, precision="fp32")
    values = upscaler.told_of(noisy)
    assert (upscaler(noisy) == enlarged(upscaler, noisy, values, 0)).all()
    assert (upscaler(noisy, 1) == enlarged(upscaler, noisy, values, 1)).all()
    asked = Upscaler.load(model, precision="fp32", back_projection=2)
    assert (asked(noisy) == enlarged(asked, noisy, values, 2)).all()


def test_pictures_of_one_batch_are_told_each_its_own(upscaler: Upscaler, clean: Pixels, noisy: Pixels) -> None:
    worse = rounded(clean + np.random.default_rng(1).normal(0, 9, clean.shape))
    for together in ([noisy, worse], [clean, noisy, worse]):
        for alone, result in zip(together, upscaler(together), strict=True):
            assert np.abs(upscaler(alone).astype(int) - result).max() <= 1
    assert not (upscaler([noisy, worse])[0] == upscaler.batch([noisy, worse], 0)[0]).all()


def test_tiles_are_told_of_the_whole_picture(upscaler: Upscaler) -> None:
    low = resize(portrait(5, 1), 200, 150).copy()
    low[:, :75] = rounded(low[:, :75] + np.random.default_rng(0).normal(0, 6, (200, 75, 3)))
    values = (0.3, 0.4)
    tiled, tile = upscaler.into(low, None, 0, tile=64, told=values)
    assert tile == 64
    assert np.abs(tiled.astype(int) - enlarged(upscaler, low, values)).max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_alpha_and_sixteen_bits_are_told_too(channels: int, dtype: Any, upscaler: Upscaler, noisy: Pixels) -> None:
    low: Any = np.dstack([noisy, noisy[..., :1]])[..., -channels:].astype(dtype) * (257 if dtype == np.uint16 else 1)
    result = upscaler(low)
    assert result.shape == (256, 256, channels)
    assert result.dtype == dtype
    assert upscaler.told_of(low)[1] == pytest.approx(0.5, rel=0.25)
    assert not (result == enlarged(upscaler, low, CLEAN)).all()


def test_a_blind_generator_passes_it_all_over(noisy: Pixels, tmp_path: Path) -> None:
    model = make_models(tmp_path)
    usual = Upscaler.load(model, precision="fp32")
    assert usual.blind
    assert usual.told_of(noisy) == CLEAN
    (tmp_path / "a.jpg").write_bytes(jpeg(noisy, 40))
    for degradation in ("none", {"jpeg": 30}, {"noise": 9}):
        other = Upscaler.load(model, precision="fp32", degradation=degradation)
        assert (other(noisy) == usual(noisy)).all()
        assert (np.asarray(other(tmp_path / "a.jpg")) == np.asarray(usual(tmp_path / "a.jpg"))).all()
    assert (usual(noisy) == usual.batch([noisy], CLEAN_STEPS)[0]).all(), "it agrees with its input as ever"


def test_planes_of_zeros_are_a_clean_picture(model: Path, clean: Pixels) -> None:
    upscaler = Upscaler.load(model, precision="fp32")
    assert isinstance(upscaler.generator, Generator)
    x = torch.from_numpy(clean.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        assert torch.equal(upscaler.generator(x), upscaler.generator(x, torch.zeros(1, 2)))
