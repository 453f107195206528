"""`facesr inspect`: what an archive holds, before anything is done with it."""

import json
import shlex
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from pipeline.cli._shared import fail, fail_on, refuse_folder, refuse_to_replace
from pipeline.core.errors import without_secrets
from pipeline.runtime.console import console, progress, results

if TYPE_CHECKING:
    from pipeline.inspect.survey import Summary

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
    zip_encoding: Annotated[str | None, typer.Option(help="Of a zip's names that are not marked: cp932, gbk …")] = None,
    column: Annotated[str | None, typer.Option(help="Parquet's column of pictures")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a --sheet that is not from here")] = False,
) -> None:
    """Say what an archive holds and what for its pictures can serve. Exit 0: looked, 1: no picture usable, 2: usage."""
    from pipeline.core.files import write_bytes
    from pipeline.inspect import contact_sheet
    from pipeline.inspect.survey import examine, survey
    from pipeline.sources.base import Reading, SourceError
    from pipeline.sources.open import open_archive

    if sheet is not None and sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise fail(f"--sheet {sheet}: name a .png or .jpg file")
    if sheet is not None:
        refuse_folder(sheet, "--sheet")
        refuse_to_replace(sheet, contact_sheet.is_sheet, [path], overwrite, "--sheet")
    # nothing is unpacked, so nothing comes to lie in the folder
    with fail_on(SourceError), tempfile.TemporaryDirectory(prefix="facesr-") as scratch:
        with console.status("listing") if console.is_terminal else nullcontext():
            source = open_archive(path, Path(scratch), reading=Reading(zip_encoding, column))
            found, chosen = survey(source, sample, seconds / 2)
        with progress("inspect", len(chosen)) as advance:
            examine(found, source, chosen, seconds / 2, advance)
    summary = {"path": without_secrets(path), **found.summary()}
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        _print(summary, "ingest" in getattr(context.find_root().command, "commands", {}))
    if sheet is not None:
        pixels = contact_sheet.draw(contact_sheet.choose(found.looks))
        write_bytes(sheet, contact_sheet.encode(pixels, sheet.suffix.lower()))
        console.print(f"contact sheet: {sheet}", markup=False)
    if not summary["sizes"]:
        raise typer.Exit(1)


def _print(found: "Summary", ingest: bool) -> None:
    from pipeline.inspect.survey import USES

    out = results()
    why = "the rest cannot be read" if found["damaged"] else "the time was up"
    more = "" if found["complete"] else f" or more ({why})"
    table = Table(title=Text(str(found["path"]), style="bold"), title_justify="left", show_header=False, box=None)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("container", found["kind"])
    table.add_row("pictures", f"{found['pictures']:,}{more}")
    if found["passed_over"]:
        table.add_row("passed over", f"{found['passed_over']:,} other files beside them")
    if found["bytes"]:
        table.add_row("encoded", f"{decimal(found['bytes'])}{more}")
    table.add_row("looked at", f"{found['sampled']:,}, {'the first' if found['sampled_first'] else 'spread over it'}")
    sizes, total = found["sizes"], sum(item["count"] for item in found["sizes"])
    if sizes:
        for row, item in enumerate(sizes[:SHOWN]):
            share = item["count"] / total
            bar = ("█" if out.encoding.startswith("utf") else "#") * max(round(24 * share), 1)
            side = f"{item['width']} x {item['height']}"
            line = Text(f"{side:<13}{share:>5.0%}  ").append(bar, "cyan")
            table.add_row("" if row else "sizes", line)
        if len(sizes) > SHOWN:
            sides = [min(item["width"], item["height"]) for item in sizes]
            table.add_row("", f"and {len(sizes) - SHOWN:,} more; shorter sides from {min(sides)} to {max(sides)}")
        for row, use in enumerate(use for use in USES if found["uses"][use]):
            style = {"unusable": "red", "small": "yellow"}.get(use, "green")
            line = Text(f"{found['uses'][use] / total:>4.0%}", style).append(f"  {USES[use]}", "default")
            table.add_row("" if row else "serve as", line)
        table.add_row("formats", _shares(found["formats"], total))
        table.add_row("pixels", _shares(found["modes"], total))
        odd = {"turned": "turned by EXIF", "profiles": "colour profile", "not_square": "not square"}
        shares = _shares({words: found[key] for key, words in odd.items() if found[key]}, total)
        table.add_row("also", shares or "all square, none turned")
    out.print(table)
    if found["problems"]:
        faults = Table("problem", "pictures", "such as", title="Problems", title_justify="left", title_style="bold red")
        for item in found["problems"]:
            detail = f"\n{item['first']}" if item["first"] != item["reason"] else ""
            such_as = Text(", ".join(item["names"][:3])) + Text(detail, style="dim")
            faults.add_row(Text(item["reason"]), f"{item['count']:,}", such_as)
        out.print(faults)
    else:
        out.print("no problems found", style="green")
    if sizes:
        command = f"facesr ingest {shlex.quote(found['path'])} --out faces"
        entry = f'in params.yaml, ingest.sources: {{kind: archive, path: "{found["path"]}"}}'
        out.print(f"next: {command if ingest else entry}", markup=False, soft_wrap=True)


def _shares(counts: dict[str, int], total: int) -> str:
    return ", ".join(f"{name} {count / total:.0%}" if count < total else name for name, count in counts.items())
