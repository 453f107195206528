"""Take a grid of period 4 out of what a network drew. Plain torch, with a gradient written by hand.

It is linear and the same along both axes, so where a gradient is asked for it is products with matrices from both
sides, and its gradient products with their transposes. Automatic differentiation would go back through every shifted
sum and pooling of it: a fifth of a training step.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from pipeline.models.device import cpu_has_bf16

_NEIGHBOURHOOD = (1 / 8, 2 / 8, 2 / 8, 2 / 8, 1 / 8)
"""Weights along an axis, around a pixel: they vanish at periods 4 and 2, and keep slopes as they are."""
_FOUR = {torch.bfloat16: torch.int64, torch.float16: torch.int64, torch.float32: torch.complex128}
"""A type as wide as four numbers of another."""


def degrid(detail: Tensor, window: int) -> Tensor:
    """Take a grid of period 4 out of (N, 3, 4h, 4w), and nothing else.

    The grid is what each of the 16 sub-pixel positions has, on average over `window` x `window` input pixels, more than
    its neighbourhood.
    """
    if _needs_gradient(detail):
        taken: Tensor = _Degrid.apply(detail.contiguous(), window, detail.dtype)
        return taken
    return shuffled(_degrid_positions(F.pixel_unshuffle(detail, 4), window))


def degrid_shuffled(positions: Tensor, window: int) -> Tensor:
    """As `degrid` of `shuffled(positions)`: on a CPU a third of the time where no gradient is asked for.

    Of bf16 the grid is worked out in bf16: its roundings are some thousandths of the grid, which is small itself, and
    `positions` has been rounded by more.

    Args:
        positions: (N, 48, h, w), the sub-pixel positions as channels.

    Returns:
        float32, or float64 of such: (N, 3, 4h, 4w).
    """
    if _needs_gradient(positions):
        taken: Tensor = _Degrid.apply(shuffled(_wide(positions)), window, positions.dtype)
        return taken
    return shuffled(_degrid_positions(positions, window))


def shuffled(positions: Tensor) -> Tensor:
    """As F.pixel_shuffle(positions, 4): (N, 48, h, w) -> (N, 3, 4h, 4w), of channels-last features in a third of the
    time.
    """
    if torch.compiler.is_exporting():
        return F.pixel_shuffle(positions, 4)  # which other runtimes know as one operation
    count, _, height, width = positions.shape
    last = positions.permute(0, 2, 3, 1)
    four = _FOUR.get(positions.dtype)
    if four is None or positions.requires_grad or torch.compiler.is_compiling():
        parts = last.reshape(count, height, width, 3, 4, 4)
        return parts.permute(0, 3, 1, 4, 2, 5).reshape(count, 3, 4 * height, 4 * width)
    # four neighbours of a row stay together: copied as one number of their size, in half of the time
    rows = last.contiguous().view(four).view(count, height, width, 3, 4)
    return rows.permute(0, 3, 1, 4, 2).contiguous().view(positions.dtype).view(count, 3, 4 * height, 4 * width)


def _needs_gradient(detail: Tensor) -> bool:
    return torch.is_grad_enabled() and detail.requires_grad


def _wide(detail: Tensor) -> Tensor:
    return detail.to(torch.promote_types(detail.dtype, torch.float32))


def _degrid_positions(detail: Tensor, window: int) -> Tensor:
    detail = detail.contiguous(memory_format=torch.channels_last)
    with torch.autocast(detail.device.type, enabled=False):
        grid, count = _sums_around(_grid(detail), window)
        return torch.sub(_wide(detail), grid, alpha=1 / count)


class _Degrid(torch.autograd.Function):
    """Of (N, 3, 4h, 4w), its grid worked out in `dtype`."""

    @staticmethod
    def forward(ctx: FunctionCtx, detail: Tensor, window: int, dtype: torch.dtype) -> Tensor:
        ctx.settings = window, dtype  # type: ignore[attr-defined]
        with torch.autocast(detail.device.type, enabled=False):
            return detail - _grid_by_products(detail, window, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        window, dtype = ctx.settings  # type: ignore[attr-defined]
        with torch.autocast(gradient.device.type, enabled=False):
            return gradient - _grid_by_products(gradient, window, dtype, transposed=True), None, None


def _grid_by_products(image: Tensor, window: int, dtype: torch.dtype, transposed: bool = False) -> Tensor:
    """What is to be taken out of (N, 3, 4h, 4w), or the transpose of that map."""
    values = image.to(dtype)
    (mean_down, near_down), (mean_across, near_across) = (
        tuple(matrix.to(values) for matrix in _matrices(side, window, dtype)) for side in image.shape[2:]
    )
    if transposed:
        return mean_down.T @ (values @ mean_across) - near_down.T @ (values @ near_across)
    return mean_down @ (values @ mean_across.T) - near_down @ (values @ near_across.T)


@lru_cache(maxsize=16)
def _matrices(side: int, window: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """For an axis of `side` pixels: the mean over `window` blocks of a position, and the same of its neighbourhood."""
    block = torch.arange(side // 4, dtype=torch.float64)
    near = ((block[:, None] - block).abs() <= window // 2).double()
    mean = torch.kron(near / near.sum(dim=1, keepdim=True), torch.eye(4, dtype=torch.float64))
    pixel = torch.arange(side)
    neighbourhood = torch.zeros(side, side, dtype=torch.float64)
    for step, weight in zip(range(-2, 3), _NEIGHBOURHOOD, strict=True):
        # outside, a picture goes on with its outermost pixels
        where = pixel, (pixel + step).clamp(0, side - 1)
        neighbourhood.index_put_(where, torch.tensor(weight, dtype=torch.float64), accumulate=True)
    return mean.to(dtype), (mean @ neighbourhood).to(dtype)


def _grid(detail: Tensor) -> Tensor:
    """What each position of (N, 48, h, w) has more than its neighbourhood, of the type that `detail` has."""
    line = torch.zeros(4, 12, dtype=torch.float64)
    for position in range(4):  # of neighbouring blocks, and of its own: `grid` is a pixel less its neighbourhood
        line[position, position + 2 : position + 7] = torch.tensor(_NEIGHBOURHOOD)
    kernel = -torch.einsum("ypr,xqs->yxrspq", *[line.view(4, 3, 4)] * 2).reshape(16, 16, 3, 3)
    kernel[range(16), range(16), 1, 1] += 1
    # outside, a picture goes on with its outermost pixels
    channels = torch.arange(48, device=detail.device).view(3, 4, 4)
    around = detail
    for axis in (2, 3):
        first, last = (channels.select(axis - 1, end).unsqueeze(axis - 1).expand(3, 4, 4).flatten() for end in (0, -1))
        ends = [around.select(axis, end).unsqueeze(axis)[:, which] for end, which in ((0, first), (-1, last))]
        # of one layout, else the whole becomes contiguous, and pooling it takes six times as long
        ends = [end.contiguous(memory_format=torch.channels_last) for end in ends]
        around = torch.cat([ends[0], around, ends[1]], dim=axis)
    return F.conv2d(around, kernel.to(detail).repeat(3, 1, 1, 1), groups=3)


def _sums_around(grid: Tensor, window: int) -> tuple[Tensor, int]:
    """Sums over `window` x `window` of (N, c, h, w), and what to divide them by; near an edge, as many times the mean.

    Of bf16 they are rounded as means would be, but the weights are whole numbers, which bf16 holds.
    """
    fast = grid.device.type == "cpu" and (grid.dtype != torch.bfloat16 or cpu_has_bf16())
    if not fast or torch.compiler.is_exporting() or min(grid.shape[2:]) < window:
        for size in ((window, 1), (1, window)):  # a box is a row of columns
            padding = (size[0] // 2, size[1] // 2)
            grid = F.avg_pool2d(grid, size, stride=1, padding=padding, count_include_pad=False)
        return grid, 1
    # as a convolution of each channel it takes a third of the time
    channels, reach = grid.shape[1], window // 2
    line = grid.new_ones(channels, 1, window, 1)
    for axis, kernel, padding in ((2, line, (reach, 0)), (3, line.transpose(2, 3), (0, reach))):
        grid = F.conv2d(grid, kernel, padding=padding, groups=channels)
        last = grid.shape[axis] - 1
        for place in range(reach):
            fewer = window / (reach + 1 + place)
            grid.select(axis, place).mul_(fewer)
            grid.select(axis, last - place).mul_(fewer)
    return grid, window**2
