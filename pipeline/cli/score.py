"""`facesr score`: generators and checkpoints on faces that have originals."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipeline.cli._shared import fail, our_figures, print_problems, refuse_folder, refuse_to_replace
from pipeline.core.errors import FacesrError
from pipeline.runtime.console import console, progress
from pipeline.runtime.console import results as output

if TYPE_CHECKING:
    from pipeline.compare.score import Figures

FORMATS: Final = {"psnr": "{:.3f}", "gain": "{:+.3f}", "ssim": "{:.4f}", "consistency": "{:.3f}", "fd": "{:.3f}"}


def score(
    weights: Annotated[list[Path], typer.Argument(help="Generators, training states, or folders of them")],
    faces: Annotated[str, typer.Option(help="Folder of the pipeline's faces, or any archive")] = "data/faces",
    split: Annotated[str, typer.Option(help="valid, train or test, of the pipeline's faces")] = "valid",
    limit: Annotated[int, typer.Option(min=1, help="At most so many faces; they are kept in memory")] = 100,
    kinds: Annotated[
        str | None, typer.Option(help="Also on degraded inputs of these kinds: all, or some as jpeg75,noise5")
    ] = None,
    back_projection: Annotated[int, typer.Option(min=0, help="On clean inputs")] = 0,
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32")] = "auto",
    vgg: Annotated[
        str | None, typer.Option(help="VGG-19 weights for fd; by default where `facesr weights` says")
    ] = None,
    to_json: Annotated[Path | None, typer.Option("--json", help="Write the numbers here too")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a --json file that is not from here")] = False,
) -> None:
    """Score generators and checkpoints on faces that have originals; training itself never does this. Exit 1: some
    faces could not be used, each named.

    With --kinds the JSON has the figures of each kind. What damaged an input is found out, as `facesr upscale` does.
    """
    from tempfile import TemporaryDirectory

    from pipeline.compare.score import TextureFeatures, originals
    from pipeline.compare.score import score as run
    from pipeline.core.degradation import CLEAN, KINDS
    from pipeline.core.files import write_json
    from pipeline.core.scales import SPLITS
    from pipeline.pretrained.registry import find_optional
    from pipeline.upscale.measured_inputs import enlarge_degraded
    from pipeline.upscale.upscaler import Upscaler

    named = _kinds(kinds, KINDS)
    if split not in SPLITS:
        raise fail(f"--split {split}: one of {', '.join(SPLITS)}")
    if precision not in ("auto", "bf16", "fp32"):
        raise fail(f"--precision {precision}: auto, bf16 or fp32")
    if to_json:
        refuse_folder(to_json, "--json")
        ours = our_figures("psnr", "gain", "ssim", "count", depth=2 if named else 1)
        refuse_to_replace(to_json, ours, [*weights, faces, vgg], overwrite, "--json")
    try:
        methods = {
            str(path): Upscaler.load(path, back_projection=back_projection, clean_only=True, precision=precision)
            for path in _expanded(weights)
        }
        if not methods:
            raise fail(f"{', '.join(map(str, weights))}: no .safetensors in it")
        file = find_optional("vgg19", vgg)
        textures = TextureFeatures(file) if file else None
    except FacesrError as error:
        raise fail(str(error)) from error
    problems: list[str] = []
    with TemporaryDirectory() as scratch:
        pictures = list(originals(faces, split, Path(scratch), limit, problems))
    print_problems(problems)
    if not pictures:
        raise typer.BadParameter(f"{faces} has no faces of the {split} split with originals")
    with progress("score", len(pictures) * (1 + len(named))) as advance:
        results = {CLEAN: run(methods, pictures, textures, lambda: advance(1))}
        for kind in named:
            told = {name: partial(enlarge_degraded, method, chain=KINDS[kind]) for name, method in methods.items()}
            results[kind] = run(told, pictures, textures, lambda: advance(1), kind)
    output().print(_table(results[CLEAN]))
    if named:
        for key in ("gain", *(["fd"] if textures else [])):
            output().print(_by_kind(results, key))
    sides = [min(picture.shape[:2]) for picture in pictures]
    side = str(min(sides)) if min(sides) == max(sides) else f"{min(sides)} to {max(sides)}"
    missing = "" if textures else "; fd needs VGG-19: `facesr weights fetch vgg19`"
    console.print(f"{len(pictures)} faces, reduced 4x from {side} pixels a side{missing}")
    if to_json:
        write_json(to_json, results if named else results[CLEAN])
    if problems:
        raise typer.Exit(1)


def _kinds(given: str | None, known: Iterable[str]) -> list[str]:
    """Names of `--kinds`, in the order known."""
    names = set((given or "").split(",")) - {""}
    if unknown := sorted(names - {*known, "all", "clean"}):
        raise fail(f"--kinds {', '.join(unknown)}: known are {', '.join(known)}, or all")
    return [name for name in known if name in names or "all" in names]


def _table(results: "Mapping[str, Figures]") -> Table:
    """Methods on clean inputs."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", overflow="fold")
    for heading in ("PSNR, dB", "gain, dB", "SSIM", "consistency", "fd"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for name, figures in results.items():
        table.add_row(name, *(_text(figures[key], form) for key, form in FORMATS.items()))
    return table


def _by_kind(results: "Mapping[str, Mapping[str, Figures]]", key: str) -> Table:
    """One figure by method and kind of input: whichever there are fewer of are the columns, so that numbers fit."""
    heading = "gain, dB" if key == "gain" else key
    cells = {
        (name, kind): _text(figures[key], FORMATS[key])
        for kind, methods in results.items()
        for name, figures in methods.items()
    }
    names, kinds = list(next(iter(results.values()))), list(results)
    by_kind = len(kinds) > len(names)
    rows, columns = (kinds, names) if by_kind else (names, kinds)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(heading, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold", min_width=max(map(len, cells.values())))
    for row in rows:
        table.add_row(row, *(cells[(column, row) if by_kind else (row, column)] for column in columns))
    return table


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _expanded(paths: list[Path]) -> list[Path]:
    """Files as they are; of a folder every training state, `best` and the result."""
    return [file for path in paths for file in (sorted(path.rglob("*.safetensors")) if path.is_dir() else [path])]
