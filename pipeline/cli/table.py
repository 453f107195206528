"""`facesr table`: reports/metrics.json on the terminal, or as CSV, Markdown or LaTeX."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.cli._shared import fail
from pipeline.metrics.registry import MEASURES
from pipeline.report.tables import cell, measured_keys

_SHOWN = ("psnr", "ssim", "consistency", "lpips", "dists", "identity", "fid")
"""What fits on a line; the report has all."""
_ORDER = ("train", "test", "64to256", "256to1024", "bicubic", "lanczos", "facesr", "facesr-realism")


def table(
    metrics: Annotated[Path, typer.Argument()] = Path("reports/metrics.json"),
    form: Annotated[str, typer.Option("--format", help="terminal, csv, markdown or latex")] = "terminal",
    paper: Annotated[bool, typer.Option("--paper", help="Tables 1 and 2 of the paper, ours beside them")] = False,
) -> None:
    """Print the results table of reports/metrics.json."""
    from pipeline.report import tables

    if form not in ("terminal", *tables.FORMATS):
        raise fail(f"--format {form}: terminal, {', '.join(tables.FORMATS)}")
    if not metrics.is_file():
        raise fail(f"{metrics}: not there yet; `make repro` writes it")
    summary = json.loads(metrics.read_text())
    if form == "terminal" and not paper:
        print_table(summary)
        return
    printed = [tables.paper_table(summary, split, "facesr") for split in tables.PAPER] if paper else []
    for one in printed or [tables.results(summary)]:
        if one is not None:
            typer.echo(tables.render(one, "markdown" if form == "terminal" else form))


def print_table(metrics: dict[str, Any], console: Console | None = None, baseline: str = "bicubic") -> None:
    """Print reports/metrics.json: a table per split and scale, the gain over the baseline beside each PSNR."""
    shown = [key for key in measured_keys(metrics, _SHOWN) if key != "psnr"]
    console = console or Console()
    heads = ["PSNR dB", *([f"vs {baseline}"] if baseline else []), *(MEASURES[key].heading for key in shown)]
    reasons: dict[str, list[str]] = {}
    for split in sorted(metrics, key=_sort_key):
        for scale in sorted(metrics[split], key=_sort_key):
            methods = metrics[split][scale]
            # a table each: their names would take half the width of a terminal
            faces = max((values.get("count", 0) for values in methods.values()), default=0)
            title = f"{' '.join(filter(None, (split, scale)))}, {faces} faces"
            table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
            table.add_column("method", no_wrap=True)
            for head in heads:
                table.add_column(head, justify="right")
            for method in sorted(methods, key=_sort_key):
                values = methods[method]
                same = values.get("on_same_faces", methods)
                reference = same.get(baseline, {}).get("psnr")
                for key, measure in MEASURES.items():
                    if values["psnr"] is not None and values.get(f"{key}_reason"):
                        reasons.setdefault(values[f"{key}_reason"], []).append(measure.heading)
                gain = "–" if None in (reference, values["psnr"]) else f"{values['psnr'] - reference:+.2f}"
                cells = [cell(values, "psnr"), *([gain] if baseline else []), *(cell(values, key) for key in shown)]
                few = values.get("count", faces)
                table.add_row(method if few == faces else f"{method} ({few} faces)", *cells)
            console.print(table)
    console.print("8-bit RGB, whole image; clean inputs where nothing else is said")
    for reason, names in reasons.items():
        console.print(f"not measured: {', '.join(dict.fromkeys(names))}: {reason}", markup=False)


def _sort_key(name: str) -> tuple[int, str]:
    """Names in the order that people expect, unknown ones after them."""
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)
