"""The `facesr` command."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipeline import __version__, cli_adapt, cli_training
from pipeline.progress import console

app = typer.Typer(
    help="Make faces four times larger, and reproduce how the networks that do it were trained.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
weights_app = typer.Typer(help="Networks that come from elsewhere: where they lie and how to get them.")
app.add_typer(weights_app, name="weights")
cli_training.register(app)
app.command()(cli_adapt.adapt)


def _fail(message: str, code: int = 2) -> typer.Exit:
    console.print(message, style="red", markup=False)
    return typer.Exit(code)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"facesr {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
) -> None:
    pass


def _warn_of_unused_gpu() -> None:
    """Say so when the machine has an NVIDIA card that torch cannot use: a run would take 50 times as long."""
    import torch

    if torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
        return
    cards = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S607
    if cards:
        console.print(
            f"[yellow]warning:[/] this machine has {cards.splitlines()[0]}, but torch {torch.__version__} cannot use "
            "it: install a torch build that fits the driver"
        )


@app.command()
def synth(
    output: Annotated[Path, typer.Argument(help="A folder, or a file that ends in .zip or .parquet")],
    count: Annotated[int, typer.Option(min=1, help="How many portraits")] = 100,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side, pixels")] = 1024,
    to: Annotated[str, typer.Option(help="folder, zip or parquet; by default what OUTPUT ends in")] = "",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core by default")] = None,
) -> None:
    """Write procedural portraits: the embedded default data, and as many as a load test wants."""
    from pipeline import portraits
    from pipeline.units import do_units

    kind = to or {".zip": "zip", ".parquet": "parquet"}.get(output.suffix.lower(), "folder")
    if kind not in ("folder", "zip", "parquet"):
        raise _fail(f"--to {kind}: folder, zip or parquet")
    parts = _beside(output, f"synth-{count}-{seed}-{size}-{kind}")
    units = portraits.plan(count, parts)
    arguments = (seed, size, str(output.absolute()) if kind == "folder" else None)
    images = lambda unit: unit["stop"] - unit["start"]  # noqa: E731
    do_units("synth", portraits.PortraitWorker, arguments, units, images=images, workers=workers)
    if kind != "folder":
        portraits.finish(parts, output)
    shutil.rmtree(parts.parent)


def _beside(output: Path, key: str) -> Path:
    """Folder for partial work on `output`, on the same disk, keyed by what is being made."""
    return output.absolute().with_name(f".{output.name}.facesr") / key


@app.command()
def upscale(
    input: Annotated[Path, typer.Argument(help="A picture, folder, .zip, .tar(.gz), Parquet file or folder of them")],  # noqa: A002
    output: Annotated[
        Path, typer.Argument(help="A folder, a file that ends in .zip, .tar or .parquet, or .png for one picture")
    ],
    model: Annotated[Path | None, typer.Option(help="Generator to use instead of the released one")] = None,
    realism: Annotated[float, typer.Option(min=0, max=1, help="0: faithful, 1: realistic, or between")] = 0.0,
    realism_model: Annotated[Path | None, typer.Option(help="The realism generator that goes with --model")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Ray workers; as many as fit by default")] = None,
    cpus_per_worker: Annotated[int, typer.Option(min=1)] = 1,
    gpus_per_worker: Annotated[float | None, typer.Option(min=0, help="A whole one where there are any")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster; a local one by default")] = None,
    tile: Annotated[int, typer.Option(min=64, help="Side of the pieces large pictures are cut into")] = 512,
    back_projection: Annotated[
        int | None,
        typer.Option(
            min=0, help="Steps towards agreement with the input; by default 2 for PNG & Co., 0 for JPEG and realism"
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32")] = "auto",
) -> None:
    """Make every picture of an archive four times larger. Exit 0: all done, 1: some failed, 2: usage."""
    from pipeline import bulk, released
    from pipeline.checkpoint import ModelError, load_generator
    from pipeline.shards import content_hash
    from pipeline.sources import SourceError, open_archive
    from pipeline.units import do_units

    _warn_of_unused_gpu()
    try:
        fidelity, other = released.choose(model, realism_model, realism)
        hashes = [load_generator(path)[1]["sha256"] for path in (fidelity, other) if path]
        scratch = _beside(output, "unpacked")
        entries = list(open_archive(str(input), scratch).entries())
    except (ModelError, SourceError, released.NoModelError) as error:
        raise _fail(str(error)) from error
    if not entries:
        raise _fail(f"{input}: no pictures in it")
    archive, picture = bulk.is_archive(output), output.suffix.lower() == ".png"
    if picture and len(entries) != 1:
        raise _fail(f"{output} is one picture, {input} holds {len(entries)}: name a folder or an archive")
    options = {"tile": tile, "precision": precision, "back_projection": back_projection}
    listed = [[entry.name, entry.key, entry.problem, entry.stamp] for entry in entries]
    work = _beside(output, content_hash(__version__, hashes, realism, options, listed, str(input.absolute()))[:16])
    for old in work.parent.glob("*"):
        if old not in (work, scratch):
            shutil.rmtree(old)  # another job's: other pictures, model or options
    do_units(
        "upscale",
        bulk.BulkWorker,
        (
            str(input.absolute()),
            str(scratch),
            None if archive else str((output.parent if picture else output).absolute()),
            {
                "fidelity": str(fidelity.absolute()),
                "realism": str(other.absolute()) if other else None,
                "share": realism,
            },
            options,
        ),
        bulk.plan(entries, work, output.name if picture else None),
        images=lambda unit: len(unit["items"]),
        workers=workers,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        address=address,
    )
    manifest = (
        output.with_name(output.name + ".manifest.parquet") if archive or picture else output / "manifest.parquet"
    )
    counts = bulk.finish(work, output, manifest)
    shutil.rmtree(work.parent)
    console.print(f"{counts['ok']} done, {counts['failed']} failed; every file's fate: {manifest}")
    if counts["failed"]:
        raise typer.Exit(1)


@app.command()
def profile(
    use: Annotated[str, typer.Option(help="Make profiles/NAME.yaml the params.yaml of this run")] = "",
) -> None:
    """Validate params.yaml, or put another profile in its place (what was there is kept as params.yaml.before)."""
    from pipeline.params import ParamsError, load_params

    params = Path("params.yaml")
    try:
        if use:
            chosen = Path("profiles") / f"{use}.yaml"
            if not chosen.is_file():
                known = ", ".join(sorted(path.stem for path in Path("profiles").glob("*.yaml")))
                raise _fail(f"no profile {use!r}; there are {known}")
            load_params(chosen)
            if params.read_bytes() != chosen.read_bytes():
                shutil.copyfile(params, "params.yaml.before")
                shutil.copyfile(chosen, params)
                console.print(f"params.yaml is now {chosen}; what it was is in params.yaml.before")
        load_params(params)
    except ParamsError as error:
        raise _fail(str(error)) from error
    _warn_of_unused_gpu()


@app.command()
def table(metrics: Annotated[Path, typer.Argument()] = Path("reports/metrics.json")) -> None:
    """Print the results table of reports/metrics.json."""
    import json

    from pipeline.table import print_table

    if not metrics.is_file():
        raise _fail(f"{metrics}: not there yet; `make repro` writes it")
    print_table(json.loads(metrics.read_text()))


@weights_app.command("list")
def weights_list() -> None:
    """Show the networks, what they are for and whether they are on this machine."""
    from pipeline import weights

    shown = Table("name", "file", "used for", "here")
    for name, network in weights.NETWORKS.items():
        shown.add_row(
            name, network.file, network.use, "yes" if (weights.cache_folder() / network.file).is_file() else "no"
        )
    console.print(shown, soft_wrap=False)
    console.print(f"They lie in {weights.cache_folder()}", markup=False)


@weights_app.command("fetch")
def weights_fetch(names: Annotated[list[str] | None, typer.Argument(help="All by default")] = None) -> None:
    """Download networks and verify their checksums."""
    from pipeline import weights

    unknown = set(names or []) - set(weights.NETWORKS)
    if unknown:
        raise _fail(f"unknown network {', '.join(sorted(unknown))}; known are {', '.join(weights.NETWORKS)}")
    failed = False
    for name in names or weights.NETWORKS:
        try:
            console.print(f"{name}: {weights.fetch(name)}", markup=False)
        except weights.WeightsError as error:
            _fail(str(error))
            failed = True
    if failed:
        raise typer.Exit(1)


@weights_app.command("add")
def weights_add(file: Annotated[Path, typer.Argument(help="A file got elsewhere, recognised by its checksum")]) -> None:
    """Put a network's file where it is looked for."""
    from pipeline import weights

    try:
        name, path = weights.add(file)
    except weights.WeightsError as error:
        raise _fail(str(error)) from error
    console.print(f"{name}: {path}", markup=False)


def main() -> None:
    """Run the command; an error that a user can do something about is one line."""
    from pipeline.stage import StageError

    try:
        app()
    except (StageError, ValueError, OSError) as error:
        _fail(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
