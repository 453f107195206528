"""`facesr inspect`: what an archive holds, before anything is done with it."""

import json
import shlex
import tempfile
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli._shared import fail
from pipeline.runtime.console import console, progress

SHOWN = 6
"""Sizes that are listed, the most common first."""


def inspect(
    context: typer.Context,
    path: Annotated[
        str,
        typer.Argument(help="Folder, .zip, .tar(.gz …), .parquet, .tfrecords, .h5, picture, pattern or s3://, hf://…"),
    ],
    sheet: Annotated[Path | None, typer.Option(help="Also write a contact sheet: a .png or .jpg file")] = None,
    sample: Annotated[int, typer.Option(min=1, help="Pictures to decode, spread over the archive")] = 200,
    seconds: Annotated[float, typer.Option(min=1, help="Most time to take; counts are lower bounds then")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON")] = False,
) -> None:
    """Say what an archive holds and what for its pictures can serve. Exit 0: looked, 1: no picture usable, 2: usage."""
    from pipeline.core.files import write_bytes
    from pipeline.core.images import encode_jpeg, encode_png
    from pipeline.inspect import contact_sheet
    from pipeline.inspect.survey import examine, survey
    from pipeline.sources.base import SourceError
    from pipeline.sources.open import open_archive

    if sheet is not None and sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise fail(f"--sheet {sheet}: name a .png or .jpg file")
    try:
        # nothing is unpacked, so nothing comes to lie in it
        with tempfile.TemporaryDirectory(prefix="facesr-") as scratch:
            with console.status("listing") if console.is_terminal else nullcontext():
                source = open_archive(path, Path(scratch))
                found, chosen = survey(source, sample, seconds / 2)
            with progress("inspect", len(chosen)) as advance:
                examine(found, source, chosen, seconds / 2, advance)
    except SourceError as error:
        raise fail(str(error)) from error
    summary = {"path": path, **found.summary()}
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        _print(summary, "ingest" in getattr(context.find_root().command, "commands", {}))
    if sheet is not None:
        pixels = contact_sheet.draw(contact_sheet.choose(found.looks))
        write_bytes(sheet, encode_png(pixels, 9) if sheet.suffix.lower() == ".png" else encode_jpeg(pixels, 90))
        console.print(f"contact sheet: {sheet}", markup=False)
    if not summary["sizes"]:
        raise typer.Exit(1)


def _print(found: dict[str, Any], ingest: bool) -> None:
    from pipeline.inspect.survey import USES

    out = Console(highlight=False)
    more = "" if found["complete"] else " or more (the time was up)"
    table = Table(title=Text(str(found["path"]), style="bold"), title_justify="left", show_header=False, box=None)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("container", found["kind"])
    table.add_row("pictures", f"{found['pictures']:,}{more}")
    if found["bytes"]:
        table.add_row("encoded", f"{_size(found['bytes'])}{more}")
    taken = "the first" if found["sampled_first"] else "spread over it"
    table.add_row("looked at", f"{found['sampled']:,}, {taken}")
    sizes = found["sizes"]
    if sizes:
        total = sum(item["count"] for item in sizes)
        for row, item in enumerate(sizes[:SHOWN]):
            share = item["count"] / total
            bar = "█" * max(round(24 * share), 1)
            side = f"{item['width']} x {item['height']}"
            table.add_row("" if row else "sizes", f"{side:<13}{share:>5.0%}  [cyan]{bar}[/]")
        if len(sizes) > SHOWN:
            small, large = (edge(min(item["width"], item["height"]) for item in sizes) for edge in (min, max))
            table.add_row("", f"and {len(sizes) - SHOWN:,} more; shorter sides from {small} to {large}")
        for row, (use, words) in enumerate((use, words) for use, words in USES.items() if found["uses"][use]):
            style = "red" if use == "unusable" else "yellow" if use == "small" else "green"
            table.add_row("" if row else "serve as", f"[{style}]{found['uses'][use] / total:>4.0%}[/]  {words}")
        table.add_row("formats", _shares(found["formats"], total))
        table.add_row("pixels", _shares(found["modes"], total))
        odd = {
            "turned by EXIF": found["turned"],
            "colour profile": found["profiles"],
            "not square": found["not_square"],
        }
        table.add_row(
            "also", _shares(Counter({name: n for name, n in odd.items() if n}), total) or "all square, none turned"
        )
    out.print(table)
    if found["problems"]:
        faults = Table("problem", "pictures", "such as", title="Problems", title_justify="left", title_style="bold red")
        for item in found["problems"]:
            names = ", ".join(item["names"][:3])
            detail = f"\n{item['first']}" if item["first"] != item["reason"] else ""
            faults.add_row(Text(item["reason"]), f"{item['count']:,}", Text(names) + Text(detail, style="dim"))
        out.print(faults)
    else:
        out.print("no problems found", style="green")
    if sizes:
        command = f"facesr ingest {shlex.quote(found['path'])} --out faces"
        entry = f'in params.yaml, ingest.sources: {{kind: archive, path: "{found["path"]}"}}'
        out.print(f"next: {command if ingest else entry}", markup=False, soft_wrap=True)


def _shares(counts: dict[str, int], total: int) -> str:
    return ", ".join(f"{name} {count / total:.0%}" if count < total else name for name, count in counts.items())


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
