"""Tables for `dvc plots show`, and the geometry of the report's histogram."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.files import write_bytes
from pipeline.core.scales import BASELINE
from pipeline.metrics.registry import MAIN, PER_FACE

"""What gains are measured against."""
_PER_IMAGE = ("id", "name", "split", "scale", "method", *PER_FACE, "gain_psnr")
_SHORT = ("psnr", "ssim", "ms_ssim", "consistency", "lpips", "dists", "identity", "fid", "kid")


def with_gains(rows: Iterable[dict[str, Any]], baseline: str = BASELINE) -> list[dict[str, Any]]:
    """METRICS rows plus `gain_psnr`: dB over the baseline on the same face; null where it has no result."""
    listed = list(rows)
    base = {(row["split"], row["scale"], row["id"]): row["psnr"] for row in listed if row["method"] == baseline}
    gains = []
    for row in listed:
        reference = base.get((row["split"], row["scale"], row["id"]))
        gains.append({**row, "gain_psnr": None if reference is None else row["psnr"] - reference})
    return gains


def short(summary: dict[str, Any]) -> dict[str, Any]:
    """The figures that `dvc metrics show` and `diff` are for: `{"<split> <scale>": {method: {key: value}}}`."""
    return {
        f"{split} {scale}".strip(): {
            method: {key: score[key] for key in _SHORT if score.get(key) is not None}
            for method, score in methods.items()
            if score["count"]
        }
        for split, scales in summary.items()
        for scale, methods in scales.items()
    }


def _csv(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for line in lines:
        writer.writerow([f"{cell:.6f}" if isinstance(cell, float) else cell for cell in line])
    return text.getvalue().encode()


def write_tables(
    folder: Path,
    rows: list[dict[str, Any]],
    summary: dict[str, Any],
    networks: Sequence[str] = (),
    baseline: str = BASELINE,
) -> None:
    """Write the tables that dvc.yaml plots.

    `per_image.csv` (a line per face and method), `summary.csv` (a line per split, scale and method), and one
    `gain-{split}-{scale}.csv` each: a column per network of its PSNR gains over bicubic, sorted, beside `rank`, the
    share of faces (0-1) that gain no more. A column of `networks` is there also where it has no result.
    """
    write_bytes(folder / "per_image.csv", _csv(_PER_IMAGE, ([row[name] for name in _PER_IMAGE] for row in rows)))
    columns = [*MAIN, "psnr_y", "ssim_y"]
    lines = [
        [
            " ".join(filter(None, (split, scale, method))),
            split,
            scale,
            method,
            *(score.get(key) for key in columns),
            score["count"],
        ]
        for split, scales in summary.items()
        for scale, methods in scales.items()
        for method, score in methods.items()
    ]
    write_bytes(folder / "summary.csv", _csv(["label", "split", "scale", "method", *columns, "count"], lines))
    groups: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["method"] != baseline and row["gain_psnr"] is not None:
            groups[row["split"], row["scale"]][row["method"]].append(row["gain_psnr"])
    for (split, scale), methods in groups.items():
        sorts = {method: sorted(values) for method, values in methods.items()}
        sorts |= {method: [] for method in networks if method not in sorts}
        longest = max(map(len, sorts.values()))
        curve = [
            [(place + 1) / longest, *(values[place] if place < len(values) else "" for values in sorts.values())]
            for place in range(longest)
        ]
        write_bytes(folder / f"gain-{'-'.join(filter(None, (split, scale)))}.csv", _csv(["rank", *sorts], curve))


@dataclass(frozen=True)
class Histogram:
    """Counts of values in equal bins between round edges that include zero."""

    low: float
    high: float
    width: float
    counts: tuple[int, ...]


def histogram(values: Sequence[float], bins: int = 16, span: tuple[float, float] | None = None) -> Histogram:
    """Bin values over `span` (default: their own range, widened to zero) into about `bins` round-sized bins.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values to show")
    low, high = span or (min(0.0, *values), max(0.0, *values))
    raw = max(high - low, 1e-3) / bins
    magnitude = 10.0 ** math.floor(math.log10(raw))
    width = next(step * magnitude for step in (1, 2, 2.5, 5, 10) if step * magnitude >= raw * (1 - 1e-9))
    first, last = math.floor(low / width + 1e-9), math.ceil(high / width - 1e-9)
    last = max(last, first + 1)
    counts = [0] * (last - first)
    for value in values:
        counts[min(max(math.floor(value / width) - first, 0), len(counts) - 1)] += 1
    return Histogram(first * width, last * width, width, tuple(counts))
