"""Tables for `dvc plots show`, and the geometry of the report's histogram."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.shards import write_bytes

BASELINE = "bicubic"
"""What gains are measured against."""
_PER_IMAGE = ("id", "name", "split", "scale", "method", "psnr", "ssim", "consistency", "gain_psnr")


def with_gains(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """METRICS rows plus `gain_psnr`: dB over bicubic on the same face; null where bicubic is missing."""
    listed = list(rows)
    base = {(row["split"], row["scale"], row["id"]): row["psnr"] for row in listed if row["method"] == BASELINE}
    gains = []
    for row in listed:
        reference = base.get((row["split"], row["scale"], row["id"]))
        gains.append({**row, "gain_psnr": None if reference is None else row["psnr"] - reference})
    return gains


def _csv(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for line in lines:
        writer.writerow([f"{cell:.6f}" if isinstance(cell, float) else cell for cell in line])
    return text.getvalue().encode()


def write_tables(folder: Path, rows: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    """Write the tables that dvc.yaml plots.

    `per_image.csv` (a line per face and method), `summary.csv` (a line per split, scale and method), and one
    `gain-{split}-{scale}.csv` each: a column per network of its PSNR gains over bicubic, sorted, beside `rank`, the
    share of faces (0-1) that gain no more.
    """
    write_bytes(folder / "per_image.csv", _csv(_PER_IMAGE, ([row[name] for name in _PER_IMAGE] for row in rows)))
    lines = [
        (f"{split} {scale} {method}", split, scale, method, score["psnr"], score["ssim"], score["count"])
        for split, scales in summary.items()
        for scale, methods in scales.items()
        for method, score in methods.items()
    ]
    header = ("label", "split", "scale", "method", "psnr", "ssim", "count")
    write_bytes(folder / "summary.csv", _csv(header, lines))
    groups: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["method"] != BASELINE and row["gain_psnr"] is not None:
            groups[row["split"], row["scale"]][row["method"]].append(row["gain_psnr"])
    for (split, scale), methods in groups.items():
        columns = {method: sorted(values) for method, values in methods.items()}
        longest = max(map(len, columns.values()))
        curve = [
            [(place + 1) / longest, *(values[place] if place < len(values) else "" for values in columns.values())]
            for place in range(longest)
        ]
        write_bytes(folder / f"gain-{split}-{scale}.csv", _csv(["rank", *columns], curve))


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
