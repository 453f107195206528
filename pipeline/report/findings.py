"""What the numbers say: the verdict against bicubic, the tables with their best values, the warnings, extreme cases.

All of it is computed; nothing here knows which method ought to win.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.core.degradation import KINDS, MEASURED_SCALES
from pipeline.core.scales import AUGMENTED, BASELINE, BASELINES, UPSCALED_SCALES, base_of, inputs_of
from pipeline.core.schema import Row
from pipeline.evaluate.aggregate import TESTED
from pipeline.evaluate.cases import EvaluationConfig, count_small
from pipeline.evaluate.statistics import PairedTest
from pipeline.evaluate.summary import Score, Summary, joined, scores_of
from pipeline.metrics.defects import diagnose
from pipeline.metrics.registry import MAIN, MEASURES, Measure
from pipeline.report.tables import measured_keys

Group = tuple[str, str]
"""Split and scale."""

GROUPS: Final[tuple[Group, ...]] = tuple(
    (split, f"{scale}{inputs}")
    for inputs in ("", AUGMENTED)
    for split in ("test", "train")
    for scale in reversed(UPSCALED_SCALES)
)
"""In the order of interest: the first that was measured carries the headline. Others come behind."""
VERDICT_METRICS: Final = ("psnr", "ssim", "fid")
"""Metrics that the verdict weighs, where known."""
SIGNIFICANT: Final = 0.05
"""Adjusted p-value from which on a difference is not stated as one."""
FEW_FACES: Final = 100
"""Faces below which the page warns that the means may move with the choice of faces."""


def scale_name(scale: str) -> str:
    """256to1024 → 256 → 1024; of degraded inputs it says so."""
    if scale not in MEASURED_SCALES:
        return scale
    plain, inputs = base_of(scale).replace("to", " → "), inputs_of(scale)
    return f"{plain}, {inputs} inputs" if inputs else plain


def is_kind(group: Group) -> bool:
    """True if a group's inputs are of a kind: such groups have a table of their own."""
    return group[1] in MEASURED_SCALES and inputs_of(group[1]) in KINDS


def group_label(group: Group) -> str:
    """Split and scale, short."""
    return joined(", ", group[0], scale_name(group[1]))


def measured(summary: Summary) -> list[Group]:
    """Splits and scales of which there are means, the headline's first."""
    groups = {(split, scale) for split, scale, _, score in scores_of(summary) if score["count"]}
    return sorted(groups, key=lambda group: (GROUPS.index(group) if group in GROUPS else len(GROUPS), group))


def rows_of(rows: Sequence[Row], group: Group, method: str, key: str, sign: int = 1) -> list[Row]:
    """Rows of a method in one split and scale that have a value, by rising `sign` times that."""
    chosen = [
        row
        for row in rows
        if (row["split"], row["scale"], row["method"]) == (*group, method) and row.get(key) is not None
    ]
    return sorted(chosen, key=lambda row: (row[key] * sign, row["id"]))


def pick_extremes(rows: Sequence[Row], group: Group, subject: str, each: int = 3) -> list[Row]:
    """The subject's worst, median and best faces by PSNR gain, rising, each row with its `kind`."""
    rising = rows_of(rows, group, subject, "gain_psnr")
    middle = max((len(rising) - each) // 2, 0)
    kinds = {"worst": rising[:each], "best": rising[::-1][:each], "median": rising[middle : middle + each]}
    picked: dict[str, Row] = {}
    for kind, faces in kinds.items():
        for row in faces:
            # of few faces one can be two of these; it is shown once
            picked.setdefault(row["id"], row | {"kind": kind})
    return sorted(picked.values(), key=lambda row: (row["gain_psnr"], row["id"]))


def pick_all(rows: Sequence[Row], group: Group, subject: str) -> list[Row]:
    """The subject's worst, median and best face by the gain and by every other metric, each row with `by` and `kind`.

    Three of each by the gain where there is one, which the page's first table of faces is about, one by each metric.
    """
    picked = [row | {"by": "gain_psnr"} for row in pick_extremes(rows, group, subject)]
    for key in TESTED:
        if rising := rows_of(rows, group, subject, key, MEASURES[key].sign):
            kinds = {"worst": rising[0], "median": rising[(len(rising) - 1) // 2], "best": rising[-1]}
            picked += [row | {"by": key, "kind": kind} for kind, row in kinds.items()]
    return picked


@dataclass(frozen=True)
class Verdict:
    """Subject against the baseline in one split and scale."""

    group: Group
    outcome: str
    """In words."""
    score: Score
    """The subject's."""
    base: Score
    """The baseline's."""
    deltas: dict[str, float]
    """Subject minus baseline, by VERDICT_METRICS that both have over the same faces."""
    test: PairedTest | None
    """Of PSNR."""
    won: int
    """Faces where the subject's PSNR is higher."""
    faces: int


def verdict(
    summary: Summary, rows: Sequence[Row], group: Group, subject: str, baseline: str = BASELINE
) -> Verdict | None:
    """Weigh the subject against the baseline; None where either has no results.

    It beats it where no metric (PSNR, SSIM, FID where known) is worse and one is better; it does not where none is
    better.
    """
    methods = summary[group[0]][group[1]]
    score, base = methods.get(subject, {}), methods.get(baseline, {})
    if not score.get("count") or score["count"] != base.get("count"):
        return None
    both = [key for key in VERDICT_METRICS if None not in (score.get(key), base.get(key))]
    deltas = {key: score[key] - base[key] for key in both}
    if "psnr" not in deltas:
        return None
    better = any(delta * MEASURES[key].sign > 0 for key, delta in deltas.items())
    worse = any(delta * MEASURES[key].sign < 0 for key, delta in deltas.items())
    outcome = "does not beat" if not better else "only partly beats" if worse else "beats"
    gains = [row["gain_psnr"] for row in rows_of(rows, group, subject, "gain_psnr")]
    test = base.get("against", {}).get(subject, {}).get("psnr")
    return Verdict(group, outcome, score, base, deltas, test, sum(gain > 0 for gain in gains), len(gains))


def columns_of(summary: Summary, keys: Sequence[str] = MAIN) -> list[Measure]:
    """Metrics of which any method has a figure."""
    return [MEASURES[key] for key in measured_keys(summary, keys)]


def comparable(summary: Summary, group: Group) -> dict[str, dict[str, Score]]:
    """Scores over the same faces: "" for those that all methods have, then by each method that has only some."""
    methods = summary[group[0]][group[1]]
    partial = sorted(method for method, score in methods.items() if "on_same_faces" in score)
    sets = {"": {method: score for method, score in methods.items() if method not in partial}}
    sets |= {method: {method: methods[method], **methods[method]["on_same_faces"]} for method in partial}
    return {name: scores for name, scores in sets.items() if scores}


def best(scores: Mapping[str, Score], measure: Measure) -> str | None:
    """The best figure of several methods as it is shown; None where fewer than two have one."""
    values = [score[measure.key] * measure.sign for score in scores.values() if score.get(measure.key) is not None]
    return measure.text(max(values) * measure.sign) if len(values) > 1 else None


def tests(summary: Summary, group: Group, subject: str) -> list[tuple[str, Measure, PairedTest]]:
    """The paired tests of the subject against each other method by each metric."""
    return [
        (method, MEASURES[key], test)
        for method, score in summary[group[0]][group[1]].items()
        for key, test in score.get("against", {}).get(subject, {}).items()
    ]


def effect(test: PairedTest, measure: Measure) -> str:
    """What a test says of the subject, in words."""
    if test["p_holm"] >= SIGNIFICANT:
        return "no difference shown"
    return "better" if test["mean"] * measure.sign > 0 else "worse"


def p_text(p: float) -> str:
    """A p-value as papers print it."""
    return "< .001" if p < 0.001 else f"{p:.3f}".lstrip("0")


def compared(summary: Summary, group: Group, baseline: str) -> list[str]:
    """Methods whose gains over the baseline are worth a chart: all but what Pillow makes."""
    return [method for method in summary[group[0]][group[1]] if method not in (*BASELINES, baseline)]


def defects(summary: Summary) -> list[str]:
    """What is wrong with a method on clean or augmented inputs, a sentence each."""
    found: dict[str, list[str]] = {}
    for group in (group for group in measured(summary) if not is_kind(group)):
        for method, score in summary[group[0]][group[1]].items():
            for defect in diagnose(score):
                found.setdefault(f"{method}: {defect}", []).append(group_label(group))
    return [f"{defect} ({'; '.join(groups)})." for defect, groups in found.items()]


def warnings(summary: Summary, config: EvaluationConfig) -> list[str]:
    """What a reader must know before believing the numbers."""
    notes: list[str] = []
    if config.synthetic:
        notes.append("The faces are drawn by a program, not photographed: no figure here tells how photographs fare.")
    if config.random_vgg:
        notes.append("The perceptual loss had a VGG-19 with random weights instead of ImageNet's.")
    if small := count_small(config):
        counts = ", ".join(f"{count} of {split}" for split, count in small.items())
        notes.append(f"Faces under 256x256 have no 64 → 256 pair and no original, and are not measured: {counts}.")
    without = [
        split for split, scales in summary.items() if UPSCALED_SCALES[0] in scales and UPSCALED_SCALES[1] not in scales
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
        if count < FEW_FACES and not is_kind(group):
            few.append(f"{count} ({group_label(group)})")
        for method, score in scores.items():
            for key, measure in MEASURES.items():
                if score["count"] and (reason := score.get(f"{key}_reason")):
                    reasons.setdefault(reason, []).append(measure.heading)
            if warning := score.get("fid_warning"):
                reasons.setdefault(warning, []).append("FID")
            if score["failed"]:
                failures.append(f"{method} {score['failed']} ({group_label(group)})")
    if few:
        notes.append(f"Few faces: {'; '.join(few)}. Other faces could move the means by more than methods differ.")
    notes += [f"{', '.join(dict.fromkeys(names))}: {reason}." for reason, names in reasons.items()]
    if failures:
        notes.append(f"Faces without a result, left out for every method: {'; '.join(failures)}.")
    return notes
