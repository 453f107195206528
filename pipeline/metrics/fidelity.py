"""How near a restored face is to the true one: PSNR and SSIM with their usual variants, consistency with its input.

Pure functions on uint8 RGB arrays. Definitions, sources and what changes each number: `docs/metrics.md`.
"""

import math
from functools import cached_property
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.core.images import Pixels, resize
from pipeline.metrics.ssim import CROP, SMALLEST, WINDOW, Pyramid, Structure

Floats = NDArray[np.float64]

PSNR_CAP: Final = 100.0
"""dB given to identical pictures, whose PSNR is infinite: JSON has no infinity. One grey level in one channel of one
pixel of a 1024x1024 picture is 113 dB, which is capped too."""
_LUMA: Final = np.array((65.481, 128.553, 24.966)) / 255


def _check(first: Pixels, second: Pixels) -> None:
    for pixels in (first, second):
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"expected uint8 (height, width, 3), got {pixels.dtype} {pixels.shape}")
    if first.shape != second.shape:
        raise ValueError(f"pictures differ in size: {first.shape[:2]} and {second.shape[:2]}")


def luma(pixels: Pixels) -> Floats:
    """Luma of ITU-R BT.601, 16 to 235, as MATLAB's `rgb2ycbcr` but not rounded: uint8 (h, w, 3) -> float64 (h, w)."""
    transformed: Floats = cv2.transform(pixels.astype(np.float64), _LUMA[None])
    return transformed.reshape(pixels.shape[:2]) + 16


class Reference:
    """A true picture with its local moments, computed once and used for every method that is compared with it."""

    def __init__(self, truth: Pixels) -> None:
        """Take the true picture: uint8 (height, width, 3), RGB, both sides at least 11.

        Raises:
            ValueError: another type or shape, or too small for SSIM's window.
        """
        _check(truth, truth)
        self.truth = truth
        self._structure = Structure(truth)

    @cached_property
    def _luma(self) -> tuple[Floats, Structure]:
        values = luma(self.truth)
        return values, Structure(values)

    @cached_property
    def _pyramid(self) -> Pyramid | None:
        return Pyramid(self.truth) if min(self.truth.shape[:2]) >= SMALLEST else None

    def psnr(self, result: Pixels) -> float:
        """PSNR of `result` in dB; see `psnr`."""
        return psnr(self.truth, result)

    def ssim(self, result: Pixels) -> float:
        """SSIM of `result`, -1 to 1; see `ssim`."""
        _check(self.truth, result)
        return self._structure.compare(result).whole

    def measure(self, result: Pixels) -> dict[str, float | None]:
        """PSNR and SSIM with their variants, and MS-SSIM, by their keys in `measures.MEASURES`; null if too small."""
        _check(self.truth, result)
        plain = self._structure.compare(result, contrast=self._pyramid is not None)
        values, structure = self._luma
        other = luma(result)
        grey = structure.compare(other)
        roomy = min(result.shape[:2]) >= 2 * CROP + WINDOW
        return {
            "psnr": psnr(self.truth, result),
            "ssim": plain.whole,
            "ms_ssim": self._pyramid.compare(result, plain.contrast) if self._pyramid else None,
            "psnr_y": _decibels(values, other),
            "psnr_crop4": psnr(_cropped(self.truth), _cropped(result)) if roomy else None,
            "psnr_y_crop4": _decibels(values[CROP:-CROP, CROP:-CROP], other[CROP:-CROP, CROP:-CROP]) if roomy else None,
            "ssim_y": grey.whole,
            "ssim_crop4": plain.cropped,
            "ssim_y_crop4": grey.cropped,
        }


def _cropped(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[CROP:-CROP, CROP:-CROP])


def _decibels(first: Floats, second: Floats) -> float:
    squared = cv2.norm(first, second, cv2.NORM_L2SQR)
    return PSNR_CAP if squared == 0 else min(PSNR_CAP, 10 * math.log10(255**2 * first.size / squared))


def psnr(first: Pixels, second: Pixels) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(255² / MSE), 8-bit RGB, whole image, all three channels in one MSE.

    Args:
        first: uint8 (height, width, 3), RGB.
        second: the same shape.

    Returns:
        dB, at most `PSNR_CAP` (identical pictures).

    Raises:
        ValueError: types or shapes differ.
    """
    _check(first, second)
    # the sum of squared differences is a whole number, which OpenCV hands over through a square root
    squared = round(cv2.norm(first, second, cv2.NORM_L2SQR))
    if squared == 0:
        return PSNR_CAP
    return min(PSNR_CAP, 10 * math.log10(255**2 * first.size / squared))


def ssim(first: Pixels, second: Pixels) -> float:
    """Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004) of 8-bit RGB pictures.

    11x11 Gaussian window with sigma 1.5, K1 0.01, K2 0.03, data range 255, population covariance, in float64; the map
    is averaged over its valid area (5 pixels off each edge) of every channel, then over the channels.

    Args:
        first: uint8 (height, width, 3), RGB, both sides at least 11.
        second: the same shape.

    Returns:
        -1 to 1; 1 for identical pictures.

    Raises:
        ValueError: types or shapes differ, or a side is under 11 pixels.
    """
    return Reference(first).ssim(second)


def consistency(result: Pixels, low: Pixels) -> float:
    """Mean |result reduced to the input's size − input| in grey levels, 0-255: how far it strays from its input.

    The reduction is the pipeline's own (`images.resize`), so the true picture scores 0 where the input was made of it.

    Args:
        result: uint8 (k·h, k·w, 3), RGB.
        low: uint8 (h, w, 3), RGB: what the result was made of.

    Raises:
        ValueError: types differ, or the result is not a whole multiple of the input in size.
    """
    height, width = low.shape[:2]
    if result.shape[0] % height or result.shape[1] % width:
        raise ValueError(f"{result.shape[:2]} is no whole multiple of {low.shape[:2]}")
    reduced = resize(result, height, width)
    _check(reduced, low)
    return float(cv2.norm(reduced, low, cv2.NORM_L1)) / low.size
