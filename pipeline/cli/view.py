"""`facesr view`: what `facesr upscale` wrote as one HTML page; `facesr demo`: that page of a portrait drawn for it."""

import os
import sys
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
    if show:
        _open(target)


DEMO = ("original.png", "portrait.png", "enlarged.png", "enlarged.png.manifest.parquet", "view.html")
"""Files of the demo: 1024 and 256 pixels a side, the enlarged one, what became of it, and the page."""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures and the page")] = Path("facesr-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Which portrait is drawn")] = 3,
    realism: Annotated[float, typer.Option(min=0, max=1, help="0: faithful, 1: realistic, or between")] = 0.0,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser")] = True,
) -> None:
    """Draw a portrait, reduce it to 256x256, enlarge that again and show before and after: no data, no download."""
    if out.exists() and not (out.is_dir() and _only_demo(out)):
        raise fail(f"{out} is there and not from this command: name another --out")
    console.print("draw a portrait at 1024x1024 and reduce it to 256x256")
    from pipeline.core.files import write_bytes
    from pipeline.core.images import decode, encode_png, psnr, resize
    from pipeline.core.imports import spare_meta_kernels, spare_pandas
    from pipeline.core.scales import FACTOR
    from pipeline.synthetic.canvas import SIZE
    from pipeline.synthetic.portrait import portrait

    original = portrait(seed, 0)
    low = resize(original, SIZE // FACTOR, SIZE // FACTOR)
    write_bytes(out / "original.png", encode_png(original))
    write_bytes(out / "portrait.png", encode_png(low))
    console.print("load the released generator and enlarge it")
    spare_pandas()
    spare_meta_kernels()
    from pipeline.bulk.listing import listed
    from pipeline.bulk.outputs import Output
    from pipeline.bulk.settings import RunOptions, Settings

    result = out / "enlarged.png"
    settings, options = Settings(realism=realism), RunOptions(workers=1, overwrite=True)
    with listed(str(out / "portrait.png"), Output.of(str(result)), settings, options) as listing:
        from pipeline.bulk.run import upscale

        upscale(listing)
    enlarged = decode(result.read_bytes())
    for name, pixels in (("bicubic", resize(low, SIZE, SIZE)), ("facesr", enlarged)):
        console.print(f"{name}: {psnr(pixels, original):.2f} dB from the original")
    view(str(result), limit=1, to=out / "view.html", before=None, overwrite=False, show=show)


def _only_demo(folder: Path) -> bool:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")} <= set(DEMO)


def _open(page: Path) -> None:
    """Open a page, where there is a screen: a browser in the terminal would take that over."""
    screen = sys.platform != "linux" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if not (screen and webbrowser.open(page.resolve().as_uri())):
        console.print(f"no browser could be started: open {page} yourself", markup=False)
