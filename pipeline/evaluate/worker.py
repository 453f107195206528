"""Measure every method on every face, in parallel.

`plan_units` cuts the work, `EvaluationWorker` does one unit and writes its rows, `pipeline.report.write` turns the rows
of all units into the files under `reports/`. Nothing is downloaded and nothing is drawn at random but by fixed seeds:
the same pictures give the same bytes, however the work was cut.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.core.degradation import MEASURED_SCALES
from pipeline.core.scales import MEASURED_SPLITS, inputs_of
from pipeline.core.schema import METRICS, Row
from pipeline.core.shards import row_ranges, write_rows
from pipeline.evaluate.cases import Case, EvaluationConfig, count_enlarged, read_cases
from pipeline.evaluate.scorer import FEATURES, Scorer
from pipeline.runtime.units import RowUnit, Statistics, do_units


def plan_units(config: EvaluationConfig, parts: Path, size: int = 16) -> list[RowUnit]:
    """Cut the evaluation into units of at most `size` faces.

    Whoever runs them may leave out units whose part exists already. Give each state of the data, and each `size`, a
    `parts` folder of its own: the report sums up every part that it finds.

    Returns:
        Rows of an inputs shard each, at one scale.
    """
    units = []
    for split in MEASURED_SPLITS:
        for scale in MEASURED_SCALES:
            # only as many faces as were to be enlarged: the upscale stage writes a row for each of them, though not at
            # every scale
            alike = [other for other in MEASURED_SCALES if inputs_of(other) == inputs_of(scale)]
            enlarged = max(count_enlarged(config, split, other) for other in alike)
            inputs = Path(config.inputs) / split
            for stem, start, stop in row_ranges(inputs, f"{split}-*.parquet", size, enlarged):
                part = parts / f"{split}-{scale}-{stem}-{start:07d}-{stop:07d}.parquet"
                units.append(RowUnit(str(part), start, stop, stem, split, scale=scale))
    return units


class EvaluationWorker:
    """Measures one unit of faces with every method. Built once per process: networks are loaded once."""

    def __init__(self, config: EvaluationConfig) -> None:
        """Take the evaluation's config.

        Raises:
            WeightsError: weights are configured and unusable.
        """
        self.config = config
        self.scorer = Scorer(config)

    def __call__(self, unit: RowUnit) -> Statistics:
        """Columns in: inputs, faces, upscaled. Columns out: METRICS, null metrics where a method has no result.

        Returns:
            `{"images", "failed"}`: faces measured, and those of them without a usable picture from some method.
        """
        part = Path(unit.part)
        rows: list[Row] = []
        features: list[Row] = []
        images = failed = 0
        methods = self.config.all_methods
        for case in self.cases(unit):
            images += 1
            failed += any(method not in case.results and method not in self.config.references for method in methods)
            rows += self.scorer.measure(case, unit.split, unit.scale, methods)
            features += self.scorer.features(case)
        if self.scorer.inception is not None:
            write_rows(part.parent / "features" / part.name, features, FEATURES)
        # last: the part's name is the mark that the unit is done
        write_rows(part, rows, METRICS)
        return {"images": images, "failed": failed}

    def cases(self, unit: RowUnit) -> Iterator[Case]:
        """The faces of a unit."""
        return read_cases(self.config, unit.split, unit.scale, unit.stem, unit.start, unit.stop)


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
