"""Structural similarity, at one scale and at five, of pictures of one or three channels, in float64.

The true picture's local moments are worked out once and serve every result. Filtered in strips that stay in the cache.
Own code, because torchmetrics averages over a border that it reflects, scikit-image's takes a second for a 1024x1024
picture, and neither gives crops and scales from one pass; tests hold it to both.
"""

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WINDOW: Final = 11
SIGMA: Final = 1.5
BORDER: Final = WINDOW // 2
CROP: Final = 4
"""Pixels off each edge that the cropped variants leave out."""
BETAS: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of MS-SSIM's scales, finest first (Wang, Simoncelli, Bovik 2003)."""
SMALLEST: Final = WINDOW * 2 ** (len(BETAS) - 1)
"""Side, pixels, below which the window does not fit into the coarsest scale."""
_C1: Final = (0.01 * 255) ** 2
_C2: Final = (0.03 * 255) ** 2
_KERNEL: Final = cv2.getGaussianKernel(WINDOW, SIGMA, cv2.CV_64F)
_STRIP: Final = 64
"""Rows filtered at once: a strip's float64 arrays stay in the cache, which halves the time of a 1024x1024 picture."""


@dataclass(frozen=True)
class Similarity:
    """Means over the area that the window fits in, and over channels."""

    whole: float
    cropped: float | None
    """With `CROP` pixels off each edge; None where nothing is left."""
    contrast: float
    """Of the contrast-structure term alone."""


def _product(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Exact product: of 8-bit values in 16 bits, a quarter of the memory of float64."""
    return np.multiply(first, second, dtype=np.uint16 if first.dtype == second.dtype == np.uint8 else np.float64)


def _blur(values: NDArray[Any]) -> Floats:
    """Gaussian-weighted local mean of (h, w) or (h, w, c), valid area only: (h - 10, w - 10 …)."""
    blurred: Floats = cv2.sepFilter2D(values, cv2.CV_64F, _KERNEL, _KERNEL)
    return blurred[BORDER:-BORDER, BORDER:-BORDER]


class Structure:
    """Local moments of one true picture."""

    def __init__(self, truth: NDArray[Any]) -> None:
        """Take (h, w) or (h, w, 3), 0-255, of any type.

        Raises:
            ValueError: a side under 11.
        """
        if min(truth.shape[:2]) < WINDOW:
            raise ValueError(f"SSIM needs {WINDOW} pixels a side, got {truth.shape[1]}x{truth.shape[0]}")
        self.shape = truth.shape
        self._strips: list[tuple[NDArray[Any], Floats, Floats]] = []
        for top in range(0, truth.shape[0] - 2 * BORDER, _STRIP):
            values = truth[top : top + _STRIP + 2 * BORDER]
            mean = _blur(values)
            self._strips.append((values, mean, _blur(_product(values, values)) - mean * mean))

    def compare(self, result: NDArray[Any], contrast: bool = False) -> Similarity:
        """Similarity of a result of the same shape; its contrast term is 0 where it is not asked for."""
        height, width = self.shape[0] - 2 * BORDER, self.shape[1] - 2 * BORDER
        channels = self.shape[2] if len(self.shape) == 3 else 1
        total = cropped = contrasts = 0.0
        for index, (values, mean, variance) in enumerate(self._strips):
            top = index * _STRIP
            other = result[top : top + _STRIP + 2 * BORDER]
            other_mean = _blur(other)
            # in place from here on: the strip's arrays are reused while they are in the cache
            covariance = _blur(_product(values, other))
            spread = _blur(_product(other, other))
            squares = other_mean * other_mean
            spread -= squares
            spread += variance
            spread += _C2
            squares += mean * mean
            squares += _C1
            product = mean * other_mean
            covariance -= product
            covariance *= 2
            covariance += _C2
            if contrast:
                covariance /= spread
                contrasts += float(covariance.sum())
            else:
                squares *= spread
            product *= 2
            product += _C1
            product *= covariance
            product /= squares
            total += float(product.sum())
            first, last = max(CROP - top, 0), min(height - CROP - top, len(product))
            if first < last and width > 2 * CROP:
                cropped += float(product[first:last, CROP:-CROP].sum())
        area = (height - 2 * CROP) * (width - 2 * CROP) if min(height, width) > 2 * CROP else 0
        return Similarity(
            total / (height * width * channels),
            cropped / (area * channels) if area else None,
            contrasts / (height * width * channels),
        )


def halve(values: NDArray[Any]) -> Floats:
    """Means of 2x2 pixels, in float64; an odd last row or column is left out."""
    height, width = values.shape[0] // 2 * 2, values.shape[1] // 2 * 2
    part = values[:height, :width].astype(np.float64, copy=False)
    return np.asarray(cv2.resize(part, (width // 2, height // 2), interpolation=cv2.INTER_AREA))


class Pyramid:
    """A true picture at the four coarser scales of MS-SSIM; the finest one is the SSIM's own pass."""

    def __init__(self, truth: NDArray[Any]) -> None:
        """Take (h, w, 3), sides from `SMALLEST` up."""
        self._levels = []
        for _ in BETAS[1:]:
            truth = halve(truth)
            self._levels.append(Structure(truth))

    def compare(self, result: NDArray[Any], finest: float) -> float:
        """MS-SSIM: the product of the contrast terms and, at the coarsest scale, the similarity, by their exponents.

        Args:
            result: (h, w, 3).
            finest: the contrast term at full size.
        """
        product = max(finest, 0.0) ** BETAS[0]
        for beta, level in zip(BETAS[1:], self._levels, strict=True):
            result = halve(result)
            found = level.compare(result, contrast=True)
            product *= max(found.whole if level is self._levels[-1] else found.contrast, 0.0) ** beta
        return product
