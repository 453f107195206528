"""Metric networks give what their publications' own code gives with the same weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pipeline.core.images import Pixels, resize
from pipeline.metrics.distances import kernel_distance, precision_recall
from pipeline.metrics.perceptual import InceptionFeatures, Perceptual, clean_resize
from pipeline.pretrained.registry import WeightsError


def picture(seed: int, side: int = 96) -> Pixels:
    random = np.random.default_rng(seed)
    coarse = resize(random.integers(0, 256, (8, 8, 3), dtype=np.uint8), side, side)
    return np.clip(coarse.astype(int) + random.integers(-6, 7, coarse.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def trunks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """AlexNet and VGG-16 as torchvision saves them, randomly initialised and without the layers behind the features."""
    from torchvision.models import alexnet
    from torchvision.models.vgg import cfgs, make_layers

    folder = tmp_path_factory.mktemp("trunks")
    paths = {}
    for name, build in (("alexnet", lambda: alexnet(weights=None).features), ("vgg16", lambda: make_layers(cfgs["D"]))):
        torch.manual_seed(1)
        state = {f"features.{key}": value for key, value in build().state_dict().items()}
        paths[name] = folder / f"{name}.pth"
        torch.save(state, paths[name])
    return paths


def activations(state: dict[str, torch.Tensor], x: torch.Tensor, plan: list, marks: set[int]) -> list[torch.Tensor]:
    """A plain network, layer by layer: ("c", index, stride, padding), ("r",), ("p", kernel, stride), ("l",)."""
    found = []
    for place, (kind, *values) in enumerate(plan):
        if kind == "c":
            index, stride, padding = values
            x = F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], stride, padding)
        elif kind == "r":
            x = F.relu(x)
        elif kind == "p":
            x = F.max_pool2d(x, *values)
        else:  # the L2 pooling of DISTS: a 3x3 Hann window
            window = torch.tensor([0.5, 1.0, 0.5])
            kernel = torch.outer(window, window) / torch.outer(window, window).sum()
            x = (
                F.conv2d(x**2, kernel.repeat(x.shape[1], 1, 1, 1), stride=2, padding=1, groups=x.shape[1]) + 1e-12
            ).sqrt()
        if place in marks:
            found.append(x)
    return found


ALEX = [("c", 0, 4, 2), ("r",), ("p", 3, 2), ("c", 3, 1, 2), ("r",), ("p", 3, 2), ("c", 6, 1, 1), ("r",)]
ALEX += [("c", 8, 1, 1), ("r",), ("c", 10, 1, 1), ("r",)]


def vgg(pool: tuple) -> list:
    plan = []
    for index in (0, 2, None, 5, 7, None, 10, 12, 14, None, 17, 19, 21, None, 24, 26, 28):
        plan += [pool] if index is None else [("c", index, 1, 1), ("r",)]
    return plan


def tensors(*pictures: Pixels) -> list[torch.Tensor]:
    return [torch.from_numpy(one.copy()).permute(2, 0, 1)[None].float() / 255 for one in pictures]


@pytest.mark.parametrize(("kind", "trunk"), [("lpips", "alexnet"), ("lpips_vgg", "vgg16")])
def test_lpips_is_the_weighted_distance_of_unit_features(trunks: dict[str, Path], kind: str, trunk: str) -> None:
    import torchmetrics.functional.image as bundled

    first, second = picture(0), picture(1)
    state = torch.load(trunks[trunk], weights_only=True)
    name = {"lpips": "alex", "lpips_vgg": "vgg"}[kind]
    heads = torch.load(
        Path(bundled.__file__).parent / "lpips_models" / f"{name}.pth", map_location="cpu", weights_only=True
    )
    plan = ALEX if kind == "lpips" else vgg(("p", 2, 2))
    marks = {1, 4, 7, 9, 11} if kind == "lpips" else {3, 8, 15, 22, 29}
    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    sides = [activations(state, (2 * x - 1 - shift) / scale, plan, marks) for x in tensors(first, second)]
    total = 0.0
    for layer, (a, b) in enumerate(zip(*sides, strict=True)):
        unit = [x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt() for x in (a, b)]
        weights = heads[f"lin{layer}.model.1.weight"]
        total += float(((unit[0] - unit[1]).square() * weights).sum(1).mean())
    network = Perceptual(kind, trunks[trunk])
    assert network(first, second) == pytest.approx(total, abs=1e-5)
    assert network(first, first) == pytest.approx(0, abs=1e-6)
    assert total > 1e-3


def test_dists_is_the_published_sum_of_means_and_covariances(trunks: dict[str, Path]) -> None:
    import torchmetrics.functional.image as bundled

    first, second = picture(2), picture(3)
    state = torch.load(trunks["vgg16"], weights_only=True)
    weights = torch.load(Path(bundled.__file__).parent / "dists_models" / "weights.pt", weights_only=True)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    sides = [
        [x, *activations(state, (x - mean) / std, vgg(("l",)), {3, 8, 15, 22, 29})] for x in tensors(first, second)
    ]
    alpha, beta = weights["alpha"].flatten(), weights["beta"].flatten()
    total, start = 0.0, 0
    for a, b in zip(*sides, strict=True):
        a, b = a[0].flatten(1).double(), b[0].flatten(1).double()
        part = slice(start, start + len(a))
        means = (2 * a.mean(1) * b.mean(1) + 1e-6) / (a.mean(1) ** 2 + b.mean(1) ** 2 + 1e-6)
        covariance = (a * b).mean(1) - a.mean(1) * b.mean(1)
        spread = (2 * covariance + 1e-6) / (a.var(1, correction=0) + b.var(1, correction=0) + 1e-6)
        total += float((alpha[part] * means + beta[part] * spread).sum())
        start += len(a)
    expected = 1 - total / float(alpha.sum() + beta.sum())
    network = Perceptual("dists", trunks["vgg16"])
    assert network(first, second) == pytest.approx(expected, abs=1e-4)
    assert network(first, first) == pytest.approx(0, abs=1e-5)


def test_a_file_that_is_no_trunk_is_refused_by_name(tmp_path: Path, trunks: dict[str, Path]) -> None:
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("not weights")
    for name in ("other.pth", "missing.pth", "text.pth"):
        with pytest.raises(WeightsError, match=name):
            Perceptual("lpips", tmp_path / name)
    with pytest.raises(WeightsError, match="alexnet"):
        Perceptual("dists", trunks["alexnet"])


def test_the_clean_resize_is_pillows_in_floats_and_differs_from_the_other(tmp_path: Path) -> None:
    pixels = picture(4, 400)
    pixels[::2] = 255 - pixels[::2]  # detail that an antialiasing resize averages out
    clean = clean_resize(pixels)
    plane = Image.fromarray(pixels[..., 1].astype(np.float32), mode="F")
    theirs = np.asarray(plane.resize((299, 299), Image.Resampling.BICUBIC)).clip(0, 255)
    np.testing.assert_array_equal(clean[..., 1], theirs)
    assert clean.dtype == np.float32
    assert np.any(clean != np.rint(clean))
    from torch_fidelity import feature_extractor_inceptionv3 as theirs_too

    torch.manual_seed(0)
    path = tmp_path / "inception.pth"
    torch.save({}, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs_too.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = theirs_too.FeatureExtractorInceptionV3("random", ["64"], feature_extractor_weights_path=path)
    torch.save(network.state_dict(), path)
    inception = InceptionFeatures(path, layer="64")
    # a picture that needs no resize has the same features either way
    ready = picture(5, 299)
    np.testing.assert_allclose(inception(ready, "fid_clean"), inception(ready, "fid"), rtol=1e-4, atol=1e-5)
    assert np.abs(inception(pixels, "fid_clean") - inception(pixels, "fid")).max() > 1e-3


def test_kid_is_the_unbiased_distance_by_the_cubic_kernel() -> None:
    random = np.random.default_rng(0)
    first = random.normal(size=(40, 16)).astype(np.float32)
    second = random.normal(0.3, 1, size=(40, 16)).astype(np.float32)
    mean, deviation = kernel_distance(first, second)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a.astype(float) @ b.T.astype(float) / 16 + 1) ** 3

    off = ~np.eye(40, dtype=bool)
    whole = kernel(first, first)[off].mean() + kernel(second, second)[off].mean() - 2 * kernel(first, second).mean()
    assert mean == pytest.approx(whole, abs=4 * deviation / 10)
    assert 0 < deviation < mean
    assert kernel_distance(first, second) == (mean, deviation)
    with pytest.raises(ValueError, match="four"):
        kernel_distance(first[:3], second)


def test_precision_and_recall_tell_invention_from_omission() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(size=(60, 4)).astype(np.float32)
    assert precision_recall(truth, truth + 50) == (0.0, 0.0)
    narrow = precision_recall(truth, 0.05 * random.normal(size=(60, 4)).astype(np.float32))
    wide = precision_recall(0.05 * truth, random.normal(size=(60, 4)).astype(np.float32))
    assert narrow[0] > 0.9 > 0.5 > narrow[1]
    assert wide[1] > 0.9 > 0.5 > wide[0]
