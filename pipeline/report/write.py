"""Write the report of an evaluation: metrics.json, tables, plots, sheets, the page."""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pipeline.core.files import write_bytes, write_json
from pipeline.core.images import encode_png
from pipeline.core.sampling import evenly_spaced
from pipeline.core.schema import METRICS, Row
from pipeline.core.shards import write_rows
from pipeline.evaluate.aggregate import aggregate, by_method, common_ids, read_parts
from pipeline.evaluate.cases import Case, EvaluationConfig, Provenance, find_cases
from pipeline.evaluate.summary import Summary
from pipeline.report import dvc_plots, findings, page, sheets, tables
from pipeline.report.crops import FaceCrops
from pipeline.report.findings import Group

Find = Callable[[str, str, Sequence[str]], list[Case]]
"""(split, scale, ids) -> their cases, in the order of the ids."""


def write(
    parts: Path, config: EvaluationConfig, reports: Path, provenance: Provenance, find: Find | None = None
) -> Summary:
    """Write everything under `reports` from the parts of all units, and return what metrics.json holds.

    `metrics.json`, `summary.json` (its headline figures alone), `per_image.parquet` (METRICS), `plots/*.csv`,
    `tables/*` (CSV, LaTeX, Markdown), `sheets/*.png`, `report.html`.

    Args:
        parts: the folder that the units were written to.
        config: the evaluation's config, as the worker had it.
        reports: folder to write to; its `sheets`, `plots` and `tables` are replaced.
        provenance: sections for the end of the report: data hashes, params, model sha256, versions, hardware.
        find: reads faces again, for pictures; by default from the shards that `config` names.
    """
    find = find or partial(find_cases, config)
    crops = FaceCrops(config)
    summary = aggregate(parts, config)
    rows = dvc_plots.with_gains((row for row in read_parts(parts) if row["psnr"] is not None), config.baseline)
    for folder in ("sheets", "plots", "tables"):
        shutil.rmtree(reports / folder, ignore_errors=True)
    write_metrics(reports, summary, rows)
    write_plots(reports, summary, rows, config)
    shown = write_sheets(reports / "sheets", rows, config, find, crops)
    extremes = write_worst(reports / "sheets", summary, rows, config, find, crops)
    write_page(reports, summary, rows, shown, extremes, config, provenance, crops)
    return summary


def write_metrics(reports: Path, summary: Summary, rows: Sequence[Row]) -> None:
    """Write `metrics.json`, `summary.json` and `per_image.parquet`."""
    write_json(reports / "metrics.json", summary)
    write_json(reports / "summary.json", dvc_plots.short(summary))
    write_rows(reports / "per_image.parquet", rows, METRICS)


def write_plots(reports: Path, summary: Summary, rows: Sequence[Row], config: EvaluationConfig) -> None:
    """Write `plots/` and `tables/`."""
    dvc_plots.write_tables(reports / "plots", rows, summary, config.methods, config.baseline)
    tables.write(reports / "tables", summary, config.subject)


def write_sheets(
    folder: Path, rows: Sequence[Row], config: EvaluationConfig, find: Find, crops: FaceCrops
) -> dict[Group, list[Case]]:
    """Write a sheet for each split and scale, and return the cases on them."""
    shown = {}
    for group, methods in by_method(rows).items():
        references = [method for method in config.references if method in methods]
        columns = [*(method for method in config.methods if method in methods), *references]
        # where a reference covers few faces, those are shown
        common = set(common_ids(methods, references))
        full = [method for method in references if common <= methods[method].keys()]
        ids = common_ids(methods, full) or sorted(common)
        cases = find(*group, [ids[index] for index in evenly_spaced(len(ids), config.sheet_faces)])
        _write_sheet(folder / f"{sheets.stem(*group)}.png", cases, columns, config, crops)
        shown[group] = cases
    return shown


def write_worst(
    folder: Path, summary: Summary, rows: Sequence[Row], config: EvaluationConfig, find: Find, crops: FaceCrops
) -> list[Case]:
    """Write a sheet of the subject's worst faces, and return these with its median and best ones."""
    for group in findings.measured(summary)[:1]:
        picked = findings.pick_all(rows, group, config.subject)
        extremes = find(*group, list(dict.fromkeys(row["id"] for row in picked)))
        worst = {row["id"] for row in picked if row["kind"] == "worst"}
        path = folder / f"worst-{sheets.stem(*group)}.png"
        _write_sheet(path, [case for case in extremes if case.id in worst], config.methods, config, crops)
        return extremes
    return []


def _write_sheet(
    path: Path, cases: Sequence[Case], columns: Sequence[str], config: EvaluationConfig, crops: FaceCrops
) -> None:
    write_bytes(path, encode_png(sheets.draw(cases, columns, config.baseline, crops), level=6))


def write_page(
    reports: Path,
    summary: Summary,
    rows: Sequence[Row],
    shown: dict[Group, list[Case]],
    extremes: Sequence[Case],
    config: EvaluationConfig,
    provenance: Provenance,
    crops: FaceCrops,
) -> None:
    """Write `report.html`."""
    if config.networks:
        files = {name: Path(path).name for name, path in config.networks.items()}
        provenance = provenance | {"networks of metrics": files}
    text = page.render(summary, rows, shown, extremes, config, provenance, crops)
    write_bytes(reports / "report.html", text.encode())
