"""PSNR, SSIM, consistency and the Fréchet distance are the published ones, and move when and only when they should."""

import math

import numpy as np
import pytest
from support.metrics import noisy, picture

from pipeline.core.images import PSNR_CAP, psnr, resize
from pipeline.metrics.fidelity import consistency, ssim


def test_psnr_is_ten_log_of_peak_over_mean_squared_error() -> None:
    first = np.full((16, 16, 3), 100, np.uint8)
    second = first.copy()
    second[..., 0] += 5  # squared error 25 in one channel of three
    assert psnr(first, second) == pytest.approx(10 * math.log10(255**2 * 3 / 25), abs=1e-12)
    black, white = np.zeros((700, 900, 3), np.uint8), np.full((700, 900, 3), 255, np.uint8)
    assert psnr(black, white) == 0.0


def test_psnr_agrees_with_skimage() -> None:
    from skimage.metrics import peak_signal_noise_ratio

    first, second = picture(0), noisy(picture(0))
    assert psnr(first, second) == pytest.approx(peak_signal_noise_ratio(first, second, data_range=255), abs=1e-9)


def test_identical_pictures_have_the_capped_psnr_and_ssim_one() -> None:
    pixels = picture(3)
    assert psnr(pixels, pixels) == PSNR_CAP
    assert ssim(pixels, pixels) == pytest.approx(1.0, abs=1e-12)


def test_a_mirrored_a_tinted_and_a_half_pixel_shifted_result_lose_where_they_should() -> None:
    truth = picture(7, 128)
    low = resize(truth, 32, 32)
    mirrored = truth[:, ::-1].copy()
    tinted = np.clip(truth.astype(int) + np.array([12, 0, -12]), 0, 255).astype(np.uint8)
    shifted = np.rint((truth.astype(float) + np.roll(truth, 1, axis=1)) / 2).astype(np.uint8)
    for wrong in (mirrored, tinted, shifted):
        assert psnr(truth, wrong) < 40
        assert ssim(truth, wrong) < 0.999
        assert consistency(wrong, low) > consistency(truth, low)
    # structure is judged by SSIM, colour by PSNR: a tint keeps the one and costs the other
    assert ssim(truth, tinted) > ssim(truth, shifted) > ssim(truth, mirrored)
    assert psnr(truth, tinted) < psnr(truth, shifted)
    assert consistency(mirrored, low) > 10


def test_the_true_picture_is_consistent_with_the_input_made_of_it() -> None:
    truth = picture(8, 128)
    low = resize(truth, 32, 32)
    assert consistency(truth, low) == 0.0
    brighter = np.clip(truth.astype(int) + 3, 0, 255).astype(np.uint8)
    assert consistency(brighter, low) == pytest.approx(3.0, abs=0.25)
    with pytest.raises(ValueError, match="4 times its input"):
        consistency(truth, picture(8, 48))
