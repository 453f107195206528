"""Enlarge large images in tiles that overlap: memory stays bounded, and no seam shows."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from pipeline.core.images import Planes
from pipeline.core.scales import FACTOR
from pipeline.models.device import to_pixels, to_tensor


def enlarge_tiles(
    enlarge: Callable[[Tensor, tuple[int, int]], Tensor],
    image: Planes,
    canvas: Planes,
    *,
    tile: int,
    overlap: int,
    device: torch.device,
) -> None:
    """Enlarge an image tile by tile into `canvas`; one that is no larger than a tile goes through whole.

    Args:
        enlarge: float32 (1, c, h, w) in 0..1 on the device, and row and column of the image at which it begins -> float
            (1, c, 4h, 4w).
        image: (h, w, c), uint8 or uint16.
        canvas: (4h, 4w, c) of the same type.
        tile: side of the tiles, input pixels.
        overlap: how far tiles reach into their neighbours, input pixels.
        device: where `enlarge` runs.
    """
    height, width = image.shape[:2]
    for top, left in product(range(0, height, tile), range(0, width, tile)):
        bottom, right = min(top + tile, height), min(left + tile, width)
        y, x = max(0, top - overlap), max(0, left - overlap)
        result = enlarge(to_tensor(image[y : bottom + overlap, x : right + overlap], device)[None], (y, x))
        rows = slice(FACTOR * (top - y), FACTOR * (bottom - y))
        columns = slice(FACTOR * (left - x), FACTOR * (right - x))
        pixels = to_pixels(result[0, :, rows, columns], image.dtype)
        canvas[FACTOR * top : FACTOR * bottom, FACTOR * left : FACTOR * right] = pixels
