"""The three losses are the paper's, VGG-19 is torchvision's, and no network silently stands in for another."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import vgg19

from pipeline.pretrained.registry import WeightsError
from pipeline.pretrained.vgg19 import layer_indices
from pipeline.train.engine.losses import PerceptualLoss, adversarial_loss

LAYERS = ("relu1_2", "relu2_1")


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Sequential:
    """torchvision's feature stack with random weights; its classifier, 120 million numbers, is not needed."""
    torch.manual_seed(0)
    return vgg19(weights=None, init_weights=False, num_classes=1).features[:13]


def state(features: torch.nn.Sequential) -> dict[str, torch.Tensor]:
    return {f"features.{name}": value for name, value in features.state_dict().items()}


# perceptual


def test_random_features_are_the_same_every_time_and_others_with_another_seed(pictures: torch.Tensor) -> None:
    first = PerceptualLoss(LAYERS).extract(pictures)
    torch.manual_seed(99)
    torch.rand(7)  # no global state matters
    assert all(torch.equal(a, b) for a, b in zip(first, PerceptualLoss(LAYERS).extract(pictures), strict=True))
    other = PerceptualLoss(LAYERS, seed=1).extract(pictures)
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_asking_for_deeper_layers_does_not_change_the_random_shallow_ones(pictures: torch.Tensor) -> None:
    shallow = PerceptualLoss(("relu1_1",)).extract(pictures)[0]
    deep = PerceptualLoss(("relu1_1", "relu3_1")).extract(pictures)[0]
    assert torch.equal(shallow, deep)


def test_the_loss_is_zero_for_equal_pictures_and_grows_with_the_difference(pictures: torch.Tensor) -> None:
    loss = PerceptualLoss(LAYERS)
    noise = torch.rand(pictures.shape, generator=torch.Generator().manual_seed(1)) - 0.5
    values = [float(loss(pictures + strength * noise, pictures)) for strength in (0, 0.1, 0.5)]
    assert values[0] == 0
    assert 0 < values[1] < values[2]


def test_the_loss_is_the_sum_over_layers_of_the_mean_difference(pictures: torch.Tensor) -> None:
    loss = PerceptualLoss(LAYERS)
    other = pictures.flip(0)
    by_hand = sum((a - b).abs().mean() for a, b in zip(loss.extract(other), loss.extract(pictures), strict=True))
    assert float(loss(other, pictures)) == pytest.approx(float(by_hand), rel=1e-5)


def test_gradients_reach_the_result_and_neither_the_truth_nor_the_network(pictures: torch.Tensor) -> None:
    loss = PerceptualLoss(LAYERS)
    result, truth = pictures.flip(0).requires_grad_(), pictures.clone().requires_grad_()
    loss(result, truth).backward()
    assert result.grad is not None
    assert result.grad.abs().sum() > 0
    assert truth.grad is None
    assert all(not parameter.requires_grad for parameter in loss.parameters())


def test_layers_are_numbered_as_in_torchvision() -> None:
    with torch.device("meta"):
        features = vgg19(weights=None, init_weights=False).features
    indices = layer_indices()
    assert sorted(indices.values()) == [i for i, layer in enumerate(features) if isinstance(layer, torch.nn.ReLU)]
    stages = [name.split("_")[0] for name, _ in sorted(indices.items(), key=lambda item: item[1])]
    pools = [i for i, layer in enumerate(features) if isinstance(layer, torch.nn.MaxPool2d)]
    for name, index in indices.items():
        assert name.startswith(f"relu{1 + sum(pool < index for pool in pools)}_")
    assert stages == sorted(stages)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvisions_weights_from_a_file_give_torchvisions_features(
    suffix: str, theirs: torch.nn.Sequential, pictures: torch.Tensor, tmp_path: Path
) -> None:
    path = tmp_path / f"vgg19{suffix}"
    # the published file holds the classifier too, which is passed over
    tensors = {**state(theirs), "classifier.0.weight": torch.zeros(2, 2)}
    torch.save(tensors, path) if suffix == ".pth" else save_file(tensors, path)
    ours = PerceptualLoss(("relu1_2", "relu2_2", "relu3_1"), path).extract(pictures)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (pictures - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        expected = [theirs[: layer_indices()[name] + 1](x) for name in ("relu1_2", "relu2_2", "relu3_1")]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, expected, strict=True))


def test_a_file_that_lacks_a_layer_is_an_error_that_names_file_and_tensor(
    theirs: torch.nn.Sequential, pictures: torch.Tensor, tmp_path: Path
) -> None:
    few = {name: value for name, value in state(theirs).items() if int(name.split(".")[1]) <= 5}
    save_file(few, tmp_path / "few.safetensors")
    assert len(PerceptualLoss(LAYERS, tmp_path / "few.safetensors").extract(pictures)) == 2
    with pytest.raises(WeightsError, match=r"few\.safetensors has no features\.7\.bias: name fewer layers"):
        PerceptualLoss((*LAYERS, "relu2_2"), tmp_path / "few.safetensors")


@pytest.mark.parametrize("layers", [("relu1_3",), ("relu1_2", "conv1_1"), ()])
def test_a_layer_that_vgg_lacks_is_an_error_that_lists_those_it_has(layers: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"unknown VGG-19 layers .* known are relu1_1, relu1_2, relu2_1"):
        PerceptualLoss(layers)


def test_a_weights_file_that_holds_code_is_refused_and_not_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (marker,)

    torch.save({"features.0.weight": Evil()}, tmp_path / "vgg19.pth")
    with pytest.raises(Exception, match=r"weights_only|Unsupported"):
        PerceptualLoss(LAYERS, tmp_path / "vgg19.pth")
    assert not marker.exists()


# adversarial


def test_the_adversarial_loss_is_half_the_mean_squared_distance_averaged_over_scales() -> None:
    verdicts = [torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]), torch.tensor([[[[0.5]]]])]
    # 1/2 * mean(1, 0, 1, 4) and 1/2 * 0.25
    assert float(adversarial_loss(verdicts, 1.0)) == pytest.approx((0.75 + 0.125) / 2)
    # 1/2 * mean(0, 1, 4, 9) and 1/2 * 0.25
    assert float(adversarial_loss(verdicts, 0.0)) == pytest.approx((1.75 + 0.125) / 2)
    assert float(adversarial_loss([torch.ones(3, 1, 4, 4)], 1.0)) == 0
