"""`facesr table`: reports/metrics.json on the terminal, or as CSV, Markdown or LaTeX."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from pipeline.cli._shared import fail
from pipeline.core.errors import first_line
from pipeline.core.scales import BASELINE, BASELINES, METHODS, UPSCALED_SCALES, base_of, inputs_of
from pipeline.evaluate.summary import Score, Summary, joined, known_first, scores_of
from pipeline.metrics.registry import HEADLINES, MEASURES
from pipeline.report import tables
from pipeline.runtime.console import results

_SORT_KEY = known_first(("train", "test", *UPSCALED_SCALES, *BASELINES, *METHODS))
"""Names in the order that people expect."""


def table(
    metrics: Annotated[Path, typer.Argument()] = Path("reports/metrics.json"),
    form: Annotated[str, typer.Option("--format", help="terminal, csv, markdown or latex")] = "terminal",
    paper: Annotated[bool, typer.Option("--paper", help="Tables 1 and 2 of the paper, ours beside them")] = False,
) -> None:
    """Print the results table of reports/metrics.json."""
    if form not in ("terminal", *tables.FORMATS):
        raise fail(f"--format {form}: terminal, {', '.join(tables.FORMATS)}")
    if not metrics.is_file():
        raise fail(f"{metrics}: not there yet; `make repro` writes it")
    try:
        summary = json.loads(metrics.read_bytes())
        keys = {"psnr", "count"} if paper else {"psnr"}
        for *_, score in scores_of(summary):
            _check(score, keys)
            for reference in score.get("on_same_faces", {}).values():
                _check(reference, set())
    except (ValueError, AttributeError, RecursionError) as error:
        raise fail(f"{metrics}: not a metrics.json ({first_line(error)})", 1) from error
    if form == "terminal" and not paper:
        print_table(summary)
        return
    papers = [tables.paper_table(summary, split, "facesr") for split in tables.PAPER] if paper else []
    for printed in papers or [tables.results(summary)]:
        if printed is not None:
            typer.echo(tables.render(printed, "markdown" if form == "terminal" else form))


def _check(score: Score, keys: set[str]) -> None:
    """Raises: ValueError, AttributeError: it lacks a figure, or one is no number."""
    if not keys <= score.keys():
        raise ValueError("a method without figures")
    wrong = [key for key in ("count", *MEASURES) if not isinstance(score.get(key), int | float | None)]
    if wrong:
        raise ValueError(f"{wrong[0]} is no number")


def print_table(summary: Summary, baseline: str = BASELINE) -> None:
    """Print what metrics.json holds: a table per split and scale, the gain over the baseline beside each PSNR.

    Kinds of degraded inputs share a table, of the gain alone.
    """
    shown = [key for key in tables.measured_keys(summary, HEADLINES) if key != "psnr"]
    console = results()
    heads = ["PSNR dB", *([f"vs {baseline}"] if baseline else []), *(MEASURES[key].heading for key in shown)]
    reasons: dict[str, list[str]] = {}
    # numpy and torch, which --help has no use for
    from pipeline.core.degradation import MEASURED_SCALES
    from pipeline.report.findings import is_kind

    groups = {(split, scale) for split, scale, *_ in scores_of(summary)}
    kinds = sorted(filter(is_kind, groups), key=lambda group: MEASURED_SCALES.index(group[1]))
    for split, scale in sorted(groups - set(kinds), key=lambda group: [*map(_SORT_KEY, group)]):
        methods = summary[split][scale]
        # a table each: their names would take half the width of a terminal
        faces = max((score.get("count", 0) for score in methods.values()), default=0)
        title = f"{joined(' ', split, scale)}, {faces} faces"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("method", no_wrap=True)
        for head in heads:
            table.add_column(head, justify="right")
        for method in sorted(methods, key=_SORT_KEY):
            score = methods[method]
            for key, measure in MEASURES.items():
                if score["psnr"] is not None and score.get(f"{key}_reason"):
                    reasons.setdefault(score[f"{key}_reason"], []).append(measure.heading)
            gain = _gain(methods, method, baseline)
            cells = [tables.cell(score, key) for key in ("psnr", *shown)]
            few = score.get("count", faces)
            name = method if few == faces else f"{method} ({few} faces)"
            table.add_row(name, cells[0], *([gain] if baseline else []), *cells[1:])
        console.print(table)
    for split, base in dict.fromkeys((split, base_of(scale)) for split, scale in kinds):
        shown_kinds = {
            inputs_of(scale): summary[split][scale]
            for other, scale in kinds
            if (other, base_of(scale)) == (split, base)
        }
        console.print(_kinds_table(f"{split} {base}, gain over {baseline} by kind of input, dB", shown_kinds, baseline))
    console.print("8-bit RGB, whole image; clean inputs where nothing else is said")
    for reason, names in reasons.items():
        console.print(f"not measured: {', '.join(dict.fromkeys(names))}: {reason}", markup=False)


def _gain(methods: Mapping[str, Score], method: str, baseline: str) -> str:
    """PSNR over the baseline on the same faces, dB."""
    score = methods.get(method, {})
    reference, own = score.get("on_same_faces", methods).get(baseline, {}).get("psnr"), score.get("psnr")
    return "–" if reference is None or own is None else f"{own - reference:+.2f}"


def _kinds_table(title: str, kinds: Mapping[str, Mapping[str, Score]], baseline: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for kind in kinds:
        table.add_column(kind, justify="right")
    names = {method for methods in kinds.values() for method in methods} - {baseline}
    for method in sorted(names, key=_SORT_KEY):
        table.add_row(method, *(_gain(methods, method, baseline) for methods in kinds.values()))
    return table
