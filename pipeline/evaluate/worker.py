"""Measure every method on every face, in parallel.

`plan_units` cuts the work, `EvaluationWorker` does one unit and writes its rows, `pipeline.report.write` turns the rows
of all units into the files under `reports/`. Nothing is downloaded and nothing is drawn at random but by fixed seeds:
the same pictures give the same bytes, however the work was cut.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.core.files import shard_files
from pipeline.core.scales import AUGMENTED, MEASURED_SCALES, MEASURED_SPLITS
from pipeline.core.schema import METRICS
from pipeline.core.shards import count_rows, row_ranges, write_rows
from pipeline.evaluate.cases import Case, EvaluationConfig, methods_of, read_cases, shards_of
from pipeline.evaluate.scorer import FEATURES, Judges
from pipeline.runtime.units import RowUnit, do_units


def plan_units(config: EvaluationConfig, parts: Path, size: int = 16) -> list[RowUnit]:
    """Cut the evaluation into units of at most `size` faces.

    Whoever runs them may leave out units whose part exists already. Give each state of the data, and each `size`, a
    `parts` folder of its own: `finish` sums up every part that it finds.

    Returns:
        Rows of an inputs shard each, at one scale.
    """
    units = []
    for split in MEASURED_SPLITS:
        for scale in MEASURED_SCALES:
            # only as many faces as were to be enlarged: the upscale stage writes a row for each of them, though not at
            # every scale
            alike = [one for one in MEASURED_SCALES if one.endswith(AUGMENTED) == scale.endswith(AUGMENTED)]
            enlarged = max(_enlarged(config, one, split) for one in alike)
            inputs = Path(config["inputs"]) / split
            for stem, start, stop in row_ranges(inputs, f"{split}-*.parquet", size, enlarged):
                part = parts / f"{split}-{scale}-{stem}-{start:07d}-{stop:07d}.parquet"
                units.append(RowUnit(str(part), start, stop, stem, split, scale=scale))
    return units


def _enlarged(config: EvaluationConfig, scale: str, split: str) -> int:
    """Faces of a split that were to be enlarged at a scale: rows of the method that has most."""
    found = [shard_files(shards_of(config, method, scale), f"{split}-*.parquet") for method in config["methods"]]
    return max((sum(map(count_rows, paths)) for paths in found), default=0)


class EvaluationWorker:
    """Measures one unit of faces with every method. Built once per process: networks are loaded once."""

    def __init__(self, config: EvaluationConfig) -> None:
        """Take the evaluation's config.

        Raises:
            ValueError: weights are configured and unusable.
        """
        self.config = config
        self.judges = Judges(config)

    def __call__(self, unit: RowUnit) -> dict[str, Any]:
        """Columns in: inputs, faces, upscaled. Columns out: METRICS, null metrics where a method has no result.

        Returns:
            `{"images", "failed"}`: faces measured, and those of them without a usable picture from some method.
        """
        part = Path(unit.part)
        rows: list[dict[str, Any]] = []
        features: list[dict[str, Any]] = []
        images = failed = 0
        methods, peers = methods_of(self.config), self.config.get("peers", [])
        for case in self.cases(unit):
            images += 1
            failed += any(method not in case.results for method in methods if method not in peers)
            rows += self.judges.measure(case, unit.split, unit.scale, methods)
            features += self.judges.describe(case)
        if self.judges.inception is not None:
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
