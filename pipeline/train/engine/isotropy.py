"""What tells a drawn lattice from fine structure: a lattice has directions. Plain torch.

In photographs of faces the finest frequencies are as strong in every direction: of 16x16 blocks' cosine coefficients
from 0.19 cycles a pixel up, mean magnitudes of 40 photographs are at most 16 % above those of the same radius
(benchmarks/directions.py). Where no ground truth tells a network which frequencies it may draw, it draws a few, as
lines or a lattice on skin.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Final

import torch
from torch import Tensor

MeanOfAll = Callable[[Tensor], Tensor]

SIDE: Final = 16
"""Of a block, pixels."""
_LOWEST: Final = 6
"""Radius, in half cycles a block, from which frequencies are looked at: below it edges have directions of their own."""
_MARGIN: Final = 0.15
"""Logarithm by which a frequency may be stronger or weaker than its ring."""
_FLOOR: Final = 0.0005
"""Added to magnitudes: what is fainter than an eighth of a grey level has no direction."""
_LUMA: Final = (0.299, 0.587, 0.114)


def anisotropy(result: Tensor, mean_of_all: MeanOfAll | None = None) -> Tensor:
    """How much the strengths of fine frequencies differ within one radius: a scalar, 0 where nothing has a direction.

    It does not change with how strong fine structure is. Of the rings' means, unlike Durall et al. ("Watch your
    Up-Convolution", CVPR 2020), nothing is asked.

    Args:
        result: (N, 3, h, w) in 0..1, sides from 16 up; looked at together, since one crop has too few blocks to tell.
        mean_of_all: where these are a part of the pictures that are looked at together: the mean over all parts of what
            is given of each, (16, 16).

    Returns:
        Mean of the `deviations`' sizes beyond a margin, float32; of all parts, but the gradient, which is for the sum
        over the parts by their weights, is of this one.
    """
    strengths = magnitudes(result).mean(dim=(0, 1, 2))
    if mean_of_all is None:
        return _beyond_margin(strengths)
    whole = mean_of_all(strengths.detach()).requires_grad_(True)
    found = _beyond_margin(whole)
    (gradient,) = torch.autograd.grad(found, whole)
    return found.detach() + (gradient * (strengths - strengths.detach())).sum()


def _beyond_margin(strengths: Tensor) -> Tensor:
    excess = (deviations(strengths).abs() - _MARGIN).clamp(min=0)
    return excess.sum() / _rings().sum()


def magnitudes(pictures: Tensor) -> Tensor:
    """Cosine coefficients' magnitudes of luma: (N, 3, h, w) in 0..1 -> float32 (N, rows, columns, 16, 16).

    What is left beyond whole blocks is not looked at.
    """
    luma = torch.einsum("nchw,c->nhw", pictures.float(), torch.tensor(_LUMA, device=pictures.device))
    matrix = _cosines().to(luma)
    found: Tensor = matrix @ luma.unfold(1, SIDE, SIDE).unfold(2, SIDE, SIDE) @ matrix.T
    return found.abs()


def deviations(strengths: Tensor) -> Tensor:
    """Logarithm of each fine frequency's mean magnitude less that of its ring, (16, 16) -> (16, 16); else 0."""
    logarithms = torch.log(strengths + _FLOOR).flatten()
    rings = _rings().to(logarithms)
    around = rings.T @ (rings @ logarithms / rings.sum(dim=1))
    return ((logarithms - around) * rings.sum(dim=0)).view(SIDE, SIDE)


@cache
def _cosines() -> Tensor:
    """Matrix (16, 16) of the orthonormal cosine transform, float32."""
    frequency, place = torch.arange(SIDE)[:, None], torch.arange(SIDE)[None]
    matrix = torch.cos((2 * place + 1) * frequency * math.pi / (2 * SIDE)) * (2 / SIDE) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


@cache
def _rings() -> Tensor:
    """Which of the 256 frequencies are of each radius, float32 (rings, 256) of 0 and 1."""
    frequency = torch.arange(SIDE).float()
    radius = torch.hypot(frequency[:, None], frequency[None]).round().flatten()
    return torch.stack([(radius == ring).float() for ring in range(_LOWEST, SIDE)])
