"""Measure every method on every face, in parallel.

`plan_units` cuts the work, `EvaluationWorker` does one unit and writes its rows, `pipeline.report.write` turns the rows
of all units into the files under `reports/`. Nothing is downloaded and nothing is drawn at random but by fixed seeds:
the same pictures give the same bytes, however the work was cut.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

from pipeline.core.degradation import MEASURED_SCALES
from pipeline.core.scales import MEASURED_SPLITS, UPSCALED_SCALES, base_of
from pipeline.core.schema import METRICS, Row
from pipeline.core.shards import row_ranges, write_rows
from pipeline.evaluate.cases import Case, EvaluationConfig, faces_until_last_enlarged, read_cases
from pipeline.evaluate.scorer import FEATURES, Scorer, features_folder
from pipeline.models.allocator import keep_freed_memory
from pipeline.runtime.units import RowUnit, Statistics, do_units


@dataclass(frozen=True)
class FaceUnit(RowUnit):
    """Faces at every scale of one base, so that what is worked out of a true picture serves all of them.

    `scale` is the base.
    """

    scales: Sequence[str] = ()
    """Of that base, at which any of the faces was enlarged."""
    cases: int = 0
    """Faces times the scales that they have results at."""

    @property
    def images(self) -> int:
        """Cases."""
        return self.cases


def plan_units(config: EvaluationConfig, parts: Path, size: int = 16) -> list[FaceUnit]:
    """Cut the evaluation into units of at most `size` faces, and where these have many scales, twice as many cases.

    Whoever runs them may leave out units whose part exists already. Give each state of the data, and each `size`, a
    `parts` folder of its own: the report sums up every part that it finds.

    Returns:
        Rows of an inputs shard each, at all scales of one base: those of one base and the other by turns, so that what
        is done in a while says how long the rest takes, and large ones first, so that no worker waits for another's.
    """
    units: dict[str, list[FaceUnit]] = {base: [] for base in reversed(UPSCALED_SCALES)}
    for split, base in product(MEASURED_SPLITS, UPSCALED_SCALES):
        scales = [scale for scale in MEASURED_SCALES if base_of(scale) == base]
        counts = {scale: faces_until_last_enlarged(config, split, scale) for scale in scales}
        enlarged = {scale: count for scale, count in counts.items() if count}
        rows = max(1, min(size, 2 * size // max(len(enlarged), 1)))
        most, before = max(enlarged.values(), default=0), 0
        for stem, start, stop in row_ranges(Path(config.inputs) / split, f"{split}-*.parquet", rows, most):
            cases = {scale: min(count - before, stop - start) for scale, count in enlarged.items() if count > before}
            part = parts / f"faces-{split}-{base}-{stem}-{start:07d}-{stop:07d}.parquet"
            unit = RowUnit(str(part), start, stop, stem, split, scale=base)
            units[base].append(FaceUnit(**vars(unit), scales=list(cases), cases=sum(cases.values())))
            before += stop - start
    ordered = (sorted(some, key=lambda unit: -unit.cases) for some in units.values())
    return [unit for together in zip_longest(*ordered) for unit in together if unit is not None]


class EvaluationWorker:
    """Measures one unit of faces with every method. Built once per process: networks are loaded once."""

    def __init__(self, config: EvaluationConfig) -> None:
        """Take the evaluation's config.

        Raises:
            WeightsError: weights are configured and unusable.
        """
        keep_freed_memory()
        self.config = config
        self.scorer = Scorer(config)

    def __call__(self, unit: RowUnit) -> Statistics:
        """Columns in: inputs, faces, upscaled. Columns out: METRICS, null metrics where a method has no result.

        Returns:
            `{"images", "failed"}`: faces measured, and those of them without a usable picture from some method.
        """
        part = Path(unit.part)
        rows: list[Row] = []
        features: dict[str, list[Row]] = {}
        images = failed = 0
        methods = self.config.all_methods
        for case in self.cases(unit):
            images += 1
            failed += any(method not in case.results and method not in self.config.references for method in methods)
            rows += self.scorer.measure(case, unit.split, case.scale, methods)
            features.setdefault(case.scale, []).extend(self.scorer.features(case))
        if self.scorer.inception is not None:
            for scale, found in features.items():
                write_rows(features_folder(part.parent, unit.split, scale) / part.name, found, FEATURES)
        # last: the part's name is the mark that the unit is done
        write_rows(part, rows, METRICS)
        return {"images": images, "failed": failed}

    def cases(self, unit: Any) -> Iterator[Case]:
        """The cases of a `FaceUnit`."""
        return read_cases(self.config, unit.split, unit.scales, unit.stem, unit.start, unit.stop)


def measure_all(config: EvaluationConfig, settings: Any, parts: Path) -> None:
    """Measure what `config` names, in parallel, with a progress bar; parts that exist are kept.

    Args:
        config: what to measure.
        settings: `unit`, `workers`, `cpus_per_worker`, `device`, `address`, as `params.Evaluate` has them.
        parts: folder for the units' rows, of this very work.
    """
    do_units(
        "evaluate",
        EvaluationWorker,
        (config,),
        plan_units(config, parts, settings.unit),
        workers=settings.workers,
        cpus_per_worker=settings.cpus_per_worker,
        gpus_per_worker=None if settings.device == "cuda" else 0,
        address=settings.address,
    )
