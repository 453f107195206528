"""`facesr models`: list, describe, export and publish generators."""

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from pipeline.cli._shared import fail, fail_on, refuse_folder, refuse_to_replace
from pipeline.runtime.console import console
from pipeline.runtime.console import results as output

if TYPE_CHECKING:
    from pipeline.registry.describe import Model

app = typer.Typer(help="Generators: which there are, what is known of them, as ONNX, with a card, published.")

Name = Annotated[str, typer.Argument(help="A file, a name of `facesr models list`, or REPO#ARTIFACT@VERSION")]
Phase = Annotated[str, typer.Option(help="Of what is released: fidelity, realism or sharp")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is not from here")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON on standard output")]


@app.command("list")
def models_list(
    repo: Annotated[str | None, typer.Option(help="Another DVC repository: its path or address")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the released generators, those of this checkout, and tagged versions: what --model takes by name."""
    from pipeline.core.errors import FacesrError
    from pipeline.registry.catalog import list_models

    with fail_on(FacesrError):
        models = list_models(repo)
    if as_json:
        typer.echo(json.dumps([asdict(model) for model in models], indent=2))
        return
    # a name is there to be copied
    shown = Table(Column("name", no_wrap=True), "kind", Column("file", overflow="fold"), "")
    for model in models:
        # of what is named by its file that is said already, and of a released pair it is three names as long
        file = "" if model.file == model.name else model.file
        shown.add_row(model.name, model.kind, file.replace(".safetensors", "") if "," in file else file, model.note)
    output().print(shown)


@app.command("info")
def models_info(name: Name = "released", phase: Phase = "fidelity", as_json: AsJson = False) -> None:
    """Show config, provenance, metrics, licence and intended use of a model."""
    model, _ = _described(name, phase)
    values = asdict(model)
    if as_json:
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
        return
    shown = Table("", model.name, show_header=True, box=None)
    nested = {"config", "provenance", "metrics"}
    for key, value in values.items():
        if key not in nested:
            shown.add_row(key, str(value))
    for key in ("config", "provenance"):
        for inner, value in values[key].items():
            shown.add_row(f"{key}: {inner}", json.dumps(value) if isinstance(value, dict | list) else str(value))
    for method, figures in model.metrics.items():
        shown.add_row(f"metrics: {method}", ", ".join(f"{key} {value:g}" for key, value in figures.items()))
    output().print(shown)


@app.command("export")
def models_export(
    name: Name,
    to: Annotated[Path, typer.Option(help="File ending in .onnx, or .pt2 for torch.export")],
    phase: Phase = "fidelity",
    overwrite: Overwrite = False,
) -> None:
    """Write a generator as ONNX or as a torch.export program, and check it against the weights."""
    from pipeline.core.errors import FacesrError
    from pipeline.registry.catalog import find
    from pipeline.registry.export import export
    from pipeline.upscale.onnx_generator import is_export

    refuse_folder(to, "--to")
    with fail_on(FacesrError):
        weights = find(name, phase)
        refuse_to_replace(to, is_export, [weights], overwrite, "--to")
        worst = export(weights, to)
    console.print(f"{to}: differs from the weights by {worst:.4f} grey levels at most", markup=False)


@app.command("card")
def models_card(
    name: Annotated[str, typer.Argument(help="A model as in `facesr models info`, or a folder with ingested faces")],
    to: Annotated[Path, typer.Option(help="Folder for README.md and, of a model, sheet.png")],
    phase: Phase = "fidelity",
    overwrite: Overwrite = False,
) -> None:
    """Write a card in Hugging Face's format: of a model, with a sheet of drawn faces, or of an ingested archive."""
    from pipeline.core.errors import FacesrError
    from pipeline.core.files import write_bytes
    from pipeline.registry.card import README, data_card, is_card, write_card

    with fail_on(FacesrError):
        refuse_to_replace(to / README, is_card, (), overwrite, "--to")
        if Path(name).is_dir():
            write_bytes(to / README, data_card(Path(name)).encode())
            written = [to / README]
        else:
            model, weights = _described(name, phase)
            written = write_card(model, weights, to)
    console.print(", ".join(map(str, written)), markup=False)


@app.command("publish")
def models_publish(
    name: Name,
    to: Annotated[str, typer.Option(help="A folder, or hf://OWNER/NAME")],
    phase: Phase = "fidelity",
    onnx: Annotated[bool, typer.Option("--onnx", help="Exports as ONNX beside the weights")] = False,
    private: Annotated[bool, typer.Option("--private", help="A new repository that only you see")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be published, and where")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Publish weights with card, sheet and, where wanted, exports, into a folder or on a hub."""
    from pipeline.core.errors import FacesrError
    from pipeline.registry.publish import CONFIG, assemble, hub_repo, is_published, upload

    formats = [".onnx"] if onnx else []
    with fail_on(FacesrError):
        repo = hub_repo(to)
        model, weights = _described(name, phase)
        if model.licence == "other":
            console.print(f"licence: {model.licence_note}: clear it first", style="yellow", markup=False)
        if dry_run:
            with TemporaryDirectory() as scratch:
                files = assemble(model, weights, Path(scratch), formats)
                for file in files:
                    console.print(f"{file.name}: {file.stat().st_size:,} bytes", markup=False)
            console.print(f"nothing was written; this would go to {to}", markup=False)
        elif repo is None:
            folder = Path(to)
            if folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG).is_file() and not overwrite:
                raise fail(f"{folder} holds other files: name another --to, or --overwrite to write into it")
            refuse_to_replace(folder / CONFIG, is_published, [weights], overwrite, "--to")
            files = assemble(model, weights, folder, formats)
            console.print(f"{folder}: {', '.join(file.name for file in files)}", markup=False)
        else:
            console.print(upload(repo, model, weights, formats, private), markup=False)


def _described(name: str, phase: str) -> "tuple[Model, Path]":
    from pipeline.core.errors import FacesrError
    from pipeline.registry.catalog import find
    from pipeline.registry.describe import describe
    from pipeline.upscale.weights import PHASES

    if phase not in PHASES:
        raise fail(f"--phase {phase}: one of {', '.join(PHASES)}")
    with fail_on(FacesrError):
        path = find(name, phase)
        return describe(name, path), path
