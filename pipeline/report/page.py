"""The evaluation as one self-contained HTML page: verdict, warnings, tables, distributions, pictures, provenance.

Pictures are embedded, scripts and styles are inline, and the page's own policy forbids any network access.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pipeline.core.degradation import KINDS, described
from pipeline.core.images import Pixels, resize
from pipeline.core.scales import FACTOR
from pipeline.core.schema import Row
from pipeline.evaluate.aggregate import TESTED
from pipeline.evaluate.cases import Case, EvaluationConfig, Provenance
from pipeline.evaluate.summary import Summary
from pipeline.html.pages import embed, environment
from pipeline.metrics.registry import MAIN, MEASURES, VARIANTS, signed
from pipeline.report import charts, findings, kinds, sheets, tables
from pipeline.report.findings import Group

_BUDGET: Final = 4_800_000
"""Bytes of embedded pictures; JPEG quality falls until they fit."""
_QUALITIES: Final = (88, 80, 70, 60, 50, 40, 30)
_SHEET_FACES: Final = 3
_SLIDERS: Final = 2
_DETAIL: Final = 512
_THUMB: Final = 128


Draw = Callable[[Sequence[Case], Sequence[str]], Pixels]
"""Cases and methods -> a sheet of them."""


Degraded = Sequence[tuple[kinds.KindTable, Sequence[Case]]]
"""Methods by kind of input, and one face under every kind."""


def sheet_methods(config: EvaluationConfig) -> list[str]:
    """Methods that a sheet shows between baseline and original, where they have results."""
    return [*config.methods, *config.references]


def _detail(pixels: Pixels) -> Pixels:
    """The middle of a large picture at its own size; a small one whole."""
    height, width = pixels.shape[:2]
    if min(height, width) < 2 * _DETAIL:
        return pixels
    top, left = (height - _DETAIL) // 2, (width - _DETAIL) // 2
    return pixels[top : top + _DETAIL, left : left + _DETAIL]


def _images(
    shown: Mapping[Group, Sequence[Case]],
    sliders: Sequence[Case],
    extremes: Sequence[Case],
    config: EvaluationConfig,
    draw: Draw,
    degraded: Degraded,
) -> dict[str, Pixels]:
    """Every picture of the page by name."""
    images = {}
    drawn = {f"sheet-{split}-{scale}": cases[:_SHEET_FACES] for (split, scale), cases in shown.items()}
    # the first table's alone: it is a face for each kind
    drawn |= {f"kinds-{table.group[0]}-{table.group[1]}": cases for table, cases in degraded[:1]}
    for name, cases in drawn.items():
        if cases:
            present = {method for case in cases for method in case.results}
            images[name] = draw(cases, [method for method in sheet_methods(config) if method in present])
    for case in sliders:
        sides = {"before": _before(case, config.baseline), "after": case.results[config.subject]}
        images |= {f"{side}-{case.id}": _detail(pixels) for side, pixels in sides.items() if pixels is not None}
    for case in extremes:
        small = {name: case.results.get(name) for name in (config.baseline, config.subject)} | {"original": case.truth}
        for name, pixels in small.items():
            if pixels is not None:
                images[f"thumb-{name}-{case.id}"] = resize(pixels, _THUMB, _THUMB)
    return images


def _before(case: Case, baseline: str) -> Pixels | None:
    """The left side of a slider: the baseline's picture, or the original where there is no baseline."""
    return case.results.get(baseline) if baseline else case.truth


def render(
    summary: Summary,
    rows: Sequence[Row],
    shown: Mapping[Group, Sequence[Case]],
    extremes: Sequence[Case],
    config: EvaluationConfig,
    provenance: Provenance,
    draw: Draw = sheets.draw,
    degraded: Degraded = (),
) -> str:
    """Render the page.

    Args:
        summary: what metrics.json holds.
        rows: METRICS rows with `gain_psnr` (`dvc_plots.with_gains`).
        shown: cases for sheets and sliders, by split and scale.
        extremes: cases of `findings.pick_all` in the headline's split and scale.
        config: the evaluation's config; its first method is the page's subject.
        provenance: shown at the end in this order.
        draw: makes a sheet.
        degraded: what was measured on kinds of degraded inputs.

    Returns:
        HTML under about 6 MB that loads nothing from anywhere.
    """
    groups = [group for group in findings.measured(summary) if not findings.is_kind(group)]
    main = groups[0] if groups else ("", "")
    subject, baseline = config.subject, config.baseline
    pairs = [case for case in shown.get(main, ()) if _before(case, baseline) is not None and subject in case.results]
    images = _images(shown, pairs[:_SLIDERS], extremes, config, draw, degraded)
    picked = findings.pick_all(rows, main, subject)
    verdicts = [findings.verdict(summary, rows, group, subject, baseline) for group in groups]
    # without results of the baseline there is nothing to draw
    scatters = [charts.scatter(rows, main, key, baseline, subject) for key in TESTED if baseline != subject]
    papers = [tables.paper_table(summary, split, subject) for split in tables.PAPER]
    templates = environment("pipeline.report")
    templates.filters |= {"scale": findings.scale_name, "signed": signed, "p": findings.p_text}
    return templates.get_template("report.html.j2").render(
        main=main if groups else None,
        subject=subject,
        baseline=baseline,
        before=baseline or "original",
        factor=FACTOR,
        pipeline=any(group in findings.GROUPS for group in groups) or not groups,
        verdicts=list(filter(None, verdicts)),
        warnings=findings.warnings(summary, config),
        defects=findings.defects(summary),
        unmatched=config.unmatched,
        columns=findings.columns_of(summary, MAIN),
        variants=findings.columns_of(summary, ("psnr", "ssim", *VARIANTS)),
        tables={group: findings.comparable(summary, group) for group in groups},
        best=findings.best,
        cell=tables.cell,
        kinds=[table for table, _ in degraded],
        described={kind: described(chain) for kind, chain in KINDS.items()},
        tests={group: findings.tests(summary, group, subject) for group in groups},
        effect=findings.effect,
        charts={
            group: charts.gain_charts(rows, group, findings.compared(summary, group, baseline)) for group in groups
        },
        scatters=list(filter(None, scatters)),
        curves=charts.curves(Path(config.training) if config.training else None),
        cases=[row for row in picked if row["by"] == "gain_psnr"],
        others=[row for row in picked if row["by"] != "gain_psnr"],
        measures=MEASURES,
        base={row["id"]: row for row in findings.rows_of(rows, main, baseline, "psnr")},
        sliders=pairs[:_SLIDERS],
        images=embed(((images, quality) for quality in _QUALITIES), _BUDGET),
        groups=groups,
        paper=list(filter(None, papers)),
        printed=tables.PAPER,
        provenance=provenance,
    )
