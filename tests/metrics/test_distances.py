"""FID and KID are the formulas that others use."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.metrics import picture

from pipeline.metrics.distances import FeatureStatistics, frechet_distance, kernel_distance
from pipeline.metrics.perceptual import InceptionFeatures
from pipeline.pretrained.registry import WeightsError


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
