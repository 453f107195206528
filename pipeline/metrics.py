"""How near a restored face is to the true one: PSNR, SSIM, consistency with its input, and the Fréchet distance.

Pure functions on uint8 RGB arrays. Definitions, sources and what changes each number: `docs/metrics.md`.
"""

import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.images import Pixels, resize

Floats = NDArray[np.float64]

PSNR_CAP: Final = 100.0
"""dB given to identical pictures, whose PSNR is infinite: JSON has no infinity. One grey level in one channel of one
pixel of a 1024x1024 picture is 113 dB, which is capped too."""
WINDOW: Final = 11
SIGMA: Final = 1.5
_C1: Final = (0.01 * 255) ** 2
_C2: Final = (0.03 * 255) ** 2
_BORDER: Final = WINDOW // 2
_KERNEL: Final = cv2.getGaussianKernel(WINDOW, SIGMA, cv2.CV_64F)
_STRIP: Final = 64
"""Rows filtered at once: a strip's float64 arrays stay in the cache, which halves the time of a 1024x1024 picture."""
FID_SAMPLE: Final = 2048
"""Pictures below which the 2048x2048 covariance is rank-deficient and the Fréchet distance strongly biased upwards."""


def _check(first: Pixels, second: Pixels) -> None:
    for pixels in (first, second):
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"expected uint8 (height, width, 3), got {pixels.dtype} {pixels.shape}")
    if first.shape != second.shape:
        raise ValueError(f"pictures differ in size: {first.shape[:2]} and {second.shape[:2]}")


def _blur(values: Floats) -> Floats:
    """Gaussian-weighted local mean of (h, w, 3), valid area only: (h - 10, w - 10, 3)."""
    blurred: Floats = cv2.sepFilter2D(values, cv2.CV_64F, _KERNEL, _KERNEL)
    return blurred[_BORDER:-_BORDER, _BORDER:-_BORDER]


class Reference:
    """A true picture with its local moments, computed once and used for every method that is compared with it."""

    def __init__(self, truth: Pixels) -> None:
        """Take the true picture: uint8 (height, width, 3), RGB, both sides at least 11.

        Raises:
            ValueError: another type or shape, or too small for SSIM's window.
        """
        _check(truth, truth)
        if min(truth.shape[:2]) < WINDOW:
            raise ValueError(f"SSIM needs {WINDOW} pixels a side, got {truth.shape[1]}x{truth.shape[0]}")
        self.truth = truth
        self._strips: list[tuple[Floats, Floats, Floats]] = []
        for top in range(0, truth.shape[0] - 2 * _BORDER, _STRIP):
            values = truth[top : top + _STRIP + 2 * _BORDER].astype(np.float64)
            mean = _blur(values)
            self._strips.append((values, mean, _blur(values * values) - mean * mean))

    def psnr(self, result: Pixels) -> float:
        """PSNR of `result` in dB; see `psnr`."""
        return psnr(self.truth, result)

    def ssim(self, result: Pixels) -> float:
        """SSIM of `result`, -1 to 1; see `ssim`."""
        _check(self.truth, result)
        total = 0.0
        for index, (values, mean, variance) in enumerate(self._strips):
            top = index * _STRIP
            other = result[top : top + _STRIP + 2 * _BORDER].astype(np.float64)
            other_mean = _blur(other)
            # in place from here on: the strip's arrays are reused while they are in the cache
            covariance = _blur(values * other)
            contrast = _blur(other * other)
            squares = other_mean * other_mean
            contrast -= squares
            contrast += variance
            contrast += _C2
            squares += mean * mean
            squares += _C1
            squares *= contrast
            product = mean * other_mean
            covariance -= product
            covariance *= 2
            covariance += _C2
            product *= 2
            product += _C1
            product *= covariance
            product /= squares
            total += float(product.sum())
        height, width = result.shape[:2]
        return total / ((height - 2 * _BORDER) * (width - 2 * _BORDER) * 3)


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


@dataclass
class FeatureStatistics:
    """Count, mean and scatter of feature vectors: all that the Fréchet distance needs, whatever the sample's size.

    Scatter is the sum of outer products of the deviations from the mean. Sums over blocks and over `merge` are combined
    by the parallel update of Chan, Golub and LeVeque (1983), which, unlike a raw sum of outer products, loses no digits
    where features vary little around a large mean.
    """

    count: int
    mean: Floats
    scatter: Floats
    _root: Floats | None = field(default=None, repr=False)

    @classmethod
    def empty(cls, size: int) -> "FeatureStatistics":
        """No vectors yet, of `size` features each."""
        return cls(0, np.zeros(size), np.zeros((size, size)))

    def add(self, features: NDArray[np.floating[Any]]) -> None:
        """Add a block of vectors (count, size)."""
        block = np.asarray(features, dtype=np.float64)
        if len(block):
            mean = block.mean(axis=0)
            deviations = block - mean
            self.merge(FeatureStatistics(len(block), mean, deviations.T @ deviations))

    def merge(self, other: "FeatureStatistics") -> None:
        """Add what `other` has seen."""
        if other.count == 0:
            return
        self._root = None
        count = self.count + other.count
        step = other.mean - self.mean
        self.scatter += other.scatter + np.outer(step, step) * (self.count * other.count / count)
        self.mean = self.mean + step * (other.count / count)
        self.count = count

    @property
    def covariance(self) -> Floats:
        """Unbiased covariance (size, size)."""
        return self.scatter / (self.count - 1)

    def root(self) -> Floats:
        """A factor R (size, rank) of the covariance, R @ R.T, without the directions that do not vary.

        It is kept: the true pictures' root serves every method that is compared with them.
        """
        if self._root is None:
            values, vectors = np.linalg.eigh(self.covariance)
            kept = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
            self._root = vectors[:, kept] * np.sqrt(values[kept])
        return self._root


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Squared Fréchet distance of two Gaussians (Dowson, Landau 1982; on Inception features: Heusel et al. 2017).

    |m1 − m2|² + tr C1 + tr C2 − 2 tr (C1 C2)^½ with unbiased covariances. With C1 = R Rᵀ the last trace is the sum of
    the square roots of the eigenvalues of Rᵀ C2 R, which is symmetric and as small as the first sample: seconds, where
    a matrix square root of C1 C2 takes a minute and complex numbers.

    Args:
        first: the true pictures', whose root is worked out once.
        second: one method's.

    Raises:
        ValueError: fewer than two vectors on a side, or different feature sizes.
    """
    if min(first.count, second.count) < 2:
        raise ValueError("a Fréchet distance needs at least two vectors on each side")
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"feature sizes differ: {len(first.mean)} and {len(second.mean)}")
    step = first.mean - second.mean
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    root = first.root()
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root.T @ second.covariance @ root), 0, None)).sum()
    return max(0.0, float(step @ step + traces - 2 * shared))


class InceptionFeatures:
    """Pool-3 features of the Inception network that FID is defined on, from a weights file; nothing is downloaded."""

    def __init__(self, weights: Path, device: str = "cpu", layer: str = "2048") -> None:
        """Load the state dict of torch-fidelity's `FeatureExtractorInceptionV3` (TensorFlow's 2015-12-05 Inception).

        Args:
            weights: a PyTorch file of tensors by name.
            device: torch device to run on.
            layer: 2048 is FID's, the last pooling; 64, 192 and 768 are earlier ones, for other distances.

        Raises:
            ValueError: the file is missing or is not such a state dict.
        """
        import torch
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        try:
            # tensors only: torch-fidelity itself would unpickle, that is run, whatever the file holds
            state = torch.load(weights, map_location="cpu", weights_only=True)
            buffer = io.BytesIO()
            torch.save(state, buffer)
            buffer.seek(0)
            network = FeatureExtractorInceptionV3("inception", [layer], feature_extractor_weights_path=buffer)
        except Exception as error:  # unpickling and load_state_dict raise half a dozen kinds
            raise ValueError(f"{weights} holds no usable Inception weights: {str(error).splitlines()[0]}") from error
        self._device = torch.device(device)
        self._network = network.to(self._device)

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """Features (2048,) of one picture, uint8 (height, width, 3) RGB of any size; resized to 299 as TF 1 does."""
        import torch

        with torch.inference_mode():
            image = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).unsqueeze(0).to(self._device)
            features: NDArray[np.float32] = self._network(image)[0][0].cpu().numpy()
        return features
