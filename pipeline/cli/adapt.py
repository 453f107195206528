"""`facesr adapt`: fine-tune the generators on the user's own low-resolution faces."""

import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from pipeline.cli._shared import fail, fail_on, our_json, refuse_folder, refuse_to_replace
from pipeline.runtime.console import console, progress, slow
from pipeline.runtime.signals import stop_requested
from pipeline.version import __version__

if TYPE_CHECKING:
    from pipeline.adapt.dataset import Faces
    from pipeline.adapt.fine_tune import Adapted, Plan
    from pipeline.sources.base import Entry, Source

_DAMAGE = {
    "clean": "clean pictures",
    "jpeg": "JPEG quality (and how many pictures)",
    "subsampling": "JPEG subsampling (and how many pictures)",
    "noise": "noise, sigma in grey levels (and how many pictures)",
}
"""Histograms of what pictures have suffered, in words."""
SHOWN = 20
"""Unusable pictures that are listed on the terminal; the JSON has all."""


def adapt(
    archive: Annotated[str, typer.Argument(help="Folder, archive or URI with 50 faces or more, as for `upscale`")],
    out: Annotated[Path, typer.Option(help="The adapted generator, *.safetensors; its realism partner goes beside")],
    model: Annotated[Path | None, typer.Option(help="Generator to start from instead of the released one")] = None,
    realism_model: Annotated[Path | None, typer.Option(help="The realism generator that goes with --model")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Updates; each takes 8 crops")] = 400,
    hold_back: Annotated[
        int | None, typer.Option(min=1, help="Faces to measure on, never trained on; 15 % by default, 8 to 48")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    to_json: Annotated[Path | None, typer.Option("--json", help="Write the numbers here too")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are not from here")] = False,
) -> None:
    """Fine-tune the generators on your own low-resolution faces, and measure on held-back ones whether it helped.

    Where it did not, OUT is a copy of the old generator. Run again after an interruption, it goes on where it was.
    Exit 0: done, 1: too few faces or a training that failed, 2: usage, 143 or 130: stopped, state saved.
    """
    from pipeline.adapt.fine_tune import Plan
    from pipeline.bulk.ownership import LOCK, locked_folder
    from pipeline.core.errors import FacesrError
    from pipeline.upscale.weights import FOR_SHARP, for_sharp, partner

    if out.suffix != ".safetensors":
        raise fail(f"--out {out}: must end in .safetensors", 2)
    if not archive:
        raise fail("no archive: an empty name", 2)
    root = out.absolute().with_name(f".{out.name}.facesr")
    with fail_on(FacesrError, OSError):
        fidelity, realism = _start(model, realism_model)
        beside = partner(out), partner(out, FOR_SHARP)
        plan = Plan(fidelity, realism, for_sharp(fidelity), out, *beside, seed, steps)
        _refuse_to_overwrite(plan, archive, to_json, overwrite)
        plan.check()
    with fail_on(FacesrError), locked_folder(root, str(out)):
        try:
            _run(plan, archive, root, hold_back, to_json)
        finally:
            # before it is let go: whoever comes now finds it taken, or gone
            if [path.name for path in root.iterdir()] == [LOCK]:
                shutil.rmtree(root, ignore_errors=True)


def _run(plan: "Plan", archive: str, root: Path, hold_back: int | None, to_json: Path | None) -> None:
    """Read the faces, fine-tune, and say what came of it; partial work lies in `root`."""
    from pipeline.adapt.dataset import FacesError
    from pipeline.core.errors import FacesrError
    from pipeline.core.files import content_hash, file_hash, write_json
    from pipeline.sources.open import open_archive
    from pipeline.storage.path import StoragePath
    from pipeline.train.engine.loop import steps_done
    from pipeline.train.engine.memory import OutOfMemoryError

    scratch = root / "unpacked"
    with slow(f"list {archive}"):
        source = open_archive(archive, scratch)
        entries = list(source.entries())
    listed = [[entry.name, entry.key, entry.problem or "", entry.stamp] for entry in entries]
    hashes = [file_hash(path) for path in (plan.fidelity, plan.realism, plan.sharp) if path]
    options = __version__, hashes, plan.seed, plan.steps, hold_back
    work = root / content_hash(*options, listed, StoragePath.of(archive).uri)[:16]
    for old in root.glob("*"):
        if old.is_dir() and old not in (work, scratch):
            shutil.rmtree(old)  # another job's: other faces, model or options
    try:
        with stop_requested(signal.SIGTERM, signal.SIGINT) as should_stop:
            faces = _gather(plan, source, entries, work, hold_back, should_stop)
            generators = _adapt(plan, faces, work, should_stop) if faces else None
    except FacesError as error:
        _list_unusable(error.unusable)
        for folder in (work, scratch):
            shutil.rmtree(folder, ignore_errors=True)
        raise fail(f"{archive}: {error}", 1) from error
    except OutOfMemoryError as error:
        raise fail("out of memory; close other programs, then run again: it goes on where it was", 1) from error
    except (FacesrError, OSError) as error:
        raise fail(str(error), 1) from error
    if faces is None or generators is None:
        moment = "while reading" if faces is None else f"after step {steps_done(work)}"
        console.print(f"stopped {moment}; run the same command again to go on", markup=False)
        raise typer.Exit(128 + should_stop.signal)
    if to_json:
        described = {name: value for name, value in asdict(faces).items() if name != "folder"}
        numbers = {name: asdict(entry) for name, entry in generators.items()}
        write_json(to_json, {"faces": described, "generators": numbers, "seed": plan.seed, "steps": plan.steps})
    for folder in (work, scratch):
        shutil.rmtree(folder, ignore_errors=True)
    _show(plan, faces, generators)


def _start(model: Path | None, realism_model: Path | None) -> "tuple[Path, Path | None]":
    """The generators to start from; a model of the user's own need not have a realism partner."""
    from pipeline.upscale.weights import NoModelError, choose

    try:
        return choose(model, realism_model, 1)
    except NoModelError:
        if model is None or realism_model is not None or not model.is_file():
            raise
        console.print("no realism generator beside --model: only the fidelity generator is adapted")
        return model, None


def _refuse_to_overwrite(plan: "Plan", archive: str, to_json: Path | None, overwrite: bool) -> None:
    from pipeline.models.weights_file import is_generator

    starts = [path.resolve() for path in (plan.fidelity, plan.realism, plan.sharp) if path]
    for target in (plan.out, plan.realism_out, plan.sharp_out):
        if target.resolve() in starts:
            raise fail(f"{target} is what is started from: name another --out", 2)
    for start, target in ((plan.realism, plan.realism_out), (plan.sharp, plan.sharp_out)):
        if start is None and target.exists():
            raise fail(f"{target} would be taken for the partner of {plan.out}: remove it or rename --out", 2)
    read: list[str | Path | None] = [archive, plan.fidelity, plan.realism, plan.sharp]
    for target in (plan.out, plan.realism_out, plan.sharp_out):
        refuse_folder(target, "--out")
        refuse_to_replace(target, is_generator, read, overwrite, "--out")
    if to_json:
        refuse_folder(to_json, "--json")
        refuse_to_replace(to_json, our_json("faces", "generators", "seed", "steps"), read, overwrite, "--json")


def _gather(
    plan: "Plan",
    source: "Source",
    entries: "Sequence[Entry]",
    work: Path,
    hold_back: int | None,
    should_stop: Callable[[], bool],
) -> "Faces | None":
    from pipeline.adapt.dataset import MOST, gather

    if len(entries) > MOST:
        console.print(f"{len(entries)} pictures: {MOST} of them are drawn by --seed {plan.seed}")
    with progress("read", min(len(entries), MOST)) as advance:
        return gather(source, entries, work / "faces", plan.seed, hold_back, advance, should_stop)


def _adapt(plan: "Plan", faces: "Faces", work: Path, should_stop: Callable[[], bool]) -> "dict[str, Adapted] | None":
    from pipeline.adapt.fine_tune import adapt
    from pipeline.train.engine.loop import steps_done

    train, held_back = sum(faces.train.values()), sum(faces.held_back.values())
    console.print(f"{train + held_back} faces: {train} to learn from, {held_back} held back")
    for name, bins in faces.damage.items():
        counted = ", ".join(f"{value} ({count})" for value, count in bins.items() if name != "clean")
        console.print(f"{_DAMAGE[name]}: {counted or sum(bins.values())}", markup=False)
    here = steps_done(work)
    with progress("adapt", plan.steps, here) as advance:

        def log(step: int, values: dict[str, float]) -> None:
            nonlocal here  # a resumed run tells of its earlier steps again
            if step > here:
                advance(step - here)
                here = step

        return adapt(plan, faces, work, log, should_stop)


def _show(plan: "Plan", faces: "Faces", generators: "dict[str, Adapted]") -> None:
    """The table, what became of each generator, and which images could not be used."""
    # no wider than 80 characters
    table = Table(title="held-back faces, PSNR in dB and SSIM", box=SIMPLE, pad_edge=False)
    for name in ("generator", "scale", "faces", "bicubic", "before", "after", "gain"):
        table.add_column(name, justify="left" if name in ("generator", "scale") else "right")
    for name, entry in generators.items():
        for scale, means in entry.scales.items():
            columns = means.bicubic, means.before, means.after
            cells = [f"{mean.psnr:.2f} {mean.ssim:.4f}".replace(" 0.", " .") for mean in columns]
            gain = means.after.psnr - means.before.psnr
            table.add_row(name, scale.replace("to", "→"), str(means.faces), *cells, f"{gain:+.3f}")
    console.print(table, soft_wrap=False)
    for name, entry in generators.items():
        numbers = f"{name}: {entry.gain_db:+.3f} dB on average, {entry.gained} of {entry.faces} faces gained"
        outcome = "adapted" if entry.adapted else "too little gain: the old generator is kept, copied to"
        console.print(f"{numbers}; {outcome} {entry.file}", markup=False)
    if plan.sharp is not None:
        kept = f"by {plan.sharp_out}, as before" if plan.sharp_out.is_file() else "by the new weights, which are ahead"
        console.print(f"clean sharp pictures are enlarged {kept}", markup=False)
    _list_unusable(faces.unusable)
    if faces.duplicates:
        console.print(f"{faces.duplicates} pictures with the same pixels as another were counted once")
    console.print(f"use it: facesr upscale IN OUT --model {plan.out}", markup=False)


def _list_unusable(unusable: Sequence[Sequence[str]]) -> None:
    for name, reason in unusable[:SHOWN]:
        console.print(f"not used: {name}: {reason}", markup=False)
    if len(unusable) > SHOWN:
        console.print(f"not used: {len(unusable) - SHOWN} more; --json FILE names all")
