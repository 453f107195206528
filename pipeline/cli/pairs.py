"""`facesr pairs`: training material from a folder of faces, outside of DVC."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli._shared import fail, our_json, our_shards, our_table, our_text, refuse_to_replace
from pipeline.runtime.console import console


def pairs(
    faces: Annotated[Path, typer.Argument(help="Folder of shards of faces, train-00000.parquet …, or one with faces/")],
    out: Annotated[Path, typer.Option(help="Folder for inputs/, pairs.parquet, pairs.json and report/")],
    seed: Annotated[int, typer.Option(min=0, help="Of all draws")] = 1,
    draws: Annotated[int | None, typer.Option(min=1, help="Pairs per training face and scale; 4 by default")] = None,
    chance: Annotated[
        list[str] | None,
        typer.Option(help="AUGMENTATION=CHANCE, relative; repeatable; those not named are not drawn"),
    ] = None,
    noise: Annotated[tuple[float, float] | None, typer.Option(help="Least and most sigma, grey levels")] = None,
    blur: Annotated[tuple[float, float] | None, typer.Option(help="Least and most sigma, pixels")] = None,
    jpeg: Annotated[tuple[int, int] | None, typer.Option(help="Least and most quality")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core by default")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files in OUT that are not from here")] = False,
) -> None:
    """Make inputs and pairs of faces; `facesr train --inputs OUT/inputs --pairs OUT/pairs.parquet` takes them.

    After a kill the same command goes on where it was, and the same faces and options give the same bytes.
    """
    from pydantic import ValidationError

    from pipeline.core.files import shard_files
    from pipeline.core.scales import SPLITS
    from pipeline.pairs.run import make_pairs
    from pipeline.params.pairs import Pairs
    from pipeline.runtime.stage import work_folder

    options = _given(seed=seed, draws=draws, noise=noise, blur=blur, jpeg=jpeg, workers=workers)
    if chance:
        options["augmentations"] = dict(map(_chance, chance))
    try:
        settings = Pairs.model_validate(options)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise typer.BadParameter(f"{where}: {problem['msg']}".removeprefix(": Value error, ")) from error
    if not faces.is_dir():
        raise typer.BadParameter(f"{faces} is not a folder")
    if (faces / "faces").is_dir() and not any(shard_files(faces, f"{split}-*.parquet") for split in SPLITS):
        faces = faces / "faces"
    root = out.absolute().with_name(f".{out.name}.facesr")
    _refuse_to_replace(out, faces, overwrite)
    work = work_folder("pairs", faces, root=root)
    summary = make_pairs(faces, out, out / "report", settings, work)
    shutil.rmtree(work.parent)
    with suppress(OSError):
        root.rmdir()  # another command may have unfinished work of its own in it
    counts = ", ".join(f"{count} of {scale}" for scale, count in summary["scales"].items()) or "none"
    console.print(f"training pairs: {counts}; {out / 'report'} shows what was drawn", markup=False)


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _refuse_to_replace(out: Path, faces: Path, overwrite: bool) -> None:
    from pipeline.core.scales import SPLITS
    from pipeline.core.schema import FACES, PAIRS
    from pipeline.pairs.statistics import LINKS

    if out.exists() and not out.is_dir():
        raise fail(f"--out {out} is a file: name a folder")
    shares = our_text("label,augmentation,kind,share")
    kinds = {f"inputs/{split}": our_shards(FACES) for split in SPLITS}
    kinds |= {"pairs.parquet": our_table(PAIRS), "pairs.json": our_json("scales", "augmentations")}
    kinds |= {"report/augmentations.csv": shares}
    kinds |= {"report/links.csv": our_text("label,link,kind,share")}
    kinds |= {f"report/links-{name}.csv": our_text("strength,pairs") for name in LINKS}
    kinds |= {f"report/strengths-{name}.csv": our_text("strength,pairs") for name in ("noise", "blur", "jpeg")}
    # a picture says nothing of where it is from, but what lies beside it does
    kinds |= {"report/degradations.png": lambda path: shares(path.with_name("augmentations.csv"))}
    for name, ours in kinds.items():
        refuse_to_replace(out / name, ours, [faces], overwrite, "--out")


def _chance(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError as error:
        raise typer.BadParameter(f"--chance {text}: expected AUGMENTATION=NUMBER, such as noise=0.05") from error
