"""The `facesr` command."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipeline.cli import adapt as cli_adapt
from pipeline.cli import compare as cli_compare
from pipeline.cli import evaluate as cli_evaluate
from pipeline.cli import ingest as cli_ingest
from pipeline.cli import inspect as cli_inspect
from pipeline.cli import pairs as cli_pairs
from pipeline.cli import train as cli_training
from pipeline.cli import upscale as cli_upscale
from pipeline.cli import view as cli_view
from pipeline.runtime.console import console
from pipeline.version import __version__

app = typer.Typer(
    help="Make faces four times larger, and reproduce how the networks that do it were trained.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
weights_app = typer.Typer(help="Networks that come from elsewhere: where they lie and how to get them.")
app.add_typer(weights_app, name="weights")
cli_training.register(app)
app.command()(cli_upscale.upscale)
app.command()(cli_view.view)
app.command()(cli_inspect.inspect)
app.command()(cli_adapt.adapt)
app.command()(cli_ingest.ingest)
app.command()(cli_pairs.pairs)
app.command()(cli_evaluate.evaluate)
app.command()(cli_compare.compare)


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
    from pipeline.runtime.units import do_units
    from pipeline.synthetic import writer as portraits

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
def profile(
    use: Annotated[str, typer.Option(help="Make profiles/NAME.yaml the params.yaml of this run")] = "",
) -> None:
    """Validate params.yaml, or put another profile in its place (what was there is kept as params.yaml.before)."""
    from pipeline.params.all_sections import load_params
    from pipeline.params.read import ParamsError

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
def table(
    metrics: Annotated[Path, typer.Argument()] = Path("reports/metrics.json"),
    form: Annotated[str, typer.Option("--format", help="terminal, csv, markdown or latex")] = "terminal",
    paper: Annotated[bool, typer.Option("--paper", help="Tables 1 and 2 of the paper, ours beside them")] = False,
) -> None:
    """Print the results table of reports/metrics.json."""
    import json

    from pipeline.cli.results_table import print_table
    from pipeline.report import tables

    if form not in ("terminal", *tables.FORMATS):
        raise _fail(f"--format {form}: terminal, {', '.join(tables.FORMATS)}")
    if not metrics.is_file():
        raise _fail(f"{metrics}: not there yet; `make repro` writes it")
    summary = json.loads(metrics.read_text())
    if form == "terminal" and not paper:
        print_table(summary)
        return
    printed = [tables.paper_table(summary, split, "facesr") for split in tables.PAPER] if paper else []
    for one in printed or [tables.results(summary)]:
        if one is not None:
            typer.echo(tables.render(one, "markdown" if form == "terminal" else form))


@weights_app.command("list")
def weights_list() -> None:
    """Show the networks, what they are for and whether they are on this machine."""
    from pipeline.pretrained import registry as weights

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
    from pipeline.pretrained import registry as weights

    unknown = set(names or []) - set(weights.NETWORKS)
    if unknown:
        raise _fail(f"unknown network {', '.join(sorted(unknown))}; known are {', '.join(weights.NETWORKS)}")
    failed = False
    # those without an address can only be got elsewhere: asking for everything does not fail for them
    for name in names or [name for name, network in weights.NETWORKS.items() if network.url]:
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
    from pipeline.pretrained import registry as weights

    try:
        name, path = weights.add(file)
    except weights.WeightsError as error:
        raise _fail(str(error)) from error
    console.print(f"{name}: {path}", markup=False)


def main() -> None:
    """Run the command; an error that a user can do something about is one line."""
    from pipeline.runtime.stage import StageError

    try:
        app()
    except (StageError, ValueError, OSError) as error:
        _fail(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
