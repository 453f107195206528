"""`facesr synth`: procedural portraits, as many as one likes."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli._shared import fail, refuse_to_replace


def synth(
    target: Annotated[str, typer.Argument(metavar="OUTPUT", help="A folder, or a file that ends in .zip or .parquet")],
    count: Annotated[int, typer.Option(min=1, help="How many portraits")] = 100,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side, pixels")] = 1024,
    to: Annotated[str, typer.Option(help="folder, zip or parquet; by default what OUTPUT ends in")] = "",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core by default")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what OUTPUT holds of other origin")] = False,
) -> None:
    """Write procedural portraits: the embedded default data, and as many as a load test wants."""
    from pipeline.runtime.units import do_units
    from pipeline.storage.object_stores import scheme_of
    from pipeline.synthetic.writer import PortraitWorker, finish, is_ours, plan_units

    if scheme_of(target):
        raise fail(f"{target}: a folder or file of this machine is wanted")
    output = Path(target)
    kind = to or {".zip": "zip", ".parquet": "parquet"}.get(output.suffix.lower(), "folder")
    if kind not in ("folder", "zip", "parquet"):
        raise fail(f"--to {kind}: folder, zip or parquet")
    file = kind == "zip" or output.suffix.lower() == ".parquet"
    if output.exists() and output.is_dir() == (file and kind != "folder"):
        raise fail(f"{output} is a {'folder' if output.is_dir() else 'file'}: name another OUTPUT")
    if kind != "folder":
        refuse_to_replace(output, is_ours, (), overwrite, "OUTPUT")
    # on the same disk, and named after what is being made
    work = output.absolute().with_name(f".{output.name}.facesr")
    parts = work / f"synth-{count}-{seed}-{size}-{kind}"
    arguments = (seed, size, str(output.absolute()) if kind == "folder" else None, overwrite)
    do_units("synth", PortraitWorker, arguments, plan_units(count, parts), workers=workers)
    if kind != "folder":
        finish(parts, output, kind)
    shutil.rmtree(parts)
    with suppress(OSError):
        work.rmdir()  # another command may have unfinished work of its own in it
