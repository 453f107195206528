"""The evaluation as one self-contained HTML page: verdict, warnings, tables, distributions, pictures, provenance.

Pictures are embedded, scripts and styles are inline, and the page's own policy forbids any network access.
"""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pipeline.core.images import Pixels, encode_jpeg, resize
from pipeline.core.scales import BASELINE, FACTOR
from pipeline.evaluate.aggregate import TESTED
from pipeline.evaluate.cases import Case, EvaluationConfig, methods_of
from pipeline.html.pages import environment
from pipeline.metrics.registry import MAIN, MEASURES, VARIANTS
from pipeline.report import charts, findings, sheets, tables
from pipeline.report.crops import ALIGNED, Spots
from pipeline.report.findings import Group

_BUDGET: Final = 4_800_000
"""Bytes of embedded pictures; JPEG quality falls until they fit."""
_QUALITIES: Final = (88, 80, 70, 60, 50, 40, 30)
_SHEET_FACES: Final = 3
_SLIDERS: Final = 2
_DETAIL: Final = 512
_THUMB: Final = 128


def _detail(pixels: Pixels) -> Pixels:
    """The middle of a large picture at its own size; a small one whole."""
    height, width = pixels.shape[:2]
    if min(height, width) < 2 * _DETAIL:
        return pixels
    top, left = (height - _DETAIL) // 2, (width - _DETAIL) // 2
    return pixels[top : top + _DETAIL, left : left + _DETAIL]


def _embed(pictures: dict[str, Pixels]) -> dict[str, str]:
    """data: URIs of all pictures, by the best JPEG quality that keeps them within the budget together."""
    uris: dict[str, str] = {}
    for quality in _QUALITIES:
        uris = {
            name: "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(pixels, quality)).decode()
            for name, pixels in pictures.items()
        }
        if sum(map(len, uris.values())) <= _BUDGET:
            break
    return uris


def _pictures(
    shown: dict[Group, list[Case]],
    extremes: list[Case],
    config: EvaluationConfig,
    group: Group | None,
    spots: Callable[[Case], Spots],
) -> tuple[dict[str, Pixels], list[Case]]:
    """Every picture of the page by name, and the cases that have a slider."""
    subject, baseline = config["methods"][0], config.get("baseline", BASELINE)
    pictures = {}
    for (split, scale), cases in shown.items():
        if cases:
            present = [name for name in methods_of(config) if any(name in case.results for case in cases)]
            columns = [name for name in present if name in config["methods"] or name in config.get("peers", [])]
            pictures[f"sheet-{split}-{scale}"] = sheets.draw(cases[:_SHEET_FACES], columns, baseline, spots)
    cases = shown.get(group, []) if group else []
    sliders = [case for case in cases if _before(case, baseline) is not None and subject in case.results][:_SLIDERS]
    for case in sliders:
        before = _before(case, baseline)
        if before is not None:
            pictures[f"before-{case.id}"] = _detail(before)
        pictures[f"after-{case.id}"] = _detail(case.results[subject])
    for case in extremes:
        for name in (baseline, subject):
            if name in case.results:
                pictures[f"thumb-{name}-{case.id}"] = resize(case.results[name], _THUMB, _THUMB)
        if case.truth is not None:
            pictures[f"thumb-original-{case.id}"] = resize(case.truth, _THUMB, _THUMB)
    return pictures, sliders


def _before(case: Case, baseline: str) -> Pixels | None:
    """The left side of a slider: the baseline's picture, or the original where there is no baseline."""
    return case.results.get(baseline) if baseline else case.truth


def render(
    summary: dict[str, Any],
    rows: list[dict[str, Any]],
    shown: dict[Group, list[Case]],
    extremes: list[Case],
    config: EvaluationConfig,
    provenance: dict[str, Any],
    spots: Callable[[Case], Spots] = lambda case: ALIGNED,
) -> str:
    """Render the page.

    Args:
        summary: what metrics.json holds.
        rows: METRICS rows with `gain_psnr` (`plots.with_gains`).
        shown: cases for sheets and sliders, by split and scale.
        extremes: cases of `findings.pick_all` in the headline's split and scale.
        config: the evaluation's config; its first method is the page's subject.
        provenance: `{section: {name: value}}`, shown at the end in this order.
        spots: where a face's features are.

    Returns:
        HTML under about 6 MB that loads nothing from anywhere.
    """
    training = config.get("training")
    groups = findings.measured(summary)
    main = groups[0] if groups else None
    subject, baseline = config["methods"][0], config.get("baseline", BASELINE)
    pictures, sliders = _pictures(shown, extremes, config, main, spots)
    place = main or ("", "")
    base = {row["id"]: row for row in rows if (row["split"], row["scale"], row["method"]) == (*place, baseline)}
    picked = findings.pick_all(rows, main, subject) if main else []
    verdicts = [findings.verdict(summary, rows, group, subject, baseline) for group in groups]
    scatters = [
        charts.scatter(rows, group, key, baseline, subject)
        for group in groups[:1]
        for key in TESTED
        if baseline and baseline != subject
    ]
    templates = environment("pipeline.report")
    templates.filters |= {"scale": findings.scale_name, "signed": findings.signed}
    return templates.get_template("report.html.j2").render(
        main=main,
        subject=subject,
        baseline=baseline,
        before=baseline or "original",
        factor=FACTOR,
        pipeline=any(group in findings.GROUPS for group in groups) or not groups,
        verdicts=[one for one in verdicts if one],
        warnings=findings.warnings(summary, config),
        faults=findings.faults(summary),
        unmatched=config.get("unmatched", []),
        columns=findings.columns_of(summary, MAIN),
        variants=findings.columns_of(summary, ("psnr", "ssim", *VARIANTS)),
        tables={group: findings.table(summary, group, MAIN) for group in groups},
        variant_tables={group: findings.table(summary, group, ("psnr", "ssim", *VARIANTS)) for group in groups},
        tests={group: findings.tests(summary, group, subject) for group in groups},
        charts={group: charts.charts(rows, group, findings.compared(summary, group, baseline)) for group in groups},
        scatters=[one for one in scatters if one],
        curves=charts.curves(Path(training) if training else None),
        cases=[row for row in picked if row["by"] == "gain_psnr"],
        others=[row for row in picked if row["by"] != "gain_psnr"],
        measures=MEASURES,
        base=base,
        sliders=sliders,
        pictures=pictures,
        uris=_embed(pictures),
        groups=groups,
        paper=[one for one in (tables.paper_table(summary, split, subject) for split in tables.PAPER) if one],
        printed=tables.PAPER,
        provenance=provenance,
    )
