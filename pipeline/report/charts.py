"""Charts of the page as geometry for SVG: histograms of gains, scatters face by face, training curves."""

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.core.schema import Row
from pipeline.core.shards import evenly_spaced
from pipeline.metrics.registry import MEASURES, Measure, signed
from pipeline.report.dvc_plots import Histogram, histogram
from pipeline.report.findings import Group, rows_of

POINTS: Final = 600
"""Faces in a scatter, at most: evenly spaced over the ids beyond that."""
CURVE_POINTS: Final = 300
CURVES: Final = (
    ("valid_psnr", "PSNR on the valid split", "dB"),
    ("valid_ssim", "SSIM on the valid split", ""),
    ("pixel", "L1 in training", ""),
)
"""dvclive's name, title, unit."""
_WIDE, _HIGH = 400, 116


@dataclass(frozen=True)
class GainChart:
    """A histogram of one method's gains, with a sentence that says the same."""

    method: str
    bins: Histogram
    text: str


def gain_charts(rows: Sequence[Row], group: Group, methods: Sequence[str]) -> list[GainChart]:
    """A histogram of PSNR gains for each method, all of a group over the same span."""
    gains = {method: [row["gain_psnr"] for row in rows_of(rows, group, method, "gain_psnr")] for method in methods}
    pooled = [0.0, *(value for values in gains.values() for value in values)]
    drawn = []
    for method, values in gains.items():
        if values:
            median, low, high = (signed(value) for value in (statistics.median(values), values[0], values[-1]))
            won = f"above zero on {sum(value > 0 for value in values)} of {len(values)} faces"
            text = f"median {median} dB, from {low} to {high} dB, {won}"
            drawn.append(GainChart(method, histogram(values, span=(min(pooled), max(pooled))), text))
    return drawn


@dataclass(frozen=True)
class Scatter:
    """Two methods face by face by one metric, both axes over the same span, with a sentence."""

    measure: Measure
    faces: list[tuple[str, float, float]]
    """Name, value of the first method and of the second."""
    low: float
    high: float
    text: str

    def scaled(self, value: float) -> float:
        """Where a value lies on an axis 300 long."""
        return 300 * (value - self.low) / ((self.high - self.low) or 1.0)


def scatter(rows: Sequence[Row], group: Group, key: str, first: str, second: str) -> Scatter | None:
    """Draw two methods against each other; None where no face has both."""
    across, up = ({row["id"]: row for row in rows_of(rows, group, method, key)} for method in (first, second))
    ids = sorted(across.keys() & up.keys())
    if not ids:
        return None
    faces = [(across[face_id]["name"], across[face_id][key], up[face_id][key]) for face_id in ids]
    values = [value for _, *pair in faces for value in pair]
    measure = MEASURES[key]
    better = sum((y - x) * measure.sign > 0 for _, x, y in faces)
    side = "above" if measure.sign > 0 else "below"
    text = f"{second} is better on {better} of {len(faces)} faces ({side} the diagonal)"
    shown = [faces[index] for index in evenly_spaced(len(faces), POINTS)]
    return Scatter(measure, shown, min(values), max(values), text)


@dataclass(frozen=True)
class Curve:
    """One figure of every training, as lines in a box of 400x116."""

    title: str
    unit: str
    lines: dict[str, str]
    """Points of SVG by training."""
    low: str
    high: str
    right: str
    text: str


def curves(training: Path | None) -> list[Curve]:
    """What dvclive recorded of each training; nothing where there are no records."""
    drawn = []
    runs = sorted(path for path in training.iterdir() if path.is_dir()) if training and training.is_dir() else []
    for name, title, unit in CURVES:
        records = {run.name: _read(run / "plots" / "metrics" / f"{name}.tsv") for run in runs}
        records = {run: points for run, points in records.items() if len(points) > 1}
        if not records:
            continue
        steps, values = zip(*(point for points in records.values() for point in points), strict=True)
        right, low, high = max(steps), min(values), max(values)
        lines = {
            run: " ".join(
                f"{_WIDE * x / (right or 1):.1f},{_HIGH - 16 - (_HIGH - 26) * (y - low) / ((high - low) or 1):.1f}"
                for x, y in points
            )
            for run, points in records.items()
        }
        ends = ", ".join(f"{run} {points[0][1]:.4g} to {points[-1][1]:.4g}" for run, points in records.items())
        text = f"{title}, from first to last: {ends}"
        drawn.append(Curve(title, unit, lines, f"{low:.4g}", f"{high:.4g}", f"{right:.0f} steps", text))
    return drawn


def _read(path: Path) -> list[tuple[float, float]]:
    """(step, value) of a record, at most CURVE_POINTS of them."""
    if not path.is_file():
        return []
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    points = [(float(row["step"]), float(row[path.stem])) for row in rows if row.get(path.stem)]
    return [points[index] for index in evenly_spaced(len(points), CURVE_POINTS)]
