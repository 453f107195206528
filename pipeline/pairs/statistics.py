"""What was drawn: how many pairs of which scale and augmentation, and how strong they are."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, NotRequired, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.chain import CHAIN_COLUMNS
from pipeline.core.chain_draws import ChainRanges
from pipeline.core.scales import AUGMENTATIONS, SCALE_OF_USE, TRAINED_SCALES

STRENGTHS: Final = {"noise": "sigma, grey levels", "blur": "sigma, pixels", "jpeg": "quality"}
"""Augmentations that have a strength, and what it is."""

LINKS: Final = {
    "blur": "sigma, pixels of the input",
    "noise": "sigma, grey levels",
    "grey": "share of the noise's variance that channels have in common",
    "first_jpeg": "quality of an earlier compression",
    "shift": "of its blocks, pixels",
    "jpeg": "quality",
}
"""Links of a chain that are numbers, and what they are."""
CHOICES: Final = ("reduction", "subsampling", "tables")
"""Links that are one of several."""

Counts = dict[str, int]


class ChainSummary(TypedDict):
    """Chains of the train split."""

    pairs: int
    """That have at least one link."""
    links: dict[str, dict[str, float]]
    """`pairs`, and `share` and `asked`, 0 to 1, of each."""
    strengths: dict[str, dict[str, float]]
    """As those of augmentations, of LINKS that were drawn."""
    choices: dict[str, Counts]
    """Of CHOICES: pairs by what was drawn."""


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
    chains: NotRequired[ChainSummary]
    """Where chains were asked for."""


def summarise(
    manifest: pa.Table,
    faces: Iterable[tuple[str, int]],
    chances: Mapping[str, float],
    ranges: ChainRanges | None = None,
) -> PairsSummary:
    """Count the manifest.

    Args:
        manifest: with the columns split, scale, augmentation, strength and, where there are chains, theirs.
        faces: split and input's side of every face, test faces too.
        chances: relative chance of each augmentation, as it was asked for.
        ranges: chains, as they were asked for.
    """
    sides = Counter(faces)
    train = manifest.filter(pc.equal(manifest["split"], "train"))
    valid = manifest.filter(pc.equal(manifest["split"], "valid"))
    drawn, total = _counts(train["augmentation"]), sum(chances.values())
    by_split: dict[str, Counts] = {}
    for (split, side), count in sorted(sides.items()):
        by_split.setdefault(split, {})[str(side)] = count
    summary: PairsSummary = {
        "faces": {split: sum(counts.values()) for split, counts in by_split.items()},
        "sides": by_split,
        "pairs": {"train": train.num_rows, "valid": valid.num_rows},
        "scales": _by_scale(train),
        "valid_scales": _by_scale(valid),
        "augmentations": {
            name: {
                "pairs": drawn.get(name, 0),
                "share": _share(drawn.get(name, 0), train.num_rows),
                "asked": round(chances.get(name, 0.0) / total, 6),
            }
            for name in AUGMENTATIONS
        },
        "strengths": {name: _spread(values) for name in STRENGTHS if len(values := strengths(train, name))},
    }
    if ranges is not None:
        summary["chains"] = _chains(train, ranges)
    return summary


def _chains(train: pa.Table, ranges: ChainRanges) -> ChainSummary:
    drawn = {name: train.num_rows - train[name].null_count for name in CHAIN_COLUMNS}
    some = np.zeros(train.num_rows, bool)
    for name in CHAIN_COLUMNS:
        some |= train[name].is_valid().to_numpy()
    reduced = _share(pc.sum(pc.not_equal(train["scale"], SCALE_OF_USE)).as_py() or 0, train.num_rows)
    asked = asked_links(ranges, reduced)
    return {
        "pairs": int(some.sum()),
        "links": {
            name: {"pairs": drawn[name], "share": _share(drawn[name], train.num_rows), "asked": round(asked[name], 6)}
            for name in CHAIN_COLUMNS
        },
        "strengths": {name: _spread(values) for name in LINKS if len(values := link_strengths(train, name))},
        "choices": {name: dict(sorted(_counts(train[name].drop_null()).items())) for name in CHOICES},
    }


def asked_links(ranges: ChainRanges, reduced: float) -> dict[str, float]:
    """Share of the pairs, 0 to 1, that get each link; `reduced`: share that is reduced from a ground truth."""
    share = reduced * ranges.share + (1 - reduced) * ranges.of_use
    noise, jpeg = share * ranges.noise_chance, share * ranges.jpeg_chance
    twice = jpeg * ranges.twice_chance
    asked: dict[str, Any] = {
        "reduction": ranges.share * ranges.reduction_chance * reduced,
        "blur": share * ranges.blur_chance,
        "noise": noise,
        "grey": noise * ranges.grey_chance,
        "first_jpeg": twice,
        "shift": twice,
        "jpeg": jpeg,
        "subsampling": jpeg,
        "tables": jpeg * ranges.tables_chance,
    }
    return asked


def link_strengths(train: pa.Table, link: str) -> np.ndarray:
    """Select a link's values where it is there, of LINKS, in a part of the manifest, float64 (n,)."""
    return train[link].drop_null().cast(pa.float64()).to_numpy()


def _share(count: int, total: int) -> float:
    return round(count / max(1, total), 6)


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
