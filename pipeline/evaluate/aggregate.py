"""Sum the rows of faces up: means with intervals, distances of sets, paired tests; what `metrics.json` holds.

Values are gathered face by face from the parts; of Inception features one method's are in memory at a time, 16 kB a
picture. Nothing depends on how the work was cut or in what order it was done.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.core.degradation import MEASURED_SCALES
from pipeline.core.files import shard_files
from pipeline.core.scales import MEASURED_SPLITS
from pipeline.core.schema import Row
from pipeline.core.shards import read_folder
from pipeline.evaluate.cases import EvaluationConfig
from pipeline.evaluate.scorer import TRUTH, features_folder
from pipeline.evaluate.statistics import PairedTest, bootstrap, holm, paired
from pipeline.evaluate.summary import Score, Summary, known_first
from pipeline.metrics import distances
from pipeline.metrics.distances import FID_SAMPLE, NEIGHBOURS, FeatureStatistics
from pipeline.metrics.registry import DEFECTS, MEASURES, OF_SETS, PER_FACE, RESIZES, VARIANTS, why_null

TESTED: Final = tuple(key for key in PER_FACE if key not in VARIANTS)
"""Metrics by which methods are compared face by face."""
FEWEST: Final = {"fid": 2, "fid_clean": 2, "kid": 4, "precision": NEIGHBOURS + 1, "recall": NEIGHBOURS + 1}
"""Pictures that a distance of sets needs at least."""
_FEATURE_BLOCK: Final = 256
"""Feature vectors added at once: a fixed number, so that sums do not depend on how the work was cut."""

Faces = dict[str, Row]
"""By id."""


def read_parts(parts: Path) -> list[Row]:
    """Rows of all parts in a fixed order: split, scale, id, then the order in which methods were measured."""
    split, scale = known_first(MEASURED_SPLITS), known_first(MEASURED_SCALES)
    return sorted(read_folder(parts), key=lambda row: (split(row["split"]), scale(row["scale"]), row["id"]))


def by_method(rows: Iterable[Row]) -> dict[tuple[str, str], dict[str, Faces]]:
    """(split, scale) → method → id → row, for rows that carry metrics; a method without any has an empty entry."""
    groups: dict[tuple[str, str], dict[str, Faces]] = defaultdict(dict)
    for row in rows:
        methods = groups[row["split"], row["scale"]].setdefault(row["method"], {})
        if row["psnr"] is not None:
            methods[row["id"]] = row
    return groups


def common_ids(methods: dict[str, Faces], references: Sequence[str] = ()) -> list[str]:
    """Faces that every method restored, sorted; references, and a method that restored none, do not shrink them."""
    sets = [set(faces) for method, faces in methods.items() if faces and method not in references]
    return sorted(set.intersection(*sets)) if sets else []


class _Group:
    """One split and scale."""

    def __init__(self, parts: Path, split: str, scale: str, methods: dict[str, Faces], config: EvaluationConfig):
        self.folder = features_folder(parts, split, scale)
        self.methods, self.config = methods, config

    def score(self, method: str, ids: Sequence[str]) -> Score:
        """Everything about a method over some faces that it restored."""
        rows = [self.methods[method][face_id] for face_id in ids]
        score: Score = {}
        for key in (*PER_FACE, *DEFECTS):
            values = [row[key] for row in rows if row[key] is not None]
            score[key] = round(math.fsum(values) / len(values), 6) if values else None
            if key in MEASURES and not values:
                score[f"{key}_reason"] = self._reason(key, "" if rows else "this method has no result")
            elif key in MEASURES and len(values) < len(rows):
                score[f"{key}_count"] = len(values)
        if len(rows) > 1:
            bounds = bootstrap(_matrix(rows, PER_FACE))
            for key, (low, high) in zip(PER_FACE, bounds, strict=True):
                if np.isfinite(low):
                    score[f"{key}_ci95"] = [round(float(low), 6), round(float(high), 6)]
        return score | self._distances(method, ids) | {"count": len(rows)}

    def _reason(self, key: str, fewest: str) -> str:
        return why_null(key, self.config.networks, self.config.problems, fewest)

    def _distances(self, method: str, ids: Sequence[str]) -> Score:
        """FID, KID, precision and recall over some faces."""
        score: Score = {}
        enough = {key for key in OF_SETS if "inception" in self.config.networks and len(ids) >= FEWEST[key]}
        for key in OF_SETS:
            short = f"needs at least {FEWEST[key]} pictures, there are {len(ids)}"
            score |= {key: None, f"{key}_reason": "" if key in enough else self._reason(key, short)}
        if not enough:
            return score
        truths, results = self._features(TRUTH, ids), self._features(method, ids)
        for name in RESIZES:
            distance = distances.frechet_distance(_statistics(truths[name]), _statistics(results[name]))
            score[name] = _digits(distance)
        if "kid" in enough:
            kid, error = distances.kernel_distance(truths["fid"], results["fid"])
            precision, recall = distances.precision_recall(truths["fid"], results["fid"])
            score |= {"kid": _digits(kid), "kid_std": _digits(error)}
            score |= {"precision": round(precision, 6), "recall": round(recall, 6)}
        if len(ids) < FID_SAMPLE:
            score["fid_warning"] = (
                f"only {len(ids)} pictures: biased upwards below {FID_SAMPLE}, compare at equal counts only"
            )
        return score

    def _features(self, method: str, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Feature vectors (faces, size) of each resize, in the order of `ids`."""
        found: Faces = {}
        for path in shard_files(self.folder):
            table = pq.read_table(path, filters=[("method", "=", method)])
            found |= {row["id"]: row for row in table.to_pylist()}
        return {name: np.stack([np.frombuffer(found[face_id][name], "<f4") for face_id in ids]) for name in RESIZES}

    def compare(self, scores: dict[str, Score], subject: str) -> None:
        """Add to each method what tests say of it against the subject, over the faces both have."""
        signs = {key: MEASURES[key].sign for key in TESTED}
        tests: dict[str, dict[str, PairedTest]] = {}
        for method in scores:
            both = [self.methods.get(subject, {}), self.methods[method]]
            ids = sorted(both[0].keys() & both[1].keys())
            if method != subject and len(ids) > 1:
                first, second = (_matrix([faces[face_id] for face_id in ids], TESTED) for faces in both)
                tests[method] = paired(dict(zip(TESTED, (first - second).T, strict=True)), signs)
        flat = [test for by_metric in tests.values() for test in by_metric.values()]
        for test, p in zip(flat, holm([test["p"] for test in flat]), strict=True):
            test["p_holm"] = p
        for method, by_metric in tests.items():
            scores[method]["against"] = {subject: by_metric}


def _matrix(rows: Sequence[Row], keys: Sequence[str]) -> NDArray[np.float64]:
    """Values (faces, keys), NaN for null."""
    return np.array([[np.nan if row[key] is None else row[key] for key in keys] for row in rows], dtype=np.float64)


def _digits(value: float) -> float:
    """Seven digits that count: distances of small pictures, or of few features, are small."""
    return float(f"{value:.7g}")


def _statistics(vectors: NDArray[np.float32]) -> FeatureStatistics:
    statistics = FeatureStatistics.empty(vectors.shape[1])
    for start in range(0, len(vectors), _FEATURE_BLOCK):
        statistics.add(vectors[start : start + _FEATURE_BLOCK])
    return statistics


def aggregate(parts: Path, config: EvaluationConfig) -> Summary:
    """Sum up the parts: `{split: {scale: {method: {...}}}}`, what `reports/metrics.json` holds.

    Each method has every key of `registry.MEASURES`, a number or null with `<key>_reason`; `<key>_ci95` of means over
    faces; `count`, the faces, which are the same for every method: those that all restored; `failed`, faces of which
    it has no picture; `fid_warning` where the sample is small; the means of `registry.DEFECTS`; and `against`, tests
    of the subject against it. References that cover fewer faces have a `count` of their own, and
    `on_same_faces` the others' scores on those. Means are correctly rounded sums (`math.fsum`).
    """
    rows = read_parts(parts)
    summary: Summary = {}
    for (split, scale), methods in by_method(rows).items():
        common = common_ids(methods, config.references)
        images = len({row["id"] for row in rows if (row["split"], row["scale"]) == (split, scale)})
        group = _Group(parts, split, scale, methods, config)
        scores = summary.setdefault(split, {}).setdefault(scale, {})
        for method, faces in methods.items():
            reference = method in config.references
            partial = reference and not set(common) <= faces.keys()
            if partial and not faces:
                continue  # of this split and scale it was not asked for anything
            ids = [face_id for face_id in common if face_id in faces]
            scores[method] = group.score(method, ids) | {"failed": 0 if reference else images - len(faces)}
            if partial:
                others = [other for other in methods if other not in config.references and methods[other]]
                scores[method]["on_same_faces"] = {other: group.score(other, ids) for other in others}
        group.compare(scores, config.subject)
    return summary
