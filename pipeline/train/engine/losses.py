"""The paper's three losses: pixel L1, least-squares adversarial, and L1 between VGG-19 features.

L_G = E|G(x) - y| + 1/2 E[(D(G(x)) - 1)^2] + E sum_i |f_i(G(x)) - f_i(y)|
L_D = 1/2 E[(D(y) - 1)^2] + 1/2 E[D(G(x))^2]        (LSGAN: Mao et al., ICCV 2017)
"""

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from pipeline.core.errors import first_line
from pipeline.models.checkpoint import part
from pipeline.models.convolution import Convolution, laid_as
from pipeline.pretrained.registry import WeightsError
from pipeline.pretrained.vgg19 import CONVOLUTIONS, layer_indices

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as VGG's weights expect


class PerceptualLoss(nn.Module):
    """L1 between VGG-19 features of two images, summed over layers.

    Args:
        layers: names such as `relu1_2`; the network is built up to the deepest of them.
        weights: file with `features.N.weight` and `.bias` (safetensors, or a torch state dict read with
            `weights_only`); None fills the network with random numbers of a fixed seed, which works as a perceptual
            loss too (Liu et al., "Generic Perceptual Loss for Modeling Structured Output Dependencies", CVPR 2021).
        seed: of the random numbers.

    Raises:
        ValueError: an unknown layer.
        WeightsError: the file lacks a tensor that the layers need.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: Sequence[str], weights: Path | None = None, seed: int = 0):
        super().__init__()
        indices = layer_indices()
        unknown = [layer for layer in layers if layer not in indices]
        if unknown or not layers:
            raise ValueError(f"unknown VGG-19 layers {unknown}; known are {', '.join(indices)}")
        self.taps = {indices[layer] for layer in layers}
        self.features = nn.Sequential(*_stack()[: max(self.taps) + 1])
        if weights is None:
            _fill_randomly(self.features, seed)
        else:
            _load(self.features, weights)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, result: Tensor, truth: Tensor) -> Tensor:
        """Loss of two batches (N, 3, h, w) in [0, 1]: a scalar, the sum over layers of the mean |difference|."""
        with torch.no_grad():
            expected = self.extract(truth)
        pairs = zip(self.extract(result), expected, strict=True)
        return torch.stack([mean_difference(ours, theirs) for ours, theirs in pairs]).sum()

    def extract(self, x: Tensor) -> list[Tensor]:
        """Features of (N, 3, h, w) in [0, 1] at the layers named, shallowest first."""
        x = laid_as(next(self.features.parameters()), (x - self.mean) / self.std)
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                found.append(x)
        return found


def _stack() -> list[nn.Module]:
    layers: list[nn.Module] = []
    width = 3
    for _, channels, count in CONVOLUTIONS:
        for _ in range(count):
            layers += [Convolution(width, channels), nn.ReLU(inplace=True)]
            width = channels
        layers.append(nn.MaxPool2d(2))
    return layers


def _fill_randomly(features: nn.Sequential, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            with torch.no_grad():
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=random) * (2 / fan_in) ** 0.5)
                layer.bias.zero_()  # type: ignore[union-attr]  # every convolution of VGG has a bias


def _load(features: nn.Sequential, path: Path) -> None:
    needed = features.state_dict()
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        state = {name: value.float() for name, value in part(tensors, "features").items() if name in needed}
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} does not hold tensors alone: torch refuses it under weights_only") from error
    except Exception as error:  # reading raises half a dozen kinds
        raise WeightsError(f"{path} holds no usable VGG-19 weights: {first_line(error)}") from error
    missing = sorted(set(needed) - set(state))
    if missing:
        raise WeightsError(f"{path} has no features.{missing[0]}: name fewer layers, or give the full network")
    wrong = next((name for name in needed if state[name].shape != needed[name].shape), None)
    if wrong:
        raise WeightsError(f"{path} is of another network: features.{wrong} is {tuple(state[wrong].shape)}")
    features.load_state_dict(state)


class _MeanDifference(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, ours: Tensor, theirs: Tensor) -> Tensor:
        signs = torch.empty_like(ours)
        total = ours.new_zeros((), dtype=torch.float32)
        for index in range(len(ours)):
            difference = ours[index].float() - theirs[index].float()
            signs[index] = difference.sign()
            total += difference.abs_().sum()
        ctx.save_for_backward(signs)
        return total / ours.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        (signs,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return signs * (gradient / signs.numel()), None


def mean_difference(ours: Tensor, theirs: Tensor) -> Tensor:
    """L1 between two batches (N, ...), bf16 or float32: the mean |ours - theirs|, float32, with a gradient of `ours`.

    Differences are taken in float32, picture by picture so that they stay in the cache, and of them only the signs are
    kept: automatic differentiation goes over float32 copies of all layers six times.
    """
    mean: Tensor = _MeanDifference.apply(ours, theirs)
    return mean


def adversarial_loss(scores: Sequence[Tensor], target: float) -> Tensor:
    """Half the mean squared distance of patch scores to `target`, averaged over scales: a scalar."""
    return 0.5 * torch.stack([(score - target).square().mean() for score in scores]).mean()


def gradient_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """R1 (Mescheder et al., ICML 2018): the squared gradient of the summed patch scores at each pixel of real images,
    averaged over pixels so that it does not depend on their number. float32, since it is differentiated twice.

    Args:
        discriminator: (n, 3, h, w) -> one map of scores per scale.
        real: (n, 3, h, w) in [0, 1].
    """
    real = real.detach().requires_grad_(True)
    scores = torch.stack([score.sum() for score in discriminator(real)]).sum()
    (gradient,) = torch.autograd.grad(scores, real, create_graph=True)
    return gradient.square().sum(1).mean()
