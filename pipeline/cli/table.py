"""`facesr table`: reports/metrics.json on the terminal, or as CSV, Markdown or LaTeX."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from pipeline.cli._shared import fail
from pipeline.core.errors import first_line
from pipeline.core.scales import BASELINE, BASELINES, METHODS, UPSCALED_SCALES
from pipeline.evaluate.summary import Summary, joined, known_first, scores_of
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
        if not all(keys <= score.keys() for *_, score in scores_of(summary)):
            raise ValueError("a method without figures")
    except (ValueError, AttributeError, RecursionError) as error:
        raise fail(f"{metrics}: not a metrics.json ({first_line(error)})", 1) from error
    if form == "terminal" and not paper:
        print_table(summary)
        return
    papers = [tables.paper_table(summary, split, "facesr") for split in tables.PAPER] if paper else []
    for printed in papers or [tables.results(summary)]:
        if printed is not None:
            typer.echo(tables.render(printed, "markdown" if form == "terminal" else form))


def print_table(summary: Summary, baseline: str = BASELINE) -> None:
    """Print what metrics.json holds: a table per split and scale, the gain over the baseline beside each PSNR."""
    shown = [key for key in tables.measured_keys(summary, HEADLINES) if key != "psnr"]
    console = results()
    heads = ["PSNR dB", *([f"vs {baseline}"] if baseline else []), *(MEASURES[key].heading for key in shown)]
    reasons: dict[str, list[str]] = {}
    groups = {(split, scale) for split, scale, *_ in scores_of(summary)}
    for split, scale in sorted(groups, key=lambda group: [*map(_SORT_KEY, group)]):
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
            reference = score.get("on_same_faces", methods).get(baseline, {}).get("psnr")
            for key, measure in MEASURES.items():
                if score["psnr"] is not None and score.get(f"{key}_reason"):
                    reasons.setdefault(score[f"{key}_reason"], []).append(measure.heading)
            gain = "–" if None in (reference, score["psnr"]) else f"{score['psnr'] - reference:+.2f}"
            cells = [tables.cell(score, key) for key in ("psnr", *shown)]
            few = score.get("count", faces)
            name = method if few == faces else f"{method} ({few} faces)"
            table.add_row(name, cells[0], *([gain] if baseline else []), *cells[1:])
        console.print(table)
    console.print("8-bit RGB, whole image; clean inputs where nothing else is said")
    for reason, names in reasons.items():
        console.print(f"not measured: {', '.join(dict.fromkeys(names))}: {reason}", markup=False)
