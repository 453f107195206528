"""How sure a mean is: bootstrap intervals, and paired tests of one method against others on the same faces."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Final, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class PairedTest(TypedDict):
    """Subject against another method by one metric, on the faces that both have; as `metrics.json` holds it."""

    mean: float
    """Of subject minus other."""
    ci95: list[float]
    p: float
    """Of Wilcoxon's signed-rank test, two-sided; 1 where all differences are zero."""
    p_holm: NotRequired[float]
    """Adjusted for the number of tests."""
    won: int
    """Faces where the subject is better."""
    count: int


RESAMPLES: Final = 2000
_BLOCK: Final = 100
"""Resamples drawn at once, which bounds the memory: 4 MB at 5,000 faces."""
_SEED: Final = 20240607


def bootstrap(values: Floats) -> Floats:
    """95 % percentile intervals of means over faces (Efron 1979), 2,000 resamples with a fixed seed.

    Args:
        values: (faces, columns), NaN where a face has no value; a column's mean is over those that have one.

    Returns:
        (columns, 2): lower and upper bound; NaN where no resample has a value.
    """
    count, columns = values.shape
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    both = np.concatenate([filled, known.astype(np.float64)], axis=1)
    random = np.random.default_rng(_SEED)
    means = np.empty((RESAMPLES, columns))
    for start in range(0, RESAMPLES, _BLOCK):
        drawn = random.integers(0, count, (_BLOCK, count))
        drawn += np.arange(_BLOCK)[:, None] * count
        # how often each face was drawn: all columns are then one product of matrices
        times = np.bincount(drawn.ravel(), minlength=_BLOCK * count).reshape(_BLOCK, count)
        sums = times.astype(np.float64) @ both
        with np.errstate(invalid="ignore", divide="ignore"):
            means[start : start + _BLOCK] = sums[:, :columns] / sums[:, columns:]
    bounds = np.full((columns, 2), np.nan)
    measured = known.any(axis=0)
    if measured.any():
        bounds[measured] = np.nanpercentile(means[:, measured], (2.5, 97.5), axis=0).T
    return bounds


def paired(differences: Mapping[str, Floats], signs: Mapping[str, int]) -> dict[str, PairedTest]:
    """Compare two methods on the same faces by several metrics.

    Args:
        differences: by metric, subject minus other on each face (faces,), NaN where either has none.
        signs: by metric, +1 where more is better.

    Returns:
        By metric with two faces or more.
    """
    from scipy.stats import wilcoxon

    tests: dict[str, PairedTest] = {}
    for key, values in differences.items():
        values = values[np.isfinite(values)]
        if len(values) < 2:
            continue
        # differences below rounding would be ranked as if they were real
        rounded = np.round(values, 9)
        p = float(wilcoxon(rounded).pvalue) if rounded.any() else 1.0
        low, high = bootstrap(values[:, None])[0]
        tests[key] = {
            "mean": round(float(values.mean()), 6),
            "ci95": [round(float(low), 6), round(float(high), 6)],
            "p": float(f"{p:.3g}"),
            "won": int((rounded * signs[key] > 0).sum()),
            "count": len(values),
        }
    return tests


def holm(p_values: list[float]) -> list[float]:
    """p-values adjusted for having been many (Holm 1979), in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    steps = (min(1.0, p_values[index] * (len(order) - rank)) for rank, index in enumerate(order))
    adjusted = dict(zip(order, accumulate(steps, max), strict=True))
    return [float(f"{adjusted[index]:.3g}") for index in range(len(order))]
