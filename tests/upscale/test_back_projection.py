"""Fewer operations than the definition has give the same results as it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.models.networks import degrid, enlarge
from pipeline.upscale.back_projection import REPAIR_REACH, REPAIRED, back_projected

GREY_LEVEL = 1 / 255


def as_defined(result: Tensor, low: Tensor, steps: int, repairs: bool) -> Tensor:
    """Each step by itself: reduce, compare, enlarge, add."""
    share: Tensor | float = 1.0
    for step in range(steps):
        lacking = low - F.interpolate(result, size=low.shape[-2:], mode="bicubic", antialias=True)
        if repairs and step == 0:
            window, mean = 2 * REPAIR_REACH + 1, lacking.abs().mean(dim=1, keepdim=True)
            mean = F.avg_pool2d(mean, window, stride=1, padding=REPAIR_REACH, count_include_pad=False)
            share = (3 - 2 * mean / REPAIRED).clamp(0, 1)
        result = result + F.interpolate(lacking * share, size=result.shape[-2:], mode="bicubic", antialias=True)
    return result


@pytest.mark.parametrize("size", [(17, 40), (32, 45)])
@pytest.mark.parametrize("repairs", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 2, 4])
def test_back_projection_enlarges_once_and_gives_what_its_steps_give(
    steps: int, repairs: bool, size: tuple[int, int]
) -> None:
    torch.manual_seed(steps)
    low = torch.rand(2, 3, *size).contiguous(memory_format=torch.channels_last)
    # one near its input and one far, so that the share of repairs is all, a part, or nothing
    result = enlarge(low)
    result += torch.tensor([0.003, 0.05])[:, None, None, None] * torch.randn(result.shape)
    with torch.inference_mode():  # as pictures are enlarged
        difference = back_projected(result, low, steps, repairs) - as_defined(result, low, steps, repairs)
    assert difference.abs().max() < 0.001 * GREY_LEVEL


@pytest.mark.parametrize("factor", [1.19, 2.0])
def test_results_of_other_factors_are_made_to_agree_as_the_steps_make_them(factor: float) -> None:
    torch.manual_seed(1)
    low = torch.rand(1, 3, 33, 40)
    large = F.interpolate(low, size=(round(33 * factor), round(40 * factor)), mode="bicubic", antialias=True)
    result = large + 0.05 * torch.randn(large.shape)
    difference = back_projected(result, low, 10) - as_defined(result, low, 10, repairs=False)
    assert difference.abs().max() < 0.001 * GREY_LEVEL


@pytest.mark.parametrize("window", [9, 21])  # the second is larger than the picture
def test_the_grid_is_taken_out_as_the_definition_has_it_to_the_border(window: int) -> None:
    torch.manual_seed(0)
    detail = 0.1 * torch.randn(2, 3, 4 * 18, 4 * 31)
    line = torch.tensor([1.0, 2, 2, 2, 1]) / 8
    around = F.pad(detail, (2, 2, 2, 2), mode="replicate")
    around = F.conv2d(around, torch.outer(line, line).expand(3, 1, 5, 5), groups=3)
    grid = F.avg_pool2d(F.pixel_unshuffle(detail - around, 4), window, 1, window // 2, count_include_pad=False)
    expected = detail - F.pixel_shuffle(grid, 4)
    for layout in (torch.contiguous_format, torch.channels_last):
        found = degrid(detail.contiguous(memory_format=layout), window)
        assert (found - expected).abs().max() < 0.001 * GREY_LEVEL
        in_training = degrid(detail.contiguous(memory_format=layout).requires_grad_(), window)
        assert (in_training - expected).abs().max() < 0.001 * GREY_LEVEL


def test_enlarging_gives_the_same_bits_whatever_the_layout() -> None:
    low = torch.rand(2, 3, 20, 33)
    assert torch.equal(enlarge(low), enlarge(low.contiguous(memory_format=torch.channels_last)))
