"""How near a restored face is to the true one: PSNR and SSIM with their usual variants, consistency with its input.

Pure functions on uint8 RGB arrays. Definitions, sources and what changes each number: `docs/metrics.md`.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.core.images import PSNR_CAP, Pixels, Planes, resize, resize_floats
from pipeline.core.scales import FACTOR
from pipeline.metrics.ssim import CROP, SMALLEST, WINDOW, Pyramid, Structure

Floats = NDArray[np.float64]

_LUMA: Final = np.array((65.481, 128.553, 24.966)) / 255

_TILE: Final = 256
"""Least side of the pieces of the input that are compared one after another; of a result some 10 MB at a time."""
_TALL_TILE: Final = 5 * _TILE
"""Least height of the pieces of a picture more than twice as tall as wide. Pillow 13 reduces such a picture first
vertically and others first horizontally, which rounds differently: a piece has to be tall where its picture is."""
_MARGIN: Final = 2
"""Input pixels around a piece. A bicubic reduction by 4 reaches 8 pixels of the result each way from a pixel's middle,
6 beyond its border; whole input pixels keep the pieces on the same grid as the picture."""


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

    def ssim(self, result: Pixels) -> float:
        """SSIM of `result`, -1 to 1; see `ssim`."""
        _check(self.truth, result)
        return self._structure.compare(result).whole

    def measure(self, result: Pixels) -> dict[str, float | None]:
        """PSNR and SSIM with their variants, and MS-SSIM, by their keys in `registry.MEASURES`; null if too small."""
        _check(self.truth, result)
        plain = self._structure.compare(result, contrast=self._pyramid is not None)
        values, structure = self._luma
        other = luma(result)
        grey = structure.compare(other)
        roomy = min(result.shape[:2]) >= 2 * CROP + WINDOW
        return {
            "psnr": _psnr(self.truth, result),
            "ssim": plain.whole,
            "ms_ssim": self._pyramid.compare(result, plain.contrast) if self._pyramid else None,
            "psnr_y": _psnr(values, other),
            "psnr_crop4": _psnr(_cropped(self.truth), _cropped(result)) if roomy else None,
            "psnr_y_crop4": _psnr(_cropped(values), _cropped(other)) if roomy else None,
            "ssim_y": grey.whole,
            "ssim_crop4": plain.cropped,
            "ssim_y_crop4": grey.cropped,
        }


def _psnr(first: NDArray[Any], second: NDArray[Any]) -> float:
    """As `images.psnr`, of one shape and type: OpenCV adds squares up without copies, of uint8 as whole numbers."""
    squared = cv2.norm(first, second, cv2.NORM_L2SQR)
    return PSNR_CAP if squared == 0 else min(PSNR_CAP, 10 * math.log10(255**2 * first.size / squared))


def _cropped(values: NDArray[Any]) -> NDArray[Any]:
    return values[CROP:-CROP, CROP:-CROP]


def ssim(first: Pixels, second: Pixels) -> float:
    """Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004) of 8-bit RGB pictures.

    11x11 Gaussian window with sigma 1.5, K1 0.01, K2 0.03, data range 255, population covariance; the map
    is averaged over its valid area (5 pixels off each edge) of every channel, then over the channels. Within 1e-8 of
    what float64 throughout gives.

    Args:
        first: uint8 (height, width, 3), RGB, both sides at least 11.
        second: the same shape.

    Returns:
        -1 to 1; 1 for identical pictures.

    Raises:
        ValueError: types or shapes differ, or a side is under 11 pixels.
    """
    return Reference(first).ssim(second)


def consistency(result: Planes, low: Planes) -> float:
    """Mean |result reduced to the input's size − input| over the colours, in grey levels.

    The reduction is the pipeline's own (`images.resize`), so the true picture scores 0 where the input was made of it.
    It is done piece by piece, so that a result in a file (`np.memmap`) is never in memory whole, and gives the same
    number as reducing the whole. 16 bits are reduced by the same kernel in floating point. Alpha is not counted.

    Args:
        result: uint8 or uint16 (4h, 4w, c); its depth may differ from the input's.
        low: uint8 or uint16 (h, w, c), the input.

    Returns:
        0-255, also of 16 bits.

    Raises:
        ValueError: another type, or sizes or colour channels that do not belong together.
    """
    for planes in (low, result):
        if planes.dtype not in (np.uint8, np.uint16) or planes.ndim != 3 or planes.shape[2] not in (1, 2, 3, 4):
            raise ValueError(f"expected uint8 or uint16 (height, width, 1 to 4), got {planes.dtype} {planes.shape}")
    height, width = low.shape[:2]
    if result.shape[:2] != (FACTOR * height, FACTOR * width):
        raise ValueError(f"a result of {result.shape[:2]} is not {FACTOR} times its input of {low.shape[:2]}")
    colours = _colours(low)
    if colours != _colours(result):
        raise ValueError(f"result and input differ in colour: {_colours(result)} and {colours} channels")
    total = 0.0
    for rows in _cuts(height, _TALL_TILE if height > 2 * width else _TILE):
        for columns in _cuts(width, _TILE):
            reduced = _reduce(result, rows, columns)
            total += float(np.abs(reduced - _levels(low[rows, columns, :colours])).sum(dtype=np.float64))
    return total / (height * width * colours)


def _colours(planes: Planes) -> int:
    """Channels without alpha, which is the last of two or four."""
    channels: int = planes.shape[2]
    return channels if channels % 2 else channels - 1


def _levels(planes: Planes) -> NDArray[np.float32]:
    """Values on the 0-255 scale."""
    return planes.astype(np.float32) / np.float32(1 if planes.dtype == np.uint8 else 257)


def _cuts(length: int, size: int) -> Iterator[slice]:
    """Pieces of at least `size`, less than twice that, or all where there is less."""
    count = max(1, length // size)
    for index in range(count):
        yield slice(index * size, (index + 1) * size if index + 1 < count else length)


def _reduce(result: Planes, rows: slice, columns: slice) -> NDArray[np.float32]:
    """A piece, in the input's rows and columns, of the reduced colour channels on the 0-255 scale."""
    top, left = max(0, rows.start - _MARGIN), max(0, columns.start - _MARGIN)
    there = tuple(slice(FACTOR * first, FACTOR * (cut.stop + _MARGIN)) for first, cut in ((top, rows), (left, columns)))
    piece = np.ascontiguousarray(result[(*there, slice(_colours(result)))])
    height, width, channels = piece.shape[0] // FACTOR, piece.shape[1] // FACTOR, piece.shape[2]
    if piece.dtype == np.uint8:
        # `resize` wants three channels, and treats each as it would treat it alone
        three = np.broadcast_to(piece, (*piece.shape[:2], 3)).astype(np.uint8, copy=False)
        reduced = resize(three, height, width)[:, :, :channels].astype(np.float32)
    else:
        # Pillow resizes 16-bit values one channel at a time, as floating point, which it does not clip
        reduced = np.clip(resize_floats(piece, height, width), 0, 65535) / np.float32(257)
    return reduced[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
