"""Take a grid of period 4 out of what a network drew. Plain torch, with a gradient written by hand.

It is linear, so its gradient is its transpose. Automatic differentiation would go back through every shifted sum and
pooling of it: a fifth of a training step.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def degrid(detail: Tensor, window: int) -> Tensor:
    """Take a grid of period 4 out of (N, 3, 4h, 4w), and nothing else.

    The grid is what each of the 16 sub-pixel positions has, on average over `window` x `window` input pixels, more than
    its neighbourhood. The neighbourhood's kernel vanishes at periods 4 and 2 and keeps slopes as they are.
    """
    return shuffled(degrid_positions(F.pixel_unshuffle(detail, 4), window))


def shuffled(positions: Tensor) -> Tensor:
    """As F.pixel_shuffle(positions, 4): (N, 48, h, w) -> (N, 3, 4h, 4w), of channels-last features in half the time."""
    if torch.compiler.is_exporting():
        return F.pixel_shuffle(positions, 4)  # which other runtimes know as one operation
    count, _, height, width = positions.shape
    parts = positions.permute(0, 2, 3, 1).reshape(count, height, width, 3, 4, 4)
    return parts.permute(0, 3, 1, 4, 2, 5).reshape(count, 3, 4 * height, 4 * width)


def degrid_positions(detail: Tensor, window: int) -> Tensor:
    """As `degrid`, of (N, 48, h, w), the sub-pixel positions as channels: so a CPU needs a third of the time.

    Of bf16 the grid is worked out in bf16 where no gradient is asked for: its roundings are some thousandths of the
    grid, which is small itself, and `detail` has been rounded by more.

    Returns:
        float32, or float64 of such.
    """
    detail = detail.contiguous(memory_format=torch.channels_last)
    wide = detail.to(torch.promote_types(detail.dtype, torch.float32))
    # with and without a gradient alike
    with torch.autocast(detail.device.type, enabled=False):
        if torch.is_grad_enabled() and detail.requires_grad:
            taken: Tensor = _Degrid.apply(wide, window)
            return taken
        return wide - _grid(detail, window)


class _Degrid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, detail: Tensor, window: int) -> Tensor:
        ctx.window = window  # type: ignore[attr-defined]
        return detail - _grid(detail, window)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        large = _transposed(shuffled(gradient), ctx.window)  # type: ignore[attr-defined]
        return F.pixel_unshuffle(large, 4), None


def _grid(detail: Tensor, window: int) -> Tensor:
    """What is to be taken out, of the type that `detail` has."""
    line = torch.zeros(4, 12, dtype=torch.float64)
    for position in range(4):  # of neighbouring blocks, and of its own: `grid` is a pixel less its neighbourhood
        line[position, position + 2 : position + 7] = torch.tensor([1, 2, 2, 2, 1]) / 8
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
    grid = F.conv2d(around, kernel.to(detail).repeat(3, 1, 1, 1), groups=3)
    for size, padding in _sides(window):
        grid = F.avg_pool2d(grid, size, stride=1, padding=padding, count_include_pad=False)
    return grid


def _transposed(gradient: Tensor, window: int) -> Tensor:
    """What `degrid` does to (N, 3, 4h, 4w), transposed: each step's transpose, in the other order."""
    grid = _by_position(gradient)
    ones = torch.ones_like(grid[:1, :1])
    for size, padding in reversed(_sides(window)):
        # the mean of fewer pixels at the border gave each of them more
        counts = F.avg_pool2d(ones, size, stride=1, padding=padding, divisor_override=1)
        grid = F.avg_pool2d(grid / counts, size, stride=1, padding=padding, divisor_override=1)
    grid = shuffled(grid)
    # the kernel is symmetric; what it would take from beyond the border is the border's, which was repeated there
    spread = _around(F.pad(grid, (4, 4, 4, 4)))
    for axis in (2, 3):
        length = spread.shape[axis]
        spread.select(axis, 2).add_(spread.narrow(axis, 0, 2).sum(axis))
        spread.select(axis, length - 3).add_(spread.narrow(axis, length - 2, 2).sum(axis))
        spread = spread.narrow(axis, 2, length - 4)
    return gradient - grid + spread


def _around(padded: Tensor) -> Tensor:
    """Mean over 5x5 with weights [1, 2, 2, 2, 1] both ways: (N, 3, h + 4, w + 4) -> (N, 3, h, w).

    As sums of shifted copies: [1, 1] * [1, 0, 1] * [1, 1]. A convolution of so few channels takes ten times as long.
    """
    for axis in (3, 2):
        for step in (1, 2, 1):
            length = padded.shape[axis] - step
            padded = padded.narrow(axis, 0, length) + padded.narrow(axis, step, length)
    return padded / 64


def _by_position(image: Tensor) -> Tensor:
    """(N, 3, 4h, 4w) -> (N, 48, h, w), channels last: poolings run along the channels, eight times as fast."""
    return F.pixel_unshuffle(image, 4).contiguous(memory_format=torch.channels_last)


def _sides(window: int) -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
    """Size and padding of the poolings that make up a box: a row of columns."""
    return ((window, 1), (window // 2, 0)), ((1, window), (0, window // 2))
