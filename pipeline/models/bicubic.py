"""Bicubic enlargement and reduction on a CPU as products with narrow matrices: torch's operator in half of its time.

On x86 with MKL the bits of an enlargement are the same, since both add up a few products in the same order.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 16
"""Small pixels that belong to one product: wide enough for a product of matrices, few zeros in them."""
_LARGEST = 1024
"""Side, small pixels, of which all weights are looked at once: 16 MB."""


def enlarge_by_products(x: Tensor, factor: int) -> Tensor | None:
    """Enlarge float32 (N, c, h, w) as `F.interpolate(…, mode="bicubic", antialias=True)` does.

    Returns:
        (N, c, factor h, factor w); None where that operator is to be used: on other devices, where gradients are asked
        for, in exports, and for pictures of more than `_LARGEST` pixels a side.
    """
    if not _is_plain(x) or max(x.shape[-2:]) > _LARGEST:
        return None
    with torch.autocast("cpu", enabled=False):  # in bf16 the weights themselves would be rounded
        count, channels, height, width = x.shape
        which, weights = _bands(width, factor)
        windows = x.index_select(-1, which.flatten()).view(-1, *which.shape).transpose(0, 1)
        wide = torch.bmm(windows, weights.transpose(1, 2)).transpose(0, 1)
        wide = wide.reshape(count, channels, height, -1)[..., : factor * width]
        which, weights = _bands(height, factor)
        windows = wide.index_select(-2, which.flatten()).view(count, channels, *which.shape, factor * width)
        return (weights @ windows).view(count, channels, -1, factor * width)[..., : factor * height, :]


def reduce_by_products(x: Tensor, factor: int) -> Tensor | None:
    """Reduce float32 (N, c, factor h, factor w) as `F.interpolate(…, mode="bicubic", antialias=True)` does, to 10⁻⁶.

    Returns:
        (N, c, h, w); None where that operator is to be used, as of `enlarge_by_products`.
    """
    height, width = x.shape[-2:]
    if not _is_plain(x) or not x.is_contiguous() or max(height, width) > factor * _LARGEST:
        return None
    if height % factor or width % factor or min(height, width) < factor * 2 * _BLOCK:
        return None
    with torch.autocast("cpu", enabled=False):
        images = x.view(-1, height, width)
        rows = x.new_empty(len(images), height // factor, width)
        for first, weights, results in _windows(height, factor):
            rows[:, results] = weights @ images[:, first]
        reduced = x.new_empty(*rows.shape[:2], width // factor)
        for first, weights, results in _windows(width, factor):
            reduced[..., results] = rows[..., first] @ weights.T
    return reduced.view(*x.shape[:2], height // factor, width // factor)


def _is_plain(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_exporting()


@lru_cache(maxsize=64)
def _windows(side: int, factor: int) -> list[tuple[slice, Tensor, slice]]:
    """For each block of a line reduced to `side / factor`: the pixels that it is made of, their weights, its place."""
    with torch.inference_mode(False):
        lines = torch.eye(side)[:, None, None]  # one line a picture, of one row
        matrix = F.interpolate(lines, size=(1, side // factor), mode="bicubic", antialias=True)[:, 0, 0].T
    result = []
    for start in range(0, len(matrix), _BLOCK):
        block = matrix[start : start + _BLOCK]
        used = torch.nonzero(block.any(dim=0)).flatten()
        first = slice(int(used[0]), int(used[-1]) + 1)
        result.append((first, block[:, first].contiguous(), slice(start, start + len(block))))
    return result


@lru_cache(maxsize=64)
def _bands(side: int, factor: int) -> tuple[Tensor, Tensor]:
    """Pixels of a line that each block of results is made of, (blocks, taps), and their weights, (blocks, n, taps)."""
    lines = torch.eye(side)[:, None, None]  # one line a picture, of one row
    matrix = F.interpolate(lines, size=(1, factor * side), mode="bicubic", antialias=True)[:, 0, 0].T
    blocks = torch.split(matrix, factor * _BLOCK)
    used = [torch.nonzero(block.any(dim=0)).flatten() for block in blocks]
    taps = max(int(pixels[-1] - pixels[0]) + 1 for pixels in used)
    first = torch.tensor([min(int(pixels[0]), side - taps) for pixels in used])
    which = first[:, None] + torch.arange(taps)
    weights = torch.zeros(len(blocks), factor * _BLOCK, taps)
    for number, block in enumerate(blocks):
        weights[number, : len(block)] = block[:, which[number]]
    return which, weights
