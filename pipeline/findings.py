"""What the numbers say: the verdict against bicubic, the tables with their best values, the warnings, extreme cases.

All of it is computed; nothing here knows which method ought to win.
"""

import statistics
from collections.abc import Sequence
from typing import Any, Final

from pipeline.cases import EvaluationConfig
from pipeline.plots import BASELINE, histogram

Row = dict[str, Any]
Group = tuple[str, str]
"""Split and scale."""

GROUPS: Final[tuple[Group, ...]] = (
    ("test", "256to1024"),
    ("test", "64to256"),
    ("train", "256to1024"),
    ("train", "64to256"),
)
"""In the order of interest: the first that was measured carries the headline."""
METRICS: Final = (
    ("psnr", "PSNR, dB", 2, 1),
    ("ssim", "SSIM", 4, 1),
    ("consistency", "Consistency", 2, -1),
    ("fid", "FID", 2, -1),
)
"""Key, heading, decimals, and +1 where more is better."""
JUDGES: Final = ("psnr", "ssim", "fid")
"""Metrics that the verdict weighs, where known."""
FEW_FACES: Final = 100
"""Faces below which the page warns that the means may move with the choice of faces."""


def scale_name(scale: str) -> str:
    """256to1024 → 256 → 1024."""
    return scale.replace("to", " → ")


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, by the typographic minus: +0.77, −0.10."""
    return f"{value:+.{digits}f}".replace("-", "−")


def measured(summary: dict[str, Any]) -> list[Group]:
    """Splits and scales of which there are means, the headline's first."""
    return [
        (split, scale)
        for split, scale in GROUPS
        if summary.get(split, {}).get(scale, {}).get(BASELINE, {}).get("count")
    ]


def _gains(rows: Sequence[Row], group: Group, method: str) -> list[Row]:
    """Rows of a method with a gain, by rising gain."""
    mine = [
        row
        for row in rows
        if (row["split"], row["scale"], row["method"]) == (*group, method) and row["gain_psnr"] is not None
    ]
    return sorted(mine, key=lambda row: (row["gain_psnr"], row["id"]))


def pick_extremes(rows: Sequence[Row], group: Group, subject: str, each: int = 3) -> list[Row]:
    """The subject's worst, median and best faces by PSNR gain, rising, each row with its `kind`."""
    mine = _gains(rows, group, subject)
    middle = max((len(mine) - each) // 2, 0)
    picked: dict[str, Row] = {}
    for kind, some in (("worst", mine[:each]), ("best", mine[::-1][:each]), ("median", mine[middle : middle + each])):
        for row in some:
            # of few faces one can be two of these; it is shown once
            picked.setdefault(row["id"], {**row, "kind": kind})
    return sorted(picked.values(), key=lambda row: (row["gain_psnr"], row["id"]))


def verdict(summary: dict[str, Any], rows: Sequence[Row], group: Group, subject: str) -> dict[str, Any] | None:
    """Subject against bicubic in one split and scale: `outcome` in words, the differences, and on how many faces.

    It beats bicubic where no judge (PSNR, SSIM, FID where known) is worse and one is better; it does not where none is
    better. None where the subject has no results.
    """
    methods = summary[group[0]][group[1]]
    mine, base = methods.get(subject, {}), methods[BASELINE]
    if not mine.get("count"):
        return None
    signs = {name: sign for name, _, _, sign in METRICS}
    deltas = {name: mine[name] - base[name] for name in JUDGES if mine[name] is not None and base[name] is not None}
    better = [name for name, delta in deltas.items() if delta * signs[name] > 0]
    worse = [name for name, delta in deltas.items() if delta * signs[name] < 0]
    outcome = "does not beat" if not better else "only partly beats" if worse else "beats"
    gains = [row["gain_psnr"] for row in _gains(rows, group, subject)]
    return {
        "group": group,
        "outcome": outcome,
        "psnr": f"{mine['psnr']:.2f}",
        "base": f"{base['psnr']:.2f}",
        "gain": signed(deltas["psnr"]),
        "ssim": signed(deltas["ssim"], 4),
        "fid": signed(deltas["fid"]) if "fid" in deltas else None,
        "won": sum(gain > 0 for gain in gains),
        "faces": len(gains),
    }


def table(summary: dict[str, Any], group: Group) -> list[dict[str, Any]]:
    """Lines of one split's and scale's table: `method`, `cells` (`text`, `best`), `count`, `failed`."""
    methods = summary[group[0]][group[1]]
    lines = []
    for method, score in methods.items():
        cells = []
        for key, _, digits, sign in METRICS:
            values = [one[key] for one in methods.values() if one[key] is not None]
            text = "–" if score[key] is None else f"{score[key]:.{digits}f}"
            # values that read the same on the page are marked alike
            top = f"{max(value * sign for value in values) * sign:.{digits}f}" if values else None
            cells.append({"text": text, "best": text == top})
        lines.append({"method": method, "cells": cells, "count": score["count"], "failed": score["failed"]})
    return lines


def warnings(summary: dict[str, Any], config: EvaluationConfig) -> list[str]:
    """What a reader must know before believing the numbers."""
    notes: list[str] = []
    if config.get("synthetic"):
        notes.append("The faces are drawn by a program, not photographed: no figure here tells how photographs fare.")
    if config.get("random_vgg"):
        notes.append("The perceptual loss had a VGG-19 with random weights instead of ImageNet's.")
    if small := config.get("small"):
        counts = ", ".join(f"{count} of {split}" for split, count in small.items())
        notes.append(f"Faces under 256x256 have no 64 → 256 pair and no original, and are not measured: {counts}.")
    few: list[str] = []
    reasons: list[str] = []
    failures: list[str] = []
    for split, scale in GROUPS:
        for method, score in summary.get(split, {}).get(scale, {}).items():
            place = f"{split}, {scale_name(scale)}"
            if method == BASELINE and score["count"] < FEW_FACES:
                few.append(f"{score['count']} ({place})")
            reasons += [reason for reason in (score["fid_reason"], score.get("fid_warning")) if reason]
            if score["failed"]:
                failures.append(f"{method} {score['failed']} ({place})")
    if few:
        notes.append(f"Few faces: {'; '.join(few)}. Other faces could move the means by more than methods differ.")
    notes += [f"FID: {reason}." for reason in dict.fromkeys(reasons)]
    if failures:
        notes.append(f"Faces without a result, left out for every method: {'; '.join(failures)}.")
    return notes


def _chart(values: list[float], span: tuple[float, float], method: str) -> dict[str, Any]:
    """A histogram as bars in a box of 400x96, with a sentence that says the same."""
    bins = histogram(values, span=span)
    wide = 400 / len(bins.counts)
    bars = []
    for place, count in enumerate(bins.counts):
        left = bins.low + place * bins.width
        height = round(90 * count / max(bins.counts), 2)
        bars.append(
            {
                "x": round(place * wide + 1, 2),
                "y": 96 - height,
                "width": round(wide - 2, 2),
                "height": height,
                "loss": left < -bins.width / 2,
                "label": f"{signed(left)} to {signed(left + bins.width)} dB: {count}",
            }
        )
    median = statistics.median(values)
    scale = 400 / (bins.high - bins.low)
    return {
        "method": method,
        "bars": bars,
        "zero": round(-bins.low * scale, 2),
        "median": round((median - bins.low) * scale, 2),
        "low": signed(bins.low),
        "high": signed(bins.high),
        "text": f"median {signed(median)} dB, from {signed(values[0])} to {signed(values[-1])} dB, "
        f"above zero on {sum(value > 0 for value in values)} of {len(values)} faces",
    }


def charts(rows: Sequence[Row], group: Group, methods: Sequence[str]) -> list[dict[str, Any]]:
    """A histogram of PSNR gains for each method, all of a group over the same span."""
    gains = {method: [row["gain_psnr"] for row in _gains(rows, group, method)] for method in methods}
    every = [value for values in gains.values() for value in values]
    if not every:
        return []
    span = (min(0.0, *every), max(0.0, *every))
    return [_chart(values, span, method) for method, values in gains.items() if values]
