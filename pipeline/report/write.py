"""Write the report of an evaluation: metrics.json, tables, plots, sheets, the page."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.core.files import write_bytes, write_json
from pipeline.core.png import large_png
from pipeline.core.schema import METRICS, Row
from pipeline.core.shards import evenly_spaced, write_rows
from pipeline.evaluate.aggregate import aggregate, by_method, common_ids, read_parts
from pipeline.evaluate.cases import Case, EvaluationConfig, Provenance, find_cases
from pipeline.evaluate.summary import Summary, joined
from pipeline.html.pages import shareable
from pipeline.report import dvc_plots, findings, kinds, page, sheets, tables
from pipeline.report.crops import FaceCrops
from pipeline.report.findings import Group

PAGE = "report.html"
FOLDERS = ("sheets", "plots", "tables")
_RECORD = re.compile(rb"<!-- facesr report: (\[.*\]) -->\s*$")
"""The last line of a page: every file of the report, so that the next one removes these and no others."""
_WITHIN = re.compile(rf"(metrics|summary)\.json|per_image\.parquet|{PAGE}|({'|'.join(FOLDERS)})/[^/]+")

Find = Callable[[str, str, Sequence[str]], list[Case]]
"""(split, scale, ids) -> their cases, in the order of the ids."""


def write(
    parts: Path, config: EvaluationConfig, reports: Path, provenance: Provenance, find: Find | None = None
) -> Summary:
    """Write everything under `reports` from the parts of all units, and return what metrics.json holds.

    `metrics.json`, `per_image.parquet` (METRICS), `plots/*.csv`,
    `tables/*` (CSV, LaTeX, Markdown), `sheets/*.png`, `report.html`.

    Args:
        parts: the folder that the units were written to.
        config: the evaluation's config, as the worker had it.
        reports: folder to write to; the files of an earlier report in it are replaced, others stay.
        provenance: sections for the end of the report: data hashes, params, model sha256, versions, hardware.
        find: reads faces again, for pictures; by default from the shards that `config` names.
    """
    rows = dvc_plots.with_gains((row for row in read_parts(parts) if row["psnr"] is not None), config.baseline)
    draw = partial(sheets.draw, baseline=config.baseline, crops=FaceCrops(config))
    work = reports / ".facesr-report"
    shutil.rmtree(work, ignore_errors=True)
    summary = aggregate(parts, config)
    report = _Report(work, config, summary, rows, find or partial(find_cases, config), draw)
    write_json(work / "metrics.json", summary)
    write_rows(work / "per_image.parquet", rows, METRICS)
    dvc_plots.write_tables(work / "plots", rows, summary, config.methods, config.baseline)
    by_kind = kinds.kind_tables(summary, rows, config)
    dvc_plots.write_kinds(work / "plots", by_kind)
    tables.write(work / "tables", summary, config.subject, [table.to_text() for table in by_kind])
    networks = {name: Path(path).name for name, path in config.networks.items()}
    provenance = shareable(provenance | ({"networks of metrics": networks} if networks else {}))
    with ThreadPoolExecutor(3) as pool:  # each waits for pictures to be read
        shown, extremes = pool.submit(write_sheets, report), pool.submit(write_worst, report)
        of_kinds = [pool.submit(write_kinds, report, table) for table in by_kind]
        degraded = [(table, cases.result()) for table, cases in zip(by_kind, of_kinds, strict=True)]
        text = page.render(summary, rows, shown.result(), extremes.result(), config, provenance, draw, degraded)
    write_bytes(work / PAGE, text.encode())
    _publish(work, reports)
    return summary


def recorded(reports: Path) -> set[str]:
    """The files of the report that lies in a folder, relative; none where there is no report of ours."""
    with suppress(OSError, ValueError):
        if found := _RECORD.search((reports / PAGE).read_bytes()):
            # a page from elsewhere must not name what lies elsewhere
            return {name for name in json.loads(found[1]) if isinstance(name, str) and _WITHIN.fullmatch(name)}
    return set()


def _publish(work: Path, reports: Path) -> None:
    """Move a complete report into place of the one before; the page first, since it says what belongs to it."""
    names = sorted(path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file())
    record = json.dumps(names).replace("-", "\\u002d")  # no name ends the comment
    page = work / PAGE
    page.write_bytes(page.read_bytes() + f"\n<!-- facesr report: {record} -->\n".encode())
    for old in recorded(reports) - {PAGE}:
        (reports / old).unlink(missing_ok=True)
    for name in sorted(names, key=lambda name: name != PAGE):
        (reports / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).replace(reports / name)
    shutil.rmtree(work)


@dataclass(frozen=True)
class _Report:
    """What the files of a report are made of."""

    folder: Path
    config: EvaluationConfig
    summary: Summary
    rows: list[Row]
    """METRICS rows that have metrics, with `gain_psnr`."""
    find: Find
    draw: page.Draw


def write_sheets(report: _Report) -> dict[Group, list[Case]]:
    """Write a sheet for each split and scale but those of kinds, and return the cases on them."""
    shown: dict[Group, list[Case]] = {}
    with ThreadPoolExecutor(2) as pool:
        written = []
        for group, methods in by_method(report.rows).items():
            if findings.is_kind(group):
                continue
            references = [method for method in report.config.references if method in methods]
            columns = [*(method for method in report.config.methods if method in methods), *references]
            # where a reference covers few faces, those are shown
            common = set(common_ids(methods, references))
            full = [method for method in references if common <= methods[method].keys()]
            ids = common_ids(methods, full) or sorted(common)
            faces = [ids[index] for index in evenly_spaced(len(ids), report.config.sheet_faces)]
            shown[group] = report.find(*group, faces)
            # one sheet is drawn while the next one's faces are read
            written.append(pool.submit(_write_png, report, joined("-", *group), shown[group], columns))
        for sheet in written:
            sheet.result()
    return shown


def write_kinds(report: _Report, table: kinds.KindTable) -> list[Case]:
    """Write a sheet of one face under every kind, and return its cases."""
    split, scale = table.group
    cases = [case for kind in table.kinds for case in report.find(split, table.scale_of(kind), [table.shown])]
    columns = [name for name in page.sheet_methods(report.config) if any(name in case.results for case in cases)]
    _write_png(report, f"kinds-{split}-{scale}", cases, columns)
    return cases


def write_worst(report: _Report) -> list[Case]:
    """Write a sheet of the subject's worst faces, and return these with its median and best ones."""
    for group in findings.measured(report.summary)[:1]:
        picked = findings.pick_all(report.rows, group, report.config.subject)
        extremes = report.find(*group, list(dict.fromkeys(row["id"] for row in picked)))
        worst = {row["id"] for row in picked if row["kind"] == "worst"}
        cases = [case for case in extremes if case.id in worst]
        _write_png(report, joined("-", "worst", *group), cases, report.config.methods)
        return extremes
    return []


def _write_png(report: _Report, name: str, cases: Sequence[Case], columns: Sequence[str]) -> None:
    write_bytes(report.folder / "sheets" / f"{name}.png", large_png(report.draw(cases, columns)))
