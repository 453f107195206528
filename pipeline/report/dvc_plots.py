"""Tables for `dvc plots show`, and the geometry of the report's histogram."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from pipeline.core.files import csv_text, write_bytes
from pipeline.core.scales import BASELINE
from pipeline.core.schema import Row
from pipeline.evaluate.summary import Score, Summary, joined, scores_of
from pipeline.metrics.registry import MAIN, PER_FACE
from pipeline.report.kinds import KindTable

_PER_IMAGE = ("id", "name", "split", "scale", "method", *PER_FACE, "gain_psnr")
_SHORT = ("psnr", "ssim", "ms_ssim", "consistency", "lpips", "dists", "identity", "fid", "kid")


def with_gains(rows: Iterable[Row], baseline: str = BASELINE) -> list[Row]:
    """METRICS rows plus `gain_psnr`: dB over the baseline on the same face; null where it has no result."""
    listed = list(rows)
    base = {(row["split"], row["scale"], row["id"]): row["psnr"] for row in listed if row["method"] == baseline}
    references = [base.get((row["split"], row["scale"], row["id"])) for row in listed]
    return [
        row | {"gain_psnr": None if reference is None else row["psnr"] - reference}
        for row, reference in zip(listed, references, strict=True)
    ]


def short(summary: Summary) -> dict[str, dict[str, Score]]:
    """The figures that `dvc metrics show` and `diff` are for: `{"<split> <scale>": {method: {key: value}}}`."""
    shown: dict[str, dict[str, Score]] = {}
    for split, scale, method, score in scores_of(summary):
        methods = shown.setdefault(joined(" ", split, scale), {})
        if score["count"]:
            methods[method] = {key: score[key] for key in _SHORT if score.get(key) is not None}
    return shown


def write_tables(
    folder: Path, rows: Sequence[Row], summary: Summary, networks: Sequence[str] = (), baseline: str = BASELINE
) -> None:
    """Write the tables that dvc.yaml plots.

    `per_image.csv` (a line per face and method), `summary.csv` (a line per split, scale and method), and one
    `gain-{split}-{scale}.csv` each: a column per network of its PSNR gains over bicubic, sorted, beside `rank`, the
    share of faces (0-1) that gain no more. A column of `networks` is there also where it has no result.
    """
    _write_csv(folder / "per_image.csv", _PER_IMAGE, ([row[name] for name in _PER_IMAGE] for row in rows))
    keys = [*MAIN, "psnr_y", "ssim_y"]
    lines = [
        [joined(" ", split, scale, method), split, scale, method, *(score.get(key) for key in keys), score["count"]]
        for split, scale, method, score in scores_of(summary)
    ]
    _write_csv(folder / "summary.csv", ["label", "split", "scale", "method", *keys, "count"], lines)
    groups: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["method"] != baseline and row["gain_psnr"] is not None:
            groups[row["split"], row["scale"]][row["method"]].append(row["gain_psnr"])
    for group, gains in groups.items():
        curves = {method: sorted(values) for method, values in gains.items()}
        curves |= {method: [] for method in networks if method not in curves}
        longest = max(map(len, curves.values()))
        ranks = [(index + 1) / longest for index in range(longest)]
        columns = zip_longest(ranks, *curves.values(), fillvalue="")
        _write_csv(folder / f"gain-{joined('-', *group)}.csv", ["rank", *curves], columns)


def write_kinds(folder: Path, tables: Sequence[KindTable]) -> None:
    """Write `kinds.csv`: a line per split, scale, kind of input and method, of its PSNR gain over bicubic, dB."""
    lines = [
        [joined(" ", *table.group, kind, method), *table.group, kind, method, gain]
        for table in tables
        for method, gains in table.blocks[0].lines.items()
        for kind, gain in zip(table.kinds, gains, strict=True)
    ]
    _write_csv(folder / "kinds.csv", ["label", "split", "scale", "kind", "method", "gain_psnr"], lines)


def _write_csv(path: Path, header: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    write_bytes(path, csv_text(header, lines).encode())


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
