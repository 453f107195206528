"""The evaluation as one self-contained HTML page: verdict, warnings, tables, distributions, pictures, provenance.

Pictures are embedded, scripts and styles are inline, and the page's own policy forbids any network access.
"""

import base64
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline import findings, sheets
from pipeline.cases import FACTOR, Case, EvaluationConfig
from pipeline.findings import Group
from pipeline.images import Pixels, encode_jpeg, resize
from pipeline.plots import BASELINE

PAPER: Final = (
    ("PSNR, dB", "32.51", "31.65", "36.96", "33.32"),
    ("SSIM", "0.8535", "0.8347", "0.9514", "0.8974"),
    ("FID", "19.17", "4.31", "9.30", "3.29"),
)
"""Jo and Park's figures. Metric; training faces: bicubic, their network; unseen faces: bicubic, their network."""
_BUDGET: Final = 5_000_000
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
    shown: dict[Group, list[Case]], extremes: list[Case], config: EvaluationConfig, group: Group | None
) -> tuple[dict[str, Pixels], list[Case]]:
    """Every picture of the page by name, and the cases that have a slider."""
    subject = config["methods"][0]
    pictures = {
        f"sheet-{split}-{scale}": sheets.draw(shown[split, scale][:_SHEET_FACES], config["methods"])
        for split, scale in findings.GROUPS
        if shown.get((split, scale))
    }
    cases = shown.get(group, []) if group else []
    sliders = [case for case in cases if BASELINE in case.results and subject in case.results][:_SLIDERS]
    for case in sliders:
        pictures[f"before-{case.id}"] = _detail(case.results[BASELINE])
        pictures[f"after-{case.id}"] = _detail(case.results[subject])
    for case in extremes:
        for name in (BASELINE, subject):
            if name in case.results:
                pictures[f"thumb-{name}-{case.id}"] = resize(case.results[name], _THUMB, _THUMB)
        if case.truth is not None:
            pictures[f"thumb-original-{case.id}"] = resize(case.truth, _THUMB, _THUMB)
    return pictures, sliders


def render(
    summary: dict[str, Any],
    rows: list[dict[str, Any]],
    shown: dict[Group, list[Case]],
    extremes: list[Case],
    config: EvaluationConfig,
    provenance: dict[str, Any],
) -> str:
    """Render the page.

    Args:
        summary: what metrics.json holds.
        rows: METRICS rows with `gain_psnr` (`plots.with_gains`).
        shown: cases for sheets and sliders, by split and scale.
        extremes: cases of `findings.pick_extremes` in the headline's split and scale.
        config: the evaluation's config; its first method is the page's subject.
        provenance: `{section: {name: value}}`, shown at the end in this order.

    Returns:
        HTML under about 6 MB that loads nothing from anywhere.
    """
    groups = findings.measured(summary)
    main = groups[0] if groups else None
    subject = config["methods"][0]
    pictures, sliders = _pictures(shown, extremes, config, main)
    base = {
        row["id"]: row for row in rows if (row["split"], row["scale"], row["method"]) == (*(main or ("", "")), BASELINE)
    }
    environment = Environment(
        loader=PackageLoader("pipeline"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"scale": findings.scale_name, "signed": findings.signed}
    return environment.get_template("report.html.j2").render(
        main=main,
        subject=subject,
        baseline=BASELINE,
        factor=FACTOR,
        verdicts=[one for one in (findings.verdict(summary, rows, group, subject) for group in groups) if one],
        warnings=findings.warnings(summary, config),
        metrics=findings.METRICS,
        tables={group: findings.table(summary, group) for group in groups},
        charts={group: findings.charts(rows, group, config["methods"]) for group in groups},
        cases=findings.pick_extremes(rows, main, subject) if main else [],
        base=base,
        sliders=sliders,
        pictures=pictures,
        uris=_embed(pictures),
        groups=groups,
        paper=PAPER,
        provenance=provenance,
    )
