"""`facesr score`: generators and checkpoints on faces that have originals."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipeline.cli._shared import fail, our_figures, refuse_folder, refuse_to_replace
from pipeline.core.errors import FacesrError
from pipeline.runtime.console import console, progress
from pipeline.runtime.console import results as output


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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a --json file that is not from here")] = False,
) -> None:
    """Score generators and checkpoints on faces that have originals, 256 to 1024; training itself never does this."""
    from tempfile import TemporaryDirectory

    from pipeline.compare.score import TextureFeatures, originals
    from pipeline.compare.score import score as run
    from pipeline.core.files import write_json
    from pipeline.pretrained.registry import find_optional
    from pipeline.upscale.upscaler import Upscaler

    if to_json:
        refuse_folder(to_json, "--json")
        ours = our_figures("psnr", "gain", "ssim", "count", depth=1)
        refuse_to_replace(to_json, ours, [*weights, faces, vgg], overwrite, "--json")
    try:
        methods = {
            str(path): Upscaler.load(path, back_projection=back_projection, precision=precision)
            for path in _expanded(weights)
        }
        if not methods:
            raise fail(f"{', '.join(map(str, weights))}: no .safetensors in it")
        file = find_optional("vgg19", vgg)
        textures = TextureFeatures(file) if file else None
    except FacesrError as error:
        raise fail(str(error)) from error
    with TemporaryDirectory() as scratch:
        pictures = list(originals(faces, split, Path(scratch), limit))
    if not pictures:
        raise typer.BadParameter(f"{faces} has no faces of the {split} split with originals")
    with progress("score", len(pictures)) as advance:
        results = run(methods, pictures, textures, lambda: advance(1))
    table = Table("method", "PSNR, dB", "gain, dB", "SSIM", "consistency", "fd")
    formats = {"psnr": "{:.3f}", "gain": "{:+.3f}", "ssim": "{:.4f}", "consistency": "{:.3f}", "fd": "{:.3f}"}
    for name, figures in results.items():
        values = [(text, figures[key]) for key, text in formats.items()]
        table.add_row(name, *("-" if value is None else text.format(value) for text, value in values))
    output().print(table)
    console.print(f"{len(pictures)} faces" + ("" if textures else "; fd needs VGG-19: `facesr weights fetch vgg19`"))
    if to_json:
        write_json(to_json, results)


def _expanded(paths: list[Path]) -> list[Path]:
    """Files as they are; of a folder every training state, `best` and the result."""
    return [file for path in paths for file in (sorted(path.rglob("*.safetensors")) if path.is_dir() else [path])]
