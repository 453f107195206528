"""Measure every method on every face, in parallel, and sum it up: metrics.json, per-image tables, sheets, the report.

`plan_units` cuts the work, `EvaluationWorker` does one unit and writes its rows, `finish` turns the rows of all units
into the files under `reports/`. Nothing is downloaded and nothing random is drawn: the same pictures give the same
bytes, however the work was cut.
"""

import math
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import findings, plots, report, sheets
from pipeline.cases import BASELINES, SCALES, Case, EvaluationConfig, find_cases, read_cases
from pipeline.images import encode_png
from pipeline.metrics import (
    FID_SAMPLE,
    FeatureStatistics,
    InceptionFeatures,
    Reference,
    consistency,
    frechet_distance,
)
from pipeline.schema import METRICS
from pipeline.shards import (
    count_rows,
    read_rows,
    row_ranges,
    shard_files,
    write_bytes,
    write_json,
    write_rows,
)

SPLITS: Final = ("train", "test")
TRUTH: Final = "original"
"""Name under which the true pictures' Inception features are kept, beside the methods'."""
FEATURES: Final = pa.schema(
    [
        ("id", pa.string()),
        ("method", pa.string()),  # a method, or `original`
        ("features", pa.binary()),  # float32, little-endian
    ]
)
NO_INCEPTION: Final = "no Inception weights: `facesr weights add inception FILE`"
_FEATURE_BLOCK: Final = 256
"""Feature vectors added at once: a fixed number, so that sums do not depend on how the work was cut."""

Row = dict[str, Any]
Summary = dict[str, dict[str, dict[str, dict[str, Any]]]]


def plan_units(config: EvaluationConfig, parts: Path, size: int = 16) -> list[dict[str, Any]]:
    """Cut the evaluation into units of at most `size` faces.

    Whoever runs them may leave out units whose part exists already. Give each state of the data, and each `size`, a
    `parts` folder of its own: `finish` sums up every part that it finds.

    Returns:
        `{"split", "scale", "stem", "start", "stop", "part"}` per unit: rows of an inputs shard and the file to write.
    """
    units = []
    for split in SPLITS:
        for scale in SCALES:
            # only as many faces as were to be enlarged: the upscale stage writes a row for each of them, though not at
            # every scale
            enlarged = max(_enlarged(config, one, split) for one in SCALES)
            inputs = Path(config["inputs"]) / split
            for stem, start, stop in row_ranges(inputs, f"{split}-*.parquet", size, enlarged):
                part = parts / f"{split}-{scale}-{stem}-{start:07d}-{stop:07d}.parquet"
                place = {"split": split, "scale": scale, "stem": stem, "start": start, "stop": stop}
                units.append({**place, "part": str(part)})
    return units


def _enlarged(config: EvaluationConfig, scale: str, split: str) -> int:
    """Faces of a split that were to be enlarged at a scale: rows of the method that has most."""
    folders = [Path(config["upscaled"]) / method / scale for method in config["methods"]]
    return max((sum(map(count_rows, shard_files(folder, f"{split}-*.parquet"))) for folder in folders), default=0)


def _features_part(part: Path) -> Path:
    """Where the Inception features of a part's pictures lie."""
    return part.parent / "features" / part.name


class EvaluationWorker:
    """Measures one unit of faces with every method. Built once per process: the Inception network is loaded once."""

    def __init__(self, config: EvaluationConfig) -> None:
        """Take the evaluation's config.

        Raises:
            ValueError: Inception weights are configured and unusable.
        """
        self.config = config
        weights = config.get("inception")
        self.inception = InceptionFeatures(Path(weights), config.get("device", "cpu")) if weights else None

    def __call__(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Columns in: inputs, faces, upscaled. Columns out: METRICS, null metrics where a method has no result.

        Returns:
            `{"images", "failed"}`: faces measured, and those of them without a usable picture from some method.
        """
        part = Path(unit["part"])
        rows: list[Row] = []
        features: list[Row] = []
        images = failed = 0
        methods = [*BASELINES, *self.config["methods"]]
        place = (unit["split"], unit["scale"], unit["stem"], unit["start"], unit["stop"])
        for case in read_cases(self.config, *place):
            images += 1
            failed += any(method not in case.results for method in methods)
            rows += self._measure(case, unit["split"], unit["scale"], methods)
            if self.inception is not None:
                features += self._describe(case, self.inception)
        if self.inception is not None:
            write_rows(_features_part(part), features, FEATURES)
        # last: the part's name is the mark that the unit is done
        write_rows(part, rows, METRICS)
        return {"images": images, "failed": failed}

    def _measure(self, case: Case, split: str, scale: str, methods: list[str]) -> Iterator[Row]:
        reference = Reference(case.truth) if case.truth is not None else None
        for method in methods:
            row: Row = {"id": case.id, "name": case.name, "split": split, "scale": scale, "method": method}
            result = case.results.get(method)
            if reference is not None and case.low is not None and result is not None:
                row |= {"psnr": reference.psnr(result), "ssim": reference.ssim(result)}
                row["consistency"] = consistency(result, case.low)
            yield row

    def _describe(self, case: Case, inception: InceptionFeatures) -> Iterator[Row]:
        if case.truth is None:
            return
        for method, pixels in {TRUTH: case.truth, **case.results}.items():
            yield {"id": case.id, "method": method, "features": inception(pixels).astype("<f4").tobytes()}


def read_parts(parts: Path) -> list[Row]:
    """Rows of all parts in a fixed order: split, scale, id, then the order in which methods were measured."""
    rows = [row for path in shard_files(parts) for row in read_rows(path)]
    return sorted(rows, key=lambda row: (SPLITS.index(row["split"]), SCALES.index(row["scale"]), row["id"]))


def _group(rows: Iterable[Row]) -> dict[tuple[str, str], dict[str, dict[str, Row]]]:
    """(split, scale) → method → id → row, for rows that carry metrics; a method without any has an empty entry."""
    groups: dict[tuple[str, str], dict[str, dict[str, Row]]] = defaultdict(dict)
    for row in rows:
        methods = groups[row["split"], row["scale"]].setdefault(row["method"], {})
        if row["psnr"] is not None:
            methods[row["id"]] = row
    return groups


def _common_ids(methods: dict[str, dict[str, Row]]) -> list[str]:
    """Faces that every method restored, sorted; a method that restored none at all does not empty the comparison."""
    sets = [set(found) for found in methods.values() if found]
    return sorted(set.intersection(*sets)) if sets else []


def aggregate(parts: Path, inception: str | None = None) -> Summary:
    """Sum up the parts: `{split: {scale: {method: {...}}}}`, what `reports/metrics.json` holds.

    Each method has `psnr` (dB), `ssim`, `consistency` (grey levels), each the mean over the same `count` faces, those
    that every method restored; `failed`, faces of which this method has no picture; `fid`, or null and its
    `fid_reason`; and `fid_warning` where the sample is small. Means are correctly rounded sums (`math.fsum`), so the
    order of the rows cannot move a digit.
    """
    rows = read_parts(parts)
    summary: Summary = {}
    for (split, scale), methods in _group(rows).items():
        ids = _common_ids(methods)
        images = len({row["id"] for row in rows if (row["split"], row["scale"]) == (split, scale)})
        fids = _fids(parts, split, scale, set(ids)) if inception else {}
        scores = summary.setdefault(split, {}).setdefault(scale, {})
        for method, found in methods.items():
            used = [found[one] for one in ids] if found else []
            score: dict[str, Any] = {
                name: round(math.fsum(row[name] for row in used) / len(used), 6) if used else None
                for name in ("psnr", "ssim", "consistency")
            }
            score |= {"count": len(used), "failed": images - len(found)}
            scores[method] = score | _fid_entry(fids.get(method), len(used), inception)
    return summary


def _fid_entry(fid: float | None, count: int, inception: str | None) -> dict[str, Any]:
    if not inception:
        return {"fid": None, "fid_reason": NO_INCEPTION}
    if fid is None:
        return {"fid": None, "fid_reason": f"a Fréchet distance needs at least 2 pictures, there are {count}"}
    entry: dict[str, Any] = {"fid": round(fid, 4), "fid_reason": ""}
    if count < FID_SAMPLE:
        entry["fid_warning"] = f"only {count} pictures: biased upwards below {FID_SAMPLE}, compare at equal counts only"
    return entry


def _fids(parts: Path, split: str, scale: str, ids: set[str]) -> dict[str, float]:
    """FID of each method of which there are two pictures or more, over the faces `ids`."""
    statistics: dict[str, FeatureStatistics] = {}
    blocks: dict[str, list[NDArray[np.float32]]] = defaultdict(list)

    def add(method: str) -> None:
        block = np.stack(blocks.pop(method))
        statistics.setdefault(method, FeatureStatistics.empty(block.shape[1])).add(block)

    for path in shard_files(parts / "features", f"{split}-{scale}-*.parquet"):
        for row in read_rows(path):
            if row["id"] in ids:
                blocks[row["method"]].append(np.frombuffer(row["features"], "<f4"))
                if len(blocks[row["method"]]) == _FEATURE_BLOCK:
                    add(row["method"])
    for method in list(blocks):
        add(method)
    truth = statistics.pop(TRUTH, None)
    if truth is None or truth.count < 2:
        return {}
    return {method: frechet_distance(truth, one) for method, one in statistics.items() if one.count >= 2}


def count_failed(summary: Summary) -> int:
    """Results that could not be judged, over all splits, scales and methods."""
    return sum(
        score["failed"] for scales in summary.values() for scores in scales.values() for score in scores.values()
    )


def count_small(config: EvaluationConfig) -> dict[str, int]:
    """Enlarged faces by split that are under 256x256, where there are any: the upscale stage gives them no 64to256."""
    small = {split: _enlarged(config, SCALES[1], split) - _enlarged(config, SCALES[0], split) for split in SPLITS}
    return {split: count for split, count in small.items() if count > 0}


def headline(summary: Summary) -> str:
    """One line: the PSNR gain over bicubic of every other method, on unseen faces at the largest scale measured."""
    split = "test" if "test" in summary else next(iter(summary), "")
    scales = summary.get(split, {})
    scale = SCALES[1] if SCALES[1] in scales else next(iter(scales), "")
    scores = {method: score["psnr"] for method, score in scales.get(scale, {}).items() if score["psnr"] is not None}
    if "bicubic" not in scores:
        return "nothing could be measured" + ("" if summary else ": no face of 256x256 or more was enlarged")
    gains = [f"{name} {psnr - scores['bicubic']:+.2f} dB" for name, psnr in scores.items() if name != "bicubic"]
    return f"{split}, {scale}, PSNR over bicubic: {', '.join(gains)}"


def _spread(ids: Sequence[str], count: int) -> list[str]:
    """`count` ids evenly spaced over the sorted ids, first and last included."""
    if len(ids) <= count:
        return list(ids)
    return [ids[round(place * (len(ids) - 1) / max(count - 1, 1))] for place in range(count)]


def finish(parts: Path, config: EvaluationConfig, reports: Path, provenance: dict[str, Any]) -> Summary:
    """Write everything under `reports` from the parts of all units, and return what metrics.json holds.

    `metrics.json`, `per_image.parquet` (METRICS), `plots/*.csv`, `sheets/{split}-{scale}.png`, `report.html`.

    Args:
        parts: the folder that the units were written to.
        config: the evaluation's config, as the worker had it.
        reports: folder to write to; its `sheets` and `plots` are replaced.
        provenance: sections of facts for the end of the report, `{section: {name: value}}`: data hashes, params,
            model sha256, versions, hardware.
    """
    summary = aggregate(parts, config.get("inception"))
    rows = [row for row in read_parts(parts) if row["psnr"] is not None]
    write_json(reports / "metrics.json", summary)
    write_rows(reports / "per_image.parquet", rows, METRICS)
    for folder in ("sheets", "plots"):
        shutil.rmtree(reports / folder, ignore_errors=True)
    gains = plots.with_gains(rows)
    plots.write_tables(reports / "plots", gains, summary)
    shown: dict[tuple[str, str], list[Case]] = {}
    for (split, scale), found in _group(rows).items():
        ids = _spread(_common_ids(found), config.get("sheet_faces", 4))
        shown[split, scale] = find_cases(config, split, scale, ids)
        drawn = sheets.draw(shown[split, scale], config["methods"])
        write_bytes(reports / "sheets" / f"{split}-{scale}.png", encode_png(drawn, level=6))
    extremes: list[Case] = []
    for place in findings.measured(summary)[:1]:
        picked = findings.pick_extremes(gains, place, config["methods"][0])
        extremes = find_cases(config, *place, [row["id"] for row in picked])
    page = report.render(summary, gains, shown, extremes, {**config, "small": count_small(config)}, provenance)
    write_bytes(reports / "report.html", page.encode())
    return summary
