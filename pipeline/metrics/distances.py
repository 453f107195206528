"""How alike two sets of pictures are, by features of each: Fréchet distance, KID, precision and recall.

The Fréchet distance needs means and covariances only, which are accumulated exactly whatever the sample's size. KID and
precision need the vectors, 8 kB a picture, and are torch-fidelity's.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FID_SAMPLE: Final = 2048
"""Pictures below which the 2048x2048 covariance is rank-deficient and the Fréchet distance strongly biased upwards."""
KID_SUBSETS: Final = 100
KID_SIZE: Final = 1000
"""Pictures in a subset, at most; half of them all where there are fewer than twice as many."""
NEIGHBOURS: Final = 3
"""Precision and recall: reach of a picture, its third neighbour (Kynkäänniemi et al. 2019)."""


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
        count = self.count + other.count
        step = other.mean - self.mean
        self.scatter += other.scatter + np.outer(step, step) * (self.count * other.count / count)
        self.mean = self.mean + step * (other.count / count)
        self.count = count

    @property
    def covariance(self) -> Floats:
        """Unbiased covariance (size, size)."""
        return self.scatter / (self.count - 1)


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Squared Fréchet distance of two Gaussians (Dowson, Landau 1982; on Inception features: Heusel et al. 2017).

    |m1 − m2|² + tr C1 + tr C2 − 2 tr (C1 C2)^½ with unbiased covariances. With C1 = R Rᵀ the last trace is the sum of
    the square roots of the eigenvalues of Rᵀ C2 R, which is symmetric and as small as the first sample: seconds, where
    a matrix square root of C1 C2 takes a minute and complex numbers.

    Args:
        first: the true pictures'.
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
    values, vectors = np.linalg.eigh(first.covariance)
    # directions that do not vary are left out
    kept = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    root = vectors[:, kept] * np.sqrt(values[kept])
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root.T @ second.covariance @ root), 0, None)).sum()
    return max(0.0, float(step @ step + traces - 2 * shared))


def kernel_distance(originals: NDArray[np.float32], results: NDArray[np.float32]) -> tuple[float, float]:
    """Kernel distance (KID) of two sets of features (count, size), and its standard deviation over subsets.

    The unbiased estimate may be below zero. Subsets are drawn with a fixed seed.

    Raises:
        ValueError: fewer than four pictures on a side.
    """
    import torch
    from torch_fidelity.metric_kid import kid_features_to_metric

    fewest = min(len(originals), len(results))
    if fewest < 4:
        raise ValueError("a kernel distance needs at least four vectors on each side")
    found = kid_features_to_metric(
        torch.from_numpy(np.ascontiguousarray(results, np.float64)),
        torch.from_numpy(np.ascontiguousarray(originals, np.float64)),
        kid_subsets=KID_SUBSETS,
        kid_subset_size=min(KID_SIZE, fewest // 2),
        rng_seed=2020,
        verbose=False,
    )
    return found["kernel_inception_distance_mean"], found["kernel_inception_distance_std"]


def precision_recall(originals: NDArray[np.float32], results: NDArray[np.float32]) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019) of features (count, size), 0..1 each.

    Raises:
        ValueError: fewer than `NEIGHBOURS` + 1 pictures on a side.
    """
    import torch
    from torch_fidelity.metric_prc import prc_features_to_metric

    if min(len(originals), len(results)) <= NEIGHBOURS:
        raise ValueError(f"precision and recall need more than {NEIGHBOURS} vectors on each side")
    found = prc_features_to_metric(
        torch.from_numpy(np.ascontiguousarray(results)),
        torch.from_numpy(np.ascontiguousarray(originals)),
        prc_neighborhood=NEIGHBOURS,
        save_cpu_ram=True,
        verbose=False,
    )
    return found["precision"], found["recall"]
