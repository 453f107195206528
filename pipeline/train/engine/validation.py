"""How good a generator is on held-back pairs while it trains: PSNR, SSIM and a sheet to look at. Plain torch."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.core.images import Pixels, psnr, resize
from pipeline.train.engine.dataset import Pairs

SHOWN = 4
"""Faces on a sheet."""


def validate(enlarge: Callable[[Pixels], Pixels], pairs: Pairs) -> tuple[dict[str, float], Pixels]:
    """Score full pairs and draw the first few.

    Args:
        enlarge: uint8 (h, w, 3) -> uint8 (4h, 4w, 3).
        pairs: (ground truth, low-resolution input); at least one.

    Returns:
        `valid_psnr` in dB and `valid_ssim`, means over the pairs, 8-bit RGB, whole image; and a sheet, uint8: input
        enlarged by bicubic, result, ground truth side by side, one row a face.
    """
    scores: list[tuple[float, float]] = []
    rows: list[Pixels] = []
    for truth, low in pairs:
        result = enlarge(low)
        scores.append((psnr(result, truth), ssim(result, truth)))
        if len(rows) < SHOWN:
            rows.append(np.concatenate([resize(low, *truth.shape[:2]), result, truth], axis=1))
    means = np.mean(scores, axis=0)
    width = max(row.shape[1] for row in rows)
    sheet = np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])
    return {"valid_psnr": float(means[0]), "valid_ssim": float(means[1])}, sheet


def ssim(result: Pixels, truth: Pixels) -> float:
    """Structural similarity (Wang et al., 2004) of two uint8 pictures (h, w, 3), sides from 11 up: Gaussian 11x11
    window of sigma 1.5, valid area, mean over RGB. The same as `pipeline.metrics.fidelity.ssim`, which needs OpenCV.
    """
    a, b = (torch.from_numpy(image.copy()).permute(2, 0, 1)[:, None].double() for image in (result, truth))
    steps = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-(steps**2) / (2 * 1.5**2))
    line /= line.sum()

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))

    mean_a, mean_b = blur(a), blur(b)
    variance_a, variance_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((similarity / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))).mean())
