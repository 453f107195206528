"""What the numbers say: the verdict against bicubic, the tables with their best values, the warnings, extreme cases.

All of it is computed; nothing here knows which method ought to win.
"""

from collections.abc import Sequence
from typing import Any, Final

from pipeline.core.scales import AUGMENTED, BASELINE, BASELINES, MEASURED_SCALES
from pipeline.evaluate.aggregate import TESTED
from pipeline.evaluate.cases import EvaluationConfig
from pipeline.metrics.defects import diagnose
from pipeline.metrics.registry import MAIN, MEASURES, Measure
from pipeline.report.tables import cell, measured_keys

Row = dict[str, Any]
Group = tuple[str, str]
"""Split and scale."""

GROUPS: Final[tuple[Group, ...]] = (
    ("test", "256to1024"),
    ("test", "64to256"),
    ("train", "256to1024"),
    ("train", "64to256"),
    *((split, f"{scale}{AUGMENTED}") for split in ("test", "train") for scale in ("256to1024", "64to256")),
)
"""In the order of interest: the first that was measured carries the headline. Others come behind."""
JUDGES: Final = ("psnr", "ssim", "fid")
"""Metrics that the verdict weighs, where known."""
SIGNIFICANT: Final = 0.05
"""Adjusted p-value from which on a difference is not told as one."""
FEW_FACES: Final = 100
"""Faces below which the page warns that the means may move with the choice of faces."""


def scale_name(scale: str) -> str:
    """256to1024 → 256 → 1024; of augmented inputs it says so."""
    plain = scale.removesuffix(AUGMENTED).replace("to", " → ") if scale in MEASURED_SCALES else scale
    return f"{plain}, augmented inputs" if scale.endswith(AUGMENTED) else plain


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, by the typographic minus: +0.77, −0.10."""
    return f"{value:+.{digits}f}".replace("-", "−")


def measured(summary: dict[str, Any]) -> list[Group]:
    """Splits and scales of which there are means, the headline's first."""
    every = [(split, scale) for split, scales in summary.items() for scale in scales]
    some = [group for group in every if any(score["count"] for score in summary[group[0]][group[1]].values())]
    return sorted(some, key=lambda group: (GROUPS.index(group) if group in GROUPS else len(GROUPS), group))


def gains_of(rows: Sequence[Row], group: Group, method: str) -> list[Row]:
    """Rows of a method with a gain, by rising gain."""
    mine = [
        row
        for row in rows
        if (row["split"], row["scale"], row["method"]) == (*group, method) and row["gain_psnr"] is not None
    ]
    return sorted(mine, key=lambda row: (row["gain_psnr"], row["id"]))


def pick_extremes(rows: Sequence[Row], group: Group, subject: str, each: int = 3) -> list[Row]:
    """The subject's worst, median and best faces by PSNR gain, rising, each row with its `kind`."""
    mine = gains_of(rows, group, subject)
    middle = max((len(mine) - each) // 2, 0)
    picked: dict[str, Row] = {}
    for kind, some in (("worst", mine[:each]), ("best", mine[::-1][:each]), ("median", mine[middle : middle + each])):
        for row in some:
            # of few faces one can be two of these; it is shown once
            picked.setdefault(row["id"], {**row, "kind": kind})
    return sorted(picked.values(), key=lambda row: (row["gain_psnr"], row["id"]))


def pick_all(rows: Sequence[Row], group: Group, subject: str) -> list[Row]:
    """The subject's worst, median and best face by the gain and by every other metric, each row with `by` and `kind`.

    Three of each by the gain where there is one, which the page's first table of faces is about, one by each metric.
    """
    picked = [{**row, "by": "gain_psnr"} for row in pick_extremes(rows, group, subject)]
    mine = [row for row in rows if (row["split"], row["scale"], row["method"]) == (*group, subject)]
    for key in TESTED:
        known = sorted(
            (row for row in mine if row.get(key) is not None),
            key=lambda row: (row[key] * MEASURES[key].sign, row["id"]),
        )
        if known:
            places = {"worst": 0, "median": (len(known) - 1) // 2, "best": len(known) - 1}
            picked += [{**known[place], "by": key, "kind": kind} for kind, place in places.items()]
    return picked


def verdict(
    summary: dict[str, Any], rows: Sequence[Row], group: Group, subject: str, baseline: str = BASELINE
) -> dict[str, Any] | None:
    """Subject against the baseline in one split and scale: `outcome` in words, the differences, and on how many faces.

    It beats it where no judge (PSNR, SSIM, FID where known) is worse and one is better; it does not where none is
    better. None where the subject has no results.
    """
    methods = summary[group[0]][group[1]]
    mine, base = methods.get(subject, {}), methods.get(baseline, {})
    if not mine.get("count") or not base.get("count"):
        return None
    deltas = {
        name: mine[name] - base[name]
        for name in JUDGES
        if mine.get(name) is not None and base.get(name) is not None and mine["count"] == base["count"]
    }
    if "psnr" not in deltas:
        return None
    better = [name for name, delta in deltas.items() if delta * MEASURES[name].sign > 0]
    worse = [name for name, delta in deltas.items() if delta * MEASURES[name].sign < 0]
    outcome = "does not beat" if not better else "only partly beats" if worse else "beats"
    gains = [row["gain_psnr"] for row in gains_of(rows, group, subject)]
    test = base.get("against", {}).get(subject, {}).get("psnr")
    sure = f"95 % of resamples between {signed(test['ci95'][0])} and {signed(test['ci95'][1])} dB" if test else None
    return {
        "sure": sure,
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


def columns_of(summary: dict[str, Any], keys: Sequence[str] = MAIN) -> list[Measure]:
    """Metrics of which any method has a figure."""
    return [MEASURES[key] for key in measured_keys(summary, keys)]


def table(summary: dict[str, Any], group: Group, keys: Sequence[str] = MAIN) -> list[dict[str, Any]]:
    """Lines of one split's and scale's table: `method`, `cells` (`text`, `value`, `best`, `span`), `count`, `failed`.

    A method over fewer faces stands apart with the others over the same faces: lines of one `set` are comparable.
    """
    methods = summary[group[0]][group[1]]
    partial = {method for method, score in methods.items() if "on_same_faces" in score}
    sets = [("", {method: score for method, score in methods.items() if method not in partial})]
    sets += [
        (method, {method: methods[method], **methods[method]["on_same_faces"]})
        for method in methods
        if method in partial
    ]
    shown = columns_of(summary, keys)
    lines = []
    for name, scores in sets:
        for method, score in scores.items():
            cells = [_cell(score, measure, list(scores.values())) for measure in shown]
            line = {"method": method, "cells": cells, "count": score["count"], "failed": score.get("failed", 0)}
            lines.append(line | {"set": name})
    return lines


def _cell(score: dict[str, Any], measure: Measure, others: list[dict[str, Any]]) -> dict[str, Any]:
    """One figure; `best` where none of the others reads better on the page."""
    value = score.get(measure.key)
    values = [one[measure.key] * measure.sign for one in others if one.get(measure.key) is not None]
    top = f"{max(values) * measure.sign:.{measure.digits}f}" if len(values) > 1 else None
    bounds = score.get(f"{measure.key}_ci95")
    span = " to ".join(f"{bound:.{measure.digits}f}" for bound in bounds).replace("-", "−") if bounds else ""
    best = value is not None and f"{value:.{measure.digits}f}" == top
    return {"text": cell(score, measure.key), "value": value, "best": best, "span": span}


def tests(summary: dict[str, Any], group: Group, subject: str) -> list[dict[str, Any]]:
    """Lines of the paired tests: subject against each other method by each metric."""
    lines = []
    for method, score in summary[group[0]][group[1]].items():
        for key, test in score.get("against", {}).get(subject, {}).items():
            measure = MEASURES[key]
            says = "better" if test["mean"] * measure.sign > 0 else "worse"
            lines.append(
                {
                    "method": method,
                    "metric": measure.heading,
                    "mean": signed(test["mean"], measure.digits),
                    "low": signed(test["ci95"][0], measure.digits),
                    "high": signed(test["ci95"][1], measure.digits),
                    "p": "< .001" if test["p_holm"] < 0.001 else f"{test['p_holm']:.3f}".lstrip("0"),
                    "won": test["won"],
                    "count": test["count"],
                    "says": says if test["p_holm"] < SIGNIFICANT else "no difference shown",
                }
            )
    return lines


def compared(summary: dict[str, Any], group: Group, baseline: str) -> list[str]:
    """Methods whose gains over the baseline are worth a chart: all but what Pillow makes."""
    return [method for method in summary[group[0]][group[1]] if method not in (*BASELINES, baseline)]


def faults(summary: dict[str, Any]) -> list[str]:
    """What is wrong with a method, a sentence each."""
    found: dict[str, list[str]] = {}
    for group in measured(summary):
        for method, score in summary[group[0]][group[1]].items():
            for fault in diagnose(score):
                found.setdefault(f"{method}: {fault}", []).append(place_name(group))
    return [f"{fault} ({'; '.join(places)})." for fault, places in found.items()]


def place_name(group: Group) -> str:
    """Split and scale, short."""
    return ", ".join(part for part in (group[0], scale_name(group[1])) if part)


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
    without = [
        split for split, scales in summary.items() if MEASURED_SCALES[0] in scales and MEASURED_SCALES[1] not in scales
    ]
    if without:
        splits = " and ".join(sorted(without, reverse=True))
        notes.append(f"No face of {splits} has an original of four times its input: only 64 → 256 is measured there.")
    few: list[str] = []
    reasons: dict[str, list[str]] = {}
    failures: list[str] = []
    for group in measured(summary):
        scores = summary[group[0]][group[1]]
        count = max(score["count"] for score in scores.values())
        if count < FEW_FACES:
            few.append(f"{count} ({place_name(group)})")
        for method, score in scores.items():
            for key, measure in MEASURES.items():
                if score["count"] and (reason := score.get(f"{key}_reason")):
                    reasons.setdefault(reason, []).append(measure.heading)
            if warning := score.get("fid_warning"):
                reasons.setdefault(warning, []).append("FID")
            if score["failed"]:
                failures.append(f"{method} {score['failed']} ({place_name(group)})")
    if few:
        notes.append(f"Few faces: {'; '.join(few)}. Other faces could move the means by more than methods differ.")
    notes += [f"{', '.join(dict.fromkeys(names))}: {reason}." for reason, names in reasons.items()]
    if failures:
        notes.append(f"Faces without a result, left out for every method: {'; '.join(failures)}.")
    return notes
