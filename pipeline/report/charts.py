"""Charts of the page as geometry for SVG: histograms of gains, scatters face by face, training curves."""

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pipeline.metrics.registry import MEASURES
from pipeline.report.dvc_plots import histogram
from pipeline.report.findings import Group, Row, gains_of, signed

POINTS: Final = 600
"""Faces in a scatter, at most: evenly spaced over the ids beyond that."""
CURVES: Final = (
    ("valid_psnr", "PSNR on the valid split", "dB"),
    ("valid_ssim", "SSIM on the valid split", ""),
    ("pixel", "L1 in training", ""),
)
"""dvclive's name, title, unit."""
_WIDE, _HIGH = 400, 116


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
    gains = {method: [row["gain_psnr"] for row in gains_of(rows, group, method)] for method in methods}
    every = [value for values in gains.values() for value in values]
    if not every:
        return []
    span = (min(0.0, *every), max(0.0, *every))
    return [_chart(values, span, method) for method, values in gains.items() if values]


def scatter(rows: Sequence[Row], group: Group, key: str, first: str, second: str) -> dict[str, Any] | None:
    """Two methods face by face by one metric: points in a box of 300x300 over the same span, with a sentence.

    None where no face has both.
    """
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if (row["split"], row["scale"]) == group and row["method"] in (first, second) and row.get(key) is not None:
            found.setdefault(row["id"], {"name": row["name"]})[row["method"]] = row[key]
    faces = [found[one] for one in sorted(found) if first in found[one] and second in found[one]]
    if not faces:
        return None
    shown = faces[:: -(-len(faces) // POINTS)]
    values = [face[method] for face in faces for method in (first, second)]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    measure = MEASURES[key]
    better = sum((face[second] - face[first]) * measure.sign > 0 for face in faces)
    points = [
        {
            "x": round(300 * (face[first] - low) / span, 1),
            "y": round(300 - 300 * (face[second] - low) / span, 1),
            "label": f"{face['name']}: {face[first]:.{measure.digits}f}, {face[second]:.{measure.digits}f}",
        }
        for face in shown
    ]
    return {
        "key": key,
        "heading": measure.heading,
        "points": points,
        "low": f"{low:.{measure.digits}f}",
        "high": f"{high:.{measure.digits}f}",
        "text": f"{second} is better on {better} of {len(faces)} faces "
        f"({'above' if measure.sign > 0 else 'below'} the diagonal)",
    }


def curves(training: Path | None) -> list[dict[str, Any]]:
    """What dvclive recorded of each training, as lines in a box of 400x116; none where there are no records."""
    charts = []
    runs = sorted(path for path in training.iterdir() if path.is_dir()) if training and training.is_dir() else []
    for name, title, unit in CURVES:
        lines = {run.name: _read(run / "plots" / "metrics" / f"{name}.tsv") for run in runs}
        lines = {run: points for run, points in lines.items() if len(points) > 1}
        if not lines:
            continue
        every = [point for points in lines.values() for point in points]
        right, low, high = max(x for x, _ in every), min(y for _, y in every), max(y for _, y in every)
        drawn = []
        for run, points in lines.items():
            places = " ".join(
                f"{_WIDE * x / (right or 1):.1f},{_HIGH - 16 - (_HIGH - 26) * (y - low) / ((high - low) or 1):.1f}"
                for x, y in points
            )
            drawn.append({"name": run, "points": places})
        ends = ", ".join(f"{run} {points[0][1]:.4g} to {points[-1][1]:.4g}" for run, points in lines.items())
        charts.append(
            {
                "title": title,
                "unit": unit,
                "lines": drawn,
                "low": f"{low:.4g}",
                "high": f"{high:.4g}",
                "right": f"{right:.0f} steps",
                "text": f"{title}, from first to last: {ends}",
            }
        )
    return charts


def _read(path: Path) -> list[tuple[float, float]]:
    """(step, value) of a record, at most 300 of them."""
    if not path.is_file():
        return []
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    points = [(float(row["step"]), float(row[path.stem])) for row in rows if row.get(path.stem)]
    return points[:: -(-len(points) // 300) or 1]
