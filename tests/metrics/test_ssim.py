"""SSIM and MS-SSIM agree with the libraries that others use."""

import numpy as np
import pytest
from support.metrics import noisy, picture

from pipeline.core.images import psnr, resize
from pipeline.metrics.fidelity import Reference, ssim


@pytest.mark.parametrize("shape", [(96, 96), (64, 150), (139, 75), (11, 11), (75, 11), (257, 300)])
def test_ssim_agrees_with_skimage_to_eight_decimals_at_any_size(shape: tuple[int, int]) -> None:
    from skimage.metrics import structural_similarity

    first = resize(picture(5, 160), *shape)
    second = noisy(first)
    theirs = structural_similarity(
        first, second, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2
    )
    assert ssim(first, second) == pytest.approx(theirs, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("noisy", 1e-8), ("blurred", 1e-8), ("mirrored", 1e-10), ("inverted", 1e-10), ("tinted", 1e-10), ("black", 1e-10)],
)
def test_ssim_agrees_with_skimage_however_far_the_result_is_and_on_flat_areas(name: str, tolerance: float) -> None:
    import cv2
    from skimage.metrics import structural_similarity

    truth = picture(5, 300)
    truth[:, 180:] = 255  # where a variance in float32 is all rounding
    result = {
        "noisy": noisy(truth),
        "blurred": cv2.GaussianBlur(truth, (0, 0), 2.0),
        "mirrored": truth[:, ::-1].copy(),
        "inverted": 255 - truth,
        "tinted": np.clip(truth.astype(int) - 40, 0, 255).astype(np.uint8),
        "black": np.zeros_like(truth),
    }[name]
    theirs = structural_similarity(
        truth, result, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2
    )
    assert ssim(truth, result) == pytest.approx(theirs, abs=tolerance)


@pytest.mark.parametrize("crop", [0, 4])
def test_variants_agree_with_skimage_on_luma_and_on_crops(crop: int) -> None:
    from skimage.color import rgb2ycbcr
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    first, second = picture(7, 200), noisy(picture(7, 200))
    found = Reference(first).measure(second)
    inner = slice(crop, -crop or None)
    rgb = [pixels[inner, inner] for pixels in (first, second)]
    grey = [rgb2ycbcr(pixels)[inner, inner, 0] for pixels in (first, second)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    suffix = "_crop4" if crop else ""
    assert found[f"psnr{suffix}"] == pytest.approx(peak_signal_noise_ratio(*rgb, data_range=255), abs=1e-6)
    assert found[f"ssim{suffix}"] == pytest.approx(structural_similarity(*rgb, channel_axis=2, **options), abs=1e-8)
    assert found[f"psnr_y{suffix}"] == pytest.approx(peak_signal_noise_ratio(*grey, data_range=255), abs=1e-6)
    assert found[f"ssim_y{suffix}"] == pytest.approx(structural_similarity(*grey, **options), abs=1e-8)


def test_ssim_agrees_with_torchmetrics_over_the_valid_area_to_four_decimals() -> None:
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    first, second = picture(8, 180), noisy(picture(8, 180))
    tensors = [torch.from_numpy(one.copy()).permute(2, 0, 1)[None].double() for one in (second, first)]
    _, full = structural_similarity_index_measure(*tensors, data_range=255.0, return_full_image=True)
    assert ssim(first, second) == pytest.approx(float(full[..., 5:-5, 5:-5].mean()), abs=5e-5)


@pytest.mark.parametrize("side", [176, 211])
def test_ms_ssim_agrees_with_torchmetrics_scale_by_scale_to_four_decimals(side: int) -> None:
    import torch
    import torch.nn.functional as F
    from torchmetrics.functional.image.ssim import _ssim_update

    first, second = picture(9, side), noisy(picture(9, side))
    one, two = (torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].double() for pixels in (second, first))
    expected = 1.0
    for beta in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):
        # its contrast term is over the valid area already, its similarity over a reflected border
        _, contrast = _ssim_update(one, two, data_range=255.0, return_contrast_sensitivity=True)
        _, full = _ssim_update(one, two, data_range=255.0, return_full_image=True)
        expected *= float(full[..., 5:-5, 5:-5].mean() if beta == 0.1333 else contrast) ** beta
        one, two = F.avg_pool2d(one, 2), F.avg_pool2d(two, 2)
    assert Reference(first).measure(second)["ms_ssim"] == pytest.approx(expected, abs=5e-5)


def test_what_a_small_picture_has_no_room_for_is_null() -> None:
    found = Reference(picture(1, 16)).measure(noisy(picture(1, 16)))
    assert found["ms_ssim"] is None
    assert found["psnr_crop4"] is found["ssim_crop4"] is found["ssim_y_crop4"] is None
    assert Reference(picture(1, 175)).measure(picture(1, 175))["ms_ssim"] is None
    assert Reference(picture(1, 176)).measure(picture(1, 176))["ms_ssim"] == pytest.approx(1)


def test_a_reference_serves_many_results_with_the_same_values_and_symmetrically() -> None:
    truth, one, two = picture(6), noisy(picture(6), 1), noisy(picture(6), 2)
    reference = Reference(truth)
    assert [reference.ssim(one), reference.ssim(two)] == [ssim(truth, one), ssim(truth, two)]
    assert ssim(one, truth) == pytest.approx(ssim(truth, one), abs=1e-12)


def test_pictures_under_eleven_pixels_or_of_other_shapes_are_refused() -> None:
    small = np.zeros((10, 40, 3), np.uint8)
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(small, small)
    with pytest.raises(ValueError, match="differ in size"):
        psnr(picture(0, 32), picture(0, 48))
    with pytest.raises(ValueError, match="uint8"):
        psnr(picture(0).astype(np.float32), picture(0))  # type: ignore[arg-type]
