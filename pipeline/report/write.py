"""Write the report of an evaluation: metrics.json, tables, plots, sheets, the page."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.files import write_bytes, write_json
from pipeline.core.images import encode_png
from pipeline.core.scales import BASELINE, MEASURED_SCALES, MEASURED_SPLITS
from pipeline.core.schema import METRICS
from pipeline.core.shards import write_rows
from pipeline.evaluate.aggregate import Summary, aggregate, by_method, common_ids, read_parts
from pipeline.evaluate.cases import Case, EvaluationConfig, find_cases
from pipeline.evaluate.worker import _enlarged
from pipeline.report import dvc_plots as plots
from pipeline.report import findings, sheets, tables
from pipeline.report import page as report
from pipeline.report.crops import Spotter

Find = Callable[[str, str, list[str]], list[Case]]
"""(split, scale, ids) -> their cases, in the order of the ids."""


def count_small(config: EvaluationConfig) -> dict[str, int]:
    """Enlarged faces by split that are under 256x256, where there are any: the upscale stage gives them no 64to256."""
    small = {
        split: _enlarged(config, MEASURED_SCALES[1], split) - _enlarged(config, MEASURED_SCALES[0], split)
        for split in MEASURED_SPLITS
    }
    return {split: count for split, count in small.items() if count > 0}


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
    networks = {name: Path(path).name for name, path in config.get("networks", {}).items() if path}
    if networks:
        provenance = provenance | {"networks of metrics": networks}
    find = find or (lambda split, scale, ids: find_cases(config, split, scale, ids))
    summary = aggregate(parts, config)
    rows = [row for row in read_parts(parts) if row["psnr"] is not None]
    write_json(reports / "metrics.json", summary)
    write_json(reports / "summary.json", plots.short(summary))
    write_rows(reports / "per_image.parquet", rows, METRICS)
    for folder in ("sheets", "plots", "tables"):
        shutil.rmtree(reports / folder, ignore_errors=True)
    baseline = config.get("baseline", BASELINE)
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
