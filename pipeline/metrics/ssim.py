"""Structural similarity, at one scale and at five, of pictures of one or three channels.

The true picture's local moments are worked out once, in float64, and serve every result. Of a result, what it differs
by is filtered, in float32: with d = result − truth, SSIM is (1 − μd² / (μx² + μy² + C1)) (1 − σd² / (σx² + σy² + C2)),
so that roundings are those of a small number, and flat areas keep their variance. Strips that differ by much,
and small pictures, are filtered in float64. Own code, because torchmetrics averages over a border that it reflects,
scikit-image's takes a second for a 1024x1024 picture, and neither gives crops and scales from one pass; tests hold it
to both.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
"""float32 or float64."""

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
_MIDDLE: Final = 128.0
"""Taken off each value before it is squared, which leaves smaller numbers to round."""
_KERNEL: Final = cv2.getGaussianKernel(WINDOW, SIGMA, cv2.CV_64F)
_STRIP: Final = 64
"""Rows filtered at once: a strip's arrays stay in the cache, which halves the time of a 1024x1024 picture."""
_FAR: Final = 8.0
"""Root mean square of a strip's local mean differences, grey levels, above which float32 is not enough: σd² is what is
left of blurred squares of them."""
_LARGE: Final = 256 * 256
"""Pixels from which float32 is used: of fewer, its roundings do not average out."""


@dataclass(frozen=True)
class Similarity:
    """Means over the area that the window fits in, and over channels."""

    whole: float
    cropped: float | None
    """With `CROP` pixels off each edge; None where nothing is left."""
    contrast: float
    """Of the contrast-structure term alone."""


def _blur(values: NDArray[Any], depth: int) -> Values:
    """Gaussian-weighted local mean of (h, w) or (h, w, c), valid area only: (h - 10, w - 10 …)."""
    blurred: Values = cv2.sepFilter2D(values, depth, _KERNEL, _KERNEL)
    return blurred[BORDER:-BORDER, BORDER:-BORDER]


class _Strip:
    """Some rows of a true picture with their moments, in the precision that results are compared in."""

    def __init__(self, values: NDArray[Any], depth: int) -> None:
        """Take (rows, w) or (rows, w, 3); depth is OpenCV's CV_32F or CV_64F."""
        self.values, self.depth = values, depth
        kind = np.float32 if depth == cv2.CV_32F else np.float64
        centred = np.subtract(values, _MIDDLE, dtype=np.float64)
        mean = _blur(centred, cv2.CV_64F)
        variance = _blur(centred * centred, cv2.CV_64F)
        variance -= mean * mean
        self.twice = (2 * centred).astype(kind)
        """2 (truth − 128)"""
        self.twice_mean = (2 * mean).astype(kind)
        """2 (μ − 128)"""
        mean += _MIDDLE
        self.luminance = (2 * mean * mean + _C1).astype(kind)
        """2 μ² + C1"""
        self.spread = (2 * variance + _C2).astype(kind)
        """2 σ² + C2"""

    def lacks(self, other: NDArray[Any]) -> tuple[Values, Values]:
        """What a result's luminance and contrast terms lack to 1: (rows - 10, w - 10 …) each."""
        difference = cv2.subtract(other, self.values, dtype=self.depth)
        mean = _blur(difference, self.depth)
        if self.depth == cv2.CV_32F and cv2.norm(mean) > _FAR * math.sqrt(mean.size):
            return _Strip(self.values, cv2.CV_64F).lacks(other)
        # in place from here on: the strip's arrays are reused while they are in the cache
        spread = _blur(cv2.multiply(difference, self.twice), self.depth)
        contrast = _blur(cv2.multiply(difference, difference), self.depth)
        product = mean * self.twice_mean
        spread -= product
        luminance = mean * mean
        contrast -= luminance
        # σx² + σy² + C2, since σx² = σy² + 2 cov(d, y) + σd²
        spread += self.spread
        spread += contrast
        contrast /= spread
        # μx² + μy² + C1
        mean *= 2 * _MIDDLE
        product += mean
        product += self.luminance
        product += luminance
        luminance /= product
        return luminance, contrast


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
        depth = cv2.CV_32F if truth.shape[0] * truth.shape[1] >= _LARGE else cv2.CV_64F
        tops = range(0, truth.shape[0] - 2 * BORDER, _STRIP)
        self._strips = [_Strip(truth[top : top + _STRIP + 2 * BORDER], depth) for top in tops]

    def compare(self, result: NDArray[Any], contrast: bool = False) -> Similarity:
        """Similarity of a result of the same shape and type; its contrast term is 0 where it is not asked for."""
        height, width = self.shape[0] - 2 * BORDER, self.shape[1] - 2 * BORDER
        channels = self.shape[2] if len(self.shape) == 3 else 1
        total = cropped = contrasts = 0.0
        for index, strip in enumerate(self._strips):
            top = index * _STRIP
            luminance, lack = strip.lacks(result[top : top + _STRIP + 2 * BORDER])
            if contrast:
                contrasts += _sum(lack)
            # 1 − (1 − a) (1 − b)
            both = luminance * lack
            lack += luminance
            lack -= both
            total += _sum(lack)
            first, last = max(CROP - top, 0), min(height - CROP - top, len(lack))
            if first < last and width > 2 * CROP:
                cropped += _sum(lack[first:last, CROP:-CROP])
        area = (height - 2 * CROP) * (width - 2 * CROP) if min(height, width) > 2 * CROP else 0
        return Similarity(
            1 - total / (height * width * channels),
            1 - cropped / (area * channels) if area else None,
            1 - contrasts / (height * width * channels) if contrast else 0.0,
        )


def _sum(values: Values) -> float:
    """Sum, added up in float64."""
    return math.fsum(cv2.sumElems(values))


def halve(values: NDArray[Any]) -> Values:
    """Means of 2x2 pixels, in float32: exact for four halvings of 8 bits; an odd last row or column is left out."""
    height, width = values.shape[0] // 2 * 2, values.shape[1] // 2 * 2
    part = values[:height, :width].astype(np.float32, copy=False)
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
