"""`facesr view`: show what `facesr upscale` wrote as one HTML page."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli._shared import fail, our_text, refuse_to_replace
from pipeline.runtime.console import console, progress


def view(
    output: Annotated[
        str, typer.Argument(help="What `facesr upscale` wrote: a folder, .zip, .tar, .parquet or picture")
    ],
    limit: Annotated[
        int, typer.Option(min=1, help="Pictures on the page, at most: flagged ones first, then an even sample")
    ] = 200,
    to: Annotated[
        Path | None, typer.Option(help="The page to write; by default OUTPUT/view.html, or OUTPUT.view.html")
    ] = None,
    before: Annotated[
        str | None, typer.Option(help="Where the inputs lie, unless beside OUTPUT under the name they had")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a page that is not from here")] = False,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser")] = False,
) -> None:
    """Show a result as one HTML page: before and after of flagged pictures and a sample. Exit 0: written, 2: usage."""
    from pipeline.bulk import gallery
    from pipeline.bulk.checks import choose
    from pipeline.core.files import write_bytes
    from pipeline.sources.base import SourceError

    if "://" in output:
        raise fail(f"{output}: view reads results on this machine only; copy the result here and name the copy")
    result = Path(output)
    target = to or (result / "view.html" if result.is_dir() else result.with_name(f"{result.name}.view.html"))
    if target.is_dir():
        raise fail(f"--to {target} is a folder: name the file to write")
    # older pages do not say who wrote them
    ours = our_text('<meta name="generator" content="facesr view">', ": before and after</title>")
    try:
        manifest = gallery.read_manifest(result)
        refuse_to_replace(target, ours, [result, manifest.path, before], overwrite, "--to")
        with progress("view", len(choose(manifest.rows, limit))) as advance:
            page = gallery.make(result, manifest, limit, before, advance)
    except (gallery.ViewError, SourceError) as error:
        raise fail(str(error)) from error
    # a name that is no Unicode, which a file system may hold, is shown with a mark in its place
    write_bytes(target, page.encode(errors="replace"))
    console.print(f"{target}: {target.stat().st_size / 1e6:.1f} MB", markup=False)
    if show and not webbrowser.open(target.resolve().as_uri()):
        console.print(f"no browser could be started: open {target} yourself", markup=False)
