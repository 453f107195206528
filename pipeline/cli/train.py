"""`facesr train` and `facesr score`: training outside of DVC, and scoring what it left."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipeline.runtime.console import console, progress

if TYPE_CHECKING:
    from pipeline.core.images import Pixels
    from pipeline.upscale.upscaler import Upscaler


def train(
    out: Annotated[Path, typer.Option(help="Folder for states, logs and weights; run again to resume")],
    params: Annotated[Path, typer.Option(help="File whose train section is used")] = Path("params.yaml"),
    change: Annotated[
        list[str] | None, typer.Option("--set", help="train.KEY=VALUE instead of what the file says; repeatable")
    ] = None,
    inputs: Annotated[Path, typer.Option(help="Folder with train/ and valid/ shards of inputs")] = Path("data/inputs"),
    pairs: Annotated[Path, typer.Option(help="The pairs manifest")] = Path("data/pairs.parquet"),
    phase: Annotated[list[str] | None, typer.Option(help="fidelity or realism; both by default")] = None,
    start: Annotated[Path | None, typer.Option(help="Weights to start from instead of random ones")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Print an operator profile of a few steps and stop")] = False,
) -> None:
    """Train on the pairs that `dvc repro pairs` made, outside of DVC: for experiments. Exit 143: stopped and saved."""
    from pipeline.cli.train_profile import trace as profile
    from pipeline.core.files import write_json
    from pipeline.models.checkpoint import load_generator
    from pipeline.params.all_sections import load_params
    from pipeline.params.read import ParamsError
    from pipeline.runtime.stage import stop_requested
    from pipeline.train.phases import PHASES, build, dependencies, train_phases

    phases = phase or list(PHASES)
    if set(phases) - set(PHASES):
        raise typer.BadParameter(f"--phase is one of {', '.join(PHASES)}")
    try:
        settings = load_params(params, change or ()).train
    except ParamsError as error:
        raise typer.BadParameter(str(error)) from error
    for place in (inputs / "train", pairs):
        if not place.exists():
            raise typer.BadParameter(f"{place} is not there: `dvc repro pairs` makes it")
    provenance = dependencies(settings, inputs, pairs)
    if trace:
        generator = load_generator(start)[0] if start else None
        console.print(profile(build(settings, phases[0], inputs, pairs, out, provenance, generator)), markup=False)
        return
    asked_for = {"provenance": provenance, "phases": phases, "start": str(start) if start else None}
    noted = out / "run.json"
    if noted.is_file() and json.loads(noted.read_text()) != asked_for:
        raise typer.BadParameter(f"{out} holds a run with other data or params: name another folder, or remove it")
    write_json(noted, asked_for)
    with stop_requested() as asked:
        results = train_phases(settings, inputs, pairs, out, provenance, asked, phases, start)
    if results is None:
        console.print(f"stopped; the state is in {out}: run the same command to go on", markup=False)
        raise typer.Exit(143)
    for name, path in results.items():
        console.print(f"{name}: {path}", markup=False)


def score(
    weights: Annotated[list[Path], typer.Argument(help="Generators, training states, or folders of them")],
    faces: Annotated[Path, typer.Option(help="Folder of the pipeline's faces, or any archive")] = Path("data/faces"),
    split: Annotated[str, typer.Option(help="valid, train or test, of the pipeline's faces")] = "valid",
    limit: Annotated[int, typer.Option(min=1, help="At most so many faces; they are kept in memory")] = 100,
    back_projection: Annotated[int, typer.Option(min=0)] = 0,
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32")] = "auto",
    vgg: Annotated[
        str | None, typer.Option(help="VGG-19 weights for fd; by default where `facesr weights` says")
    ] = None,
    to_json: Annotated[Path | None, typer.Option("--json", help="Write the numbers here too")] = None,
) -> None:
    """Score generators and checkpoints on faces that have originals, 256 to 1024; training itself never does this."""
    from tempfile import TemporaryDirectory

    from pipeline.compare.score import TextureFeatures, originals
    from pipeline.compare.score import score as run
    from pipeline.core.files import write_json
    from pipeline.models.checkpoint import ModelError
    from pipeline.pretrained import registry as networks
    from pipeline.upscale.upscaler import Upscaler

    try:
        methods = {
            str(path): _single(Upscaler.load(path, back_projection=back_projection, precision=precision))
            for path in _expanded(weights)
        }
        file = networks.find_optional("vgg19", vgg)
    except (ModelError, networks.WeightsError) as error:
        raise typer.BadParameter(str(error)) from error
    textures = TextureFeatures(file) if file else None
    with TemporaryDirectory() as scratch:
        pictures = list(originals(faces, split, Path(scratch), limit))
    if not pictures:
        raise typer.BadParameter(f"{faces} has no faces of the {split} split with originals")
    with progress("score", len(pictures)) as advance:
        results = run(methods, pictures, textures, lambda: advance(1))
    table = Table("method", "PSNR, dB", "gain, dB", "SSIM", "consistency", "fd")
    for name, row in results.items():
        fd = "-" if row["fd"] is None else f"{row['fd']:.3f}"
        numbers = (f"{row['psnr']:.3f}", f"{row['gain']:+.3f}", f"{row['ssim']:.4f}", f"{row['consistency']:.3f}")
        table.add_row(name, *numbers, fd)
    from rich import print as show

    show(table)
    console.print(f"{len(pictures)} faces" + ("" if textures else "; fd needs VGG-19: `facesr weights fetch vgg19`"))
    if to_json:
        write_json(to_json, results)


def _single(upscaler: "Upscaler") -> "Callable[[Pixels], Pixels]":
    return lambda low: upscaler([low])[0]


def _expanded(paths: list[Path]) -> list[Path]:
    """Files as they are; of a folder every training state, `best` and the result."""
    found: list[Path] = []
    for path in paths:
        found += sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
    return found


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (train, score):
        app.command()(command)
