"""Back-projection: add what a result, reduced again, lacks of its input (Irani & Peleg, 1991)."""

from functools import lru_cache
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.core.scales import FACTOR
from pipeline.models.bicubic import reduce_by_products
from pipeline.models.networks import enlarge

REPAIRED: Final = 0.5 / 255
"""Mean difference of a result reduced and its input from which the network is taken to have repaired the input, not
missed it: .2 grey levels are left on clean photographs, 2 to 3 on blurred ones. At half as much again nothing is
added."""
REPAIR_REACH: Final = 16
"""Input pixels around each over which that mean is taken."""


def back_projected(result: Tensor, low: Tensor, steps: int, repairs: bool = False) -> Tensor:
    """Add what a result reduced lacks of its input, enlarged, `steps` times (Irani & Peleg, 1991).

    Args:
        result: (N, 3, 4h, 4w); ZSSR's are smaller on their way there.
        low: (N, 3, h, w).
        steps: 0 adds nothing.
        repairs: where much is lacking at first the network has repaired the input: there nothing is added.
    """
    if not steps:
        return result
    height, width = low.shape[-2:]
    low = low.contiguous()
    lacking = low - _reduced(result, height, width)
    share: Tensor | float = 1.0
    if repairs:
        mean = lacking.abs().mean(dim=1, keepdim=True)
        mean = _box(height).to(low) @ mean @ _box(width).to(low).T
        share = (3 - 2 * mean / REPAIRED).clamp(0, 1)
    added = total = lacking * share
    sides = ((height, result.shape[-2]), (width, result.shape[-1])) if steps > 1 else ()
    rows, columns = (_enlarged_and_reduced(*side).to(low) for side in sides) if sides else (low, low)
    for _ in range(steps - 1):
        # what was added, as it is seen at this size: enlarging all of it at the end is enough
        lacking = lacking - rows @ added @ columns.T
        added = lacking * share
        total = total + added
    if result.shape[-2:] == (FACTOR * height, FACTOR * width):
        return enlarge(total).add_(result)
    return F.interpolate(total, size=result.shape[-2:], mode="bicubic", antialias=True).add_(result)


def _reduced(large: Tensor, height: int, width: int) -> Tensor:
    reduced = None
    if large.shape[-2:] == (FACTOR * height, FACTOR * width):
        reduced = reduce_by_products(large, FACTOR)
    return F.interpolate(large, size=(height, width), mode="bicubic", antialias=True) if reduced is None else reduced


@lru_cache(maxsize=16)
def _box(side: int) -> Tensor:
    """Matrix (side, side): the mean around each pixel of a line, of those that there are within `REPAIR_REACH`."""
    with torch.inference_mode(False):
        place = torch.arange(side)
        near = ((place[:, None] - place).abs() <= REPAIR_REACH).float()
        return near / near.sum(dim=1, keepdim=True)


@lru_cache(maxsize=16)
def _enlarged_and_reduced(side: int, large_side: int) -> Tensor:
    """Matrix (side, side): what enlarging a line of pixels to `large_side` and reducing it again makes of it."""
    with torch.inference_mode(False):  # kept for callers that want gradients, too
        lines = torch.eye(side)[:, None, None]  # one line a picture, of one row
        large = F.interpolate(lines, size=(1, large_side), mode="bicubic", antialias=True)
        return F.interpolate(large, size=(1, side), mode="bicubic", antialias=True)[:, 0, 0].T.contiguous()
