"""PSNR, SSIM, consistency and the Fréchet distance are the published ones, and move when and only when they should."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.core.images import PSNR_CAP, Pixels, psnr, resize
from pipeline.metrics.distances import FeatureStatistics, frechet_distance, kernel_distance
from pipeline.metrics.fidelity import Reference, consistency, ssim
from pipeline.metrics.perceptual import InceptionFeatures
from pipeline.pretrained.registry import WeightsError


def picture(seed: int, side: int = 96) -> Pixels:
    """A smooth coloured picture with some grain; left and right differ."""
    random = np.random.default_rng(seed)
    coarse = resize(random.integers(0, 256, (8, 8, 3), dtype=np.uint8), side, side)
    return np.clip(coarse.astype(int) + random.integers(-6, 7, coarse.shape), 0, 255).astype(np.uint8)


def noisy(pixels: Pixels, seed: int = 1) -> Pixels:
    noise = np.random.default_rng(seed).integers(-12, 13, pixels.shape)
    return np.clip(pixels.astype(int) + noise, 0, 255).astype(np.uint8)


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


@pytest.mark.parametrize("shape", [(96, 96), (64, 150), (139, 75), (11, 11), (75, 11)])
def test_ssim_agrees_with_skimage_to_six_decimals_at_any_size(shape: tuple[int, int]) -> None:
    from skimage.metrics import structural_similarity

    first = resize(picture(5, 160), *shape)
    second = noisy(first)
    theirs = structural_similarity(
        first, second, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2
    )
    assert ssim(first, second) == pytest.approx(theirs, abs=1e-6)


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
    assert found[f"ssim{suffix}"] == pytest.approx(structural_similarity(*rgb, channel_axis=2, **options), abs=1e-6)
    assert found[f"psnr_y{suffix}"] == pytest.approx(peak_signal_noise_ratio(*grey, data_range=255), abs=1e-6)
    assert found[f"ssim_y{suffix}"] == pytest.approx(structural_similarity(*grey, **options), abs=1e-6)


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


def statistics(features: np.ndarray) -> FeatureStatistics:
    found = FeatureStatistics.empty(features.shape[1])
    found.add(features)
    return found


def test_feature_statistics_are_the_same_however_they_were_split() -> None:
    features = np.random.default_rng(0).normal(1000.0, 0.01, (300, 6))
    merged = statistics(features[:17])
    merged.add(features[17:200])
    merged.merge(statistics(features[200:]))
    merged.merge(FeatureStatistics.empty(6))
    assert merged.count == 300
    np.testing.assert_allclose(merged.mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(merged.scatter / 299, np.cov(features, rowvar=False), rtol=1e-6, atol=1e-12)


def test_frechet_distance_is_the_closed_form_of_gaussians() -> None:
    random = np.random.default_rng(1)
    features = random.normal(size=(500, 5))
    first = statistics(features)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(first, statistics(features + 2.0)) == pytest.approx(5 * 4.0, rel=1e-9)
    # twice the deviation about the mean: tr C + 4 tr C - 2 · 2 tr C
    wider = statistics(features.mean(axis=0) + 2 * (features - features.mean(axis=0)))
    assert frechet_distance(first, wider) == pytest.approx(np.trace(np.cov(features, rowvar=False)), rel=1e-9)


def test_frechet_distance_agrees_with_the_matrix_square_root() -> None:
    from scipy.linalg import sqrtm

    random = np.random.default_rng(2)
    one, two = random.normal(size=(200, 8)) @ random.normal(size=(8, 8)), random.normal(size=(150, 8))
    c1, c2 = np.cov(one, rowvar=False), np.cov(two, rowvar=False)
    step = one.mean(axis=0) - two.mean(axis=0)
    expected = step @ step + np.trace(c1 + c2 - 2 * np.real(sqrtm(c1 @ c2)))
    assert frechet_distance(statistics(one), statistics(two)) == pytest.approx(expected, rel=1e-8)
    with pytest.raises(ValueError, match="two vectors"):
        frechet_distance(statistics(one[:1]), statistics(two))


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised Inception of the FID kind: right in shape, meaningless in content."""
    import torch
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    extractor = theirs.FeatureExtractorInceptionV3
    torch.save({}, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extractor, "load_state_dict", lambda self, state: None)
        network = extractor("random", ["2048"], feature_extractor_weights_path=path)
    for parameter in network.parameters():
        if parameter.ndim == 4:  # as it comes, features die out on the way
            torch.nn.init.kaiming_normal_(parameter)
    torch.save(network.state_dict(), path)
    return path


def test_fid_and_kid_are_those_of_torch_fidelity_with_the_same_weights(tmp_path: Path, inception_weights: Path) -> None:
    import torch_fidelity

    # an early layer: torch-fidelity's own distance takes a minute at 2048 features
    inception = InceptionFeatures(inception_weights, layer="192")
    features = []
    for folder, seeds in (("a", range(8)), ("b", range(20, 28))):
        (tmp_path / folder).mkdir()
        pictures = [picture(seed, 64) for seed in seeds]
        for number, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
        features.append(np.stack([inception(pixels) for pixels in pictures]))
    sides = [statistics(block) for block in features]
    theirs = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "a"),
        input2=str(tmp_path / "b"),
        fid=True,
        kid=True,
        kid_subset_size=4,
        feature_layer_kid="192",
        cuda=False,
        feature_extractor_weights_path=str(inception_weights),
        feature_layer_fid="192",
        batch_size=4,
        save_cpu_ram=True,  # no loader processes
        cache=False,
        verbose=False,
    )
    assert frechet_distance(*sides) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    mean, deviation = kernel_distance(features[1], features[0])
    assert mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert deviation == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)


def test_a_file_that_holds_no_inception_weights_is_refused_by_name(tmp_path: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    for name in ("other.pth", "missing.pth"):
        with pytest.raises(WeightsError, match=name):
            InceptionFeatures(tmp_path / name)
