"""What was drawn: how many pairs of which scale and augmentation, and how strong they are."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.scales import AUGMENTATIONS, TRAINED_SCALES

STRENGTHS: Final = {"noise": "sigma, grey levels", "blur": "sigma, pixels", "jpeg": "quality"}
"""Augmentations that have a strength, and what it is."""

Counts = dict[str, int]


class PairsSummary(TypedDict):
    """What `pairs.json` holds."""

    faces: Counts
    """By split."""
    sides: dict[str, Counts]
    """By split and side of the input, pixels."""
    pairs: Counts
    """By split."""
    scales: Counts
    """Of the train split."""
    valid_scales: Counts
    augmentations: dict[str, dict[str, float]]
    """Of the train split: `pairs`, and `share` and `asked`, 0 to 1, of each."""
    strengths: dict[str, dict[str, float]]
    """Of the train split: `min`, `q1`, `median`, `mean`, `q3`, `max` of each that has a strength and was drawn."""


def summarise(manifest: pa.Table, faces: Iterable[tuple[str, int]], chances: Mapping[str, float]) -> PairsSummary:
    """Count the manifest.

    Args:
        manifest: with the columns split, scale, augmentation, strength.
        faces: split and input's side of every face, test faces too.
        chances: relative chance of each augmentation, as it was asked for.
    """
    sides = Counter(faces)
    train = manifest.filter(pc.equal(manifest["split"], "train"))
    valid = manifest.filter(pc.equal(manifest["split"], "valid"))
    drawn, total = _counts(train["augmentation"]), sum(chances.values())
    by_split: dict[str, Counts] = {}
    for (split, side), count in sorted(sides.items()):
        by_split.setdefault(split, {})[str(side)] = count
    return {
        "faces": {split: sum(counts.values()) for split, counts in by_split.items()},
        "sides": by_split,
        "pairs": {"train": train.num_rows, "valid": valid.num_rows},
        "scales": _by_scale(train),
        "valid_scales": _by_scale(valid),
        "augmentations": {
            name: {
                "pairs": drawn.get(name, 0),
                "share": round(drawn.get(name, 0) / max(1, train.num_rows), 6),
                "asked": round(chances.get(name, 0.0) / total, 6),
            }
            for name in AUGMENTATIONS
        },
        "strengths": {name: _spread(values) for name in STRENGTHS if len(values := strengths(train, name))},
    }


def strengths(train: pa.Table, augmentation: str) -> np.ndarray:
    """Select the strengths of one augmentation in a part of the manifest, float64 (n,)."""
    return train.filter(pc.equal(train["augmentation"], augmentation))["strength"].to_numpy()


def _counts(column: pa.ChunkedArray) -> Counts:
    return {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}


def _by_scale(pairs: pa.Table) -> Counts:
    counts = _counts(pairs["scale"])
    return {scale: counts[scale] for scale in TRAINED_SCALES if scale in counts}


def _spread(values: np.ndarray) -> dict[str, float]:
    low, first, middle, third, high = np.percentile(values, [0, 25, 50, 75, 100]).tolist()
    spread = {"min": low, "q1": first, "median": middle, "mean": float(values.mean()), "q3": third, "max": high}
    return {name: round(value, 4) for name, value in spread.items()}
