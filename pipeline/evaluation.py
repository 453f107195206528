"""Measure every method on every face, in parallel, and write it all up: metrics.json, tables, plots, sheets, the page.

`plan_units` cuts the work, `EvaluationWorker` does one unit and writes its rows, `finish` turns the rows of all units
into the files under `reports/`. Nothing is downloaded and nothing is drawn at random but by fixed seeds: the same
pictures give the same bytes, however the work was cut.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline import findings, plots, report, sheets, tables
from pipeline.aggregate import SPLITS, Summary, aggregate, by_method, common_ids, count_failed, headline, read_parts
from pipeline.cases import SCALES, Case, EvaluationConfig, find_cases, methods_of, read_cases, shards_of
from pipeline.images import encode_png
from pipeline.judges import FEATURES, Judges
from pipeline.schema import AUGMENTED, METRICS
from pipeline.shards import count_rows, row_ranges, shard_files, write_bytes, write_json, write_rows
from pipeline.spots import Spotter

__all__ = ["EvaluationWorker", "aggregate", "count_failed", "count_small", "finish", "headline", "plan_units"]

Find = Callable[[str, str, list[str]], list[Case]]
"""(split, scale, ids) -> their cases, in the order of the ids."""


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
            alike = [one for one in SCALES if one.endswith(AUGMENTED) == scale.endswith(AUGMENTED)]
            enlarged = max(_enlarged(config, one, split) for one in alike)
            inputs = Path(config["inputs"]) / split
            for stem, start, stop in row_ranges(inputs, f"{split}-*.parquet", size, enlarged):
                part = parts / f"{split}-{scale}-{stem}-{start:07d}-{stop:07d}.parquet"
                place = {"split": split, "scale": scale, "stem": stem, "start": start, "stop": stop}
                units.append({**place, "part": str(part)})
    return units


def _enlarged(config: EvaluationConfig, scale: str, split: str) -> int:
    """Faces of a split that were to be enlarged at a scale: rows of the method that has most."""
    found = [shard_files(shards_of(config, method, scale), f"{split}-*.parquet") for method in config["methods"]]
    return max((sum(map(count_rows, paths)) for paths in found), default=0)


def count_small(config: EvaluationConfig) -> dict[str, int]:
    """Enlarged faces by split that are under 256x256, where there are any: the upscale stage gives them no 64to256."""
    small = {split: _enlarged(config, SCALES[1], split) - _enlarged(config, SCALES[0], split) for split in SPLITS}
    return {split: count for split, count in small.items() if count > 0}


class EvaluationWorker:
    """Measures one unit of faces with every method. Built once per process: networks are loaded once."""

    def __init__(self, config: EvaluationConfig) -> None:
        """Take the evaluation's config.

        Raises:
            ValueError: weights are configured and unusable.
        """
        self.config = config
        self.judges = Judges(config)

    def __call__(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Columns in: inputs, faces, upscaled. Columns out: METRICS, null metrics where a method has no result.

        Returns:
            `{"images", "failed"}`: faces measured, and those of them without a usable picture from some method.
        """
        part = Path(unit["part"])
        rows: list[dict[str, Any]] = []
        features: list[dict[str, Any]] = []
        images = failed = 0
        methods, peers = methods_of(self.config), self.config.get("peers", [])
        for case in self.cases(unit):
            images += 1
            failed += any(method not in case.results for method in methods if method not in peers)
            rows += self.judges.measure(case, unit["split"], unit["scale"], methods)
            features += self.judges.describe(case)
        if self.judges.inception is not None:
            write_rows(part.parent / "features" / part.name, features, FEATURES)
        # last: the part's name is the mark that the unit is done
        write_rows(part, rows, METRICS)
        return {"images": images, "failed": failed}

    def cases(self, unit: dict[str, Any]) -> Iterator[Case]:
        """The faces of a unit."""
        return read_cases(self.config, unit["split"], unit["scale"], unit["stem"], unit["start"], unit["stop"])


def _spread(ids: Sequence[str], count: int) -> list[str]:
    """`count` ids evenly spaced over the sorted ids, first and last included."""
    if len(ids) <= count:
        return list(ids)
    return [ids[round(place * (len(ids) - 1) / max(count - 1, 1))] for place in range(count)]


def finish(
    parts: Path, config: EvaluationConfig, reports: Path, provenance: dict[str, Any], find: Find | None = None
) -> Summary:
    """Write everything under `reports` from the parts of all units, and return what metrics.json holds.

    `metrics.json`, `summary.json` (its headline figures alone), `per_image.parquet` (METRICS), `plots/*.csv`,
    `tables/*` (CSV, LaTeX, Markdown), `sheets/*.png`, `report.html`.

    Args:
        parts: the folder that the units were written to.
        config: the evaluation's config, as the worker had it.
        reports: folder to write to; its `sheets`, `plots` and `tables` are replaced.
        provenance: sections of facts for the end of the report, `{section: {name: value}}`: data hashes, params,
            model sha256, versions, hardware.
        find: reads faces again, for pictures; by default from the shards that `config` names.
    """
    find = find or (lambda split, scale, ids: find_cases(config, split, scale, ids))
    summary = aggregate(parts, config)
    rows = [row for row in read_parts(parts) if row["psnr"] is not None]
    write_json(reports / "metrics.json", summary)
    write_json(reports / "summary.json", plots.short(summary))
    write_rows(reports / "per_image.parquet", rows, METRICS)
    for folder in ("sheets", "plots", "tables"):
        shutil.rmtree(reports / folder, ignore_errors=True)
    baseline = config.get("baseline", plots.BASELINE)
    gains = plots.with_gains(rows, baseline)
    plots.write_tables(reports / "plots", gains, summary, config["methods"], baseline)
    tables.write(reports / "tables", summary, config)
    spots = Spotter(config)
    shown: dict[tuple[str, str], list[Case]] = {}
    for (split, scale), found in by_method(rows).items():
        peers = [peer for peer in config.get("peers", []) if peer in found]
        columns = [*(method for method in config["methods"] if method in found), *peers]
        # where a method to compare with covers few faces, those are shown
        few = [peer for peer in peers if not set(common_ids(found, peers)) <= found[peer].keys()]
        ids = common_ids({name: faces for name, faces in found.items() if name not in peers or name in few})
        ids = ids or common_ids(found, peers)
        shown[split, scale] = find(split, scale, _spread(ids, config.get("sheet_faces", 4)))
        drawn = sheets.draw(shown[split, scale], columns, baseline, spots)
        write_bytes(reports / "sheets" / f"{sheets.stem(split, scale)}.png", encode_png(drawn, level=6))
    extremes: list[Case] = []
    for place in findings.measured(summary)[:1]:
        picked = findings.pick_all(gains, place, config["methods"][0])
        extremes = find(*place, list(dict.fromkeys(row["id"] for row in picked)))
        worst = {row["id"] for row in picked if row["kind"] == "worst"}
        drawn = sheets.draw(
            [case for case in extremes if case.id in worst],
            config["methods"],
            baseline,
            spots,
        )
        write_bytes(reports / "sheets" / f"worst-{sheets.stem(*place)}.png", encode_png(drawn, level=6))
    page = report.render(summary, gains, shown, extremes, {**config, "small": count_small(config)}, provenance, spots)
    write_bytes(reports / "report.html", page.encode())
    return summary
