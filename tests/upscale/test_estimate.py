"""What a picture has suffered is found from its file and its pixels, and nothing is found in a clean one."""

import io
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.pictures import jpeg, saved

from pipeline.core.chain import compress, gaussian, standard_tables, table_factor
from pipeline.core.images import Pixels, resize, rounded
from pipeline.synthetic.portrait import portrait
from pipeline.upscale.estimate import LEAST_NOISE, Found, find_degradation


@cache
def drawn(index: int, side: int = 256) -> Pixels:
    """A portrait as inputs are: reduced from 1024."""
    return resize(portrait(5, index), side, side)


def noisy(pixels: Pixels, sigma: float) -> Pixels:
    return rounded(pixels + np.random.default_rng(1).normal(0, sigma, pixels.shape))


def decoded(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def found_in_file(data: bytes) -> Found:
    return find_degradation(decoded(data), data)


@pytest.mark.parametrize("quality", [30, 50, 75, 92, 100])
def test_a_jpeg_says_its_quality_by_its_tables(quality: int) -> None:
    found = found_in_file(jpeg(drawn(0), quality))
    assert found.jpeg == pytest.approx(quality, abs=1)
    assert found.noise == 0
    assert found.blocks is None


def test_of_other_tables_quality_means_the_same_mean_step() -> None:
    tables = [list(range(2, 66)), [20] * 64]
    found = found_in_file(saved(Image.fromarray(drawn(0)), "JPEG", qtables=tables))
    assert found.jpeg is not None
    assert table_factor(found.jpeg) == pytest.approx(np.mean(tables[0]) / np.mean(standard_tables()[0]))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_a_jpeg_says_how_its_chroma_is_subsampled(subsampling: str) -> None:
    assert found_in_file(jpeg(drawn(0), 80, subsampling=subsampling)).subsampling == subsampling
    grey = saved(Image.fromarray(drawn(0)).convert("L"), "JPEG", quality=80)
    assert find_degradation(drawn(0)[..., :1], grey).jpeg == pytest.approx(80, abs=1)


@pytest.mark.parametrize("sigma", [2, 4, 7, 10])
def test_noise_is_estimated_within_a_fifth(sigma: float) -> None:
    for index in range(4):
        assert find_degradation(noisy(drawn(index), sigma), None).noise == pytest.approx(sigma, rel=0.2)


def test_a_clean_or_blurred_picture_is_told_to_be_clean() -> None:
    for index in range(6):
        for pixels in (drawn(index), rounded(gaussian(drawn(index), 1.0))):
            found = find_degradation(pixels, saved(Image.fromarray(pixels), "PNG"))
            assert found.noise < 0.7 < LEAST_NOISE
            assert found.told == (0, 0)


@pytest.mark.parametrize("kind", ["grey", "alpha", "grey and alpha", "sixteen bits"])
def test_noise_is_the_same_at_any_depth_and_number_of_channels(kind: str) -> None:
    pixels: Any = noisy(drawn(1), 5)
    if kind.startswith("grey"):
        pixels = pixels[..., :1]
    if kind.endswith("alpha"):
        pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 200)], axis=2)
    if kind == "sixteen bits":
        pixels = pixels.astype(np.uint16) * 257
    assert find_degradation(pixels, None).noise == pytest.approx(5, rel=0.1)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 0), (5, 6)])
@pytest.mark.parametrize("quality", [50, 75, 90])
def test_blocks_of_a_jpeg_saved_as_png_are_found_wherever_they_begin(quality: int, top: int, left: int) -> None:
    for index in range(3):
        cut = compress(drawn(index), quality, "4:2:0")[top:, left:]
        found = find_degradation(cut, saved(Image.fromarray(cut), "PNG"))
        assert found.blocks == pytest.approx(quality, abs=2)
        assert found.jpeg is None
        assert found.told == pytest.approx(find_degradation(drawn(0), jpeg(drawn(0), quality)).told, abs=0.02)


def test_noise_laid_over_blocks_hides_them_and_is_told() -> None:
    pixels = noisy(compress(drawn(0), 80, "4:4:4"), 4)
    found = find_degradation(pixels, None)
    assert found.blocks is None
    assert found.noise == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("pixels", [
    np.zeros((1, 1, 3), np.uint8),
    np.full((64, 64, 3), 255, np.uint8),
    np.zeros((300, 20, 1), np.uint16),
    np.full((200, 200, 4), 90, np.uint8),
], ids=["a pixel", "white", "narrow", "flat"])  # fmt: skip
def test_pictures_in_which_nothing_can_be_found_are_clean(pixels: Any) -> None:
    assert find_degradation(pixels, None) == Found()
