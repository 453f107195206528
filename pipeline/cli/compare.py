"""`facesr compare`: how near pictures are to their originals, for any two folders or archives."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli._shared import (
    fail,
    our_json,
    parse_named,
    print_problems,
    refuse_folder,
    refuse_to_replace,
    refuse_to_replace_report,
)
from pipeline.runtime.console import console


def compare(
    originals: Annotated[str, typer.Argument(help="True pictures: a folder, .zip, .tar or .parquet")],
    upscaled: Annotated[str, typer.Argument(help="What was made of them, matched by name")],
    against: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER of another method, any number of times; bicubic or lanczos alone is made here"),
    ] = None,
    suffix: Annotated[
        list[str] | None,
        typer.Option(help="What a tool adds to names, such as _out of 0001_out.png; any number of times"),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every figure to this file")] = None,
    report: Annotated[Path | None, typer.Option(help="Write tables, sheets and report.html to this folder")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core by default")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda, for the networks of metrics")] = "cpu",
    inception: Annotated[str | None, typer.Option(help="Its weights, for FID and KID; else where weights lie")] = None,
    alexnet: Annotated[str | None, typer.Option(help="Likewise, for LPIPS")] = None,
    vgg16: Annotated[str | None, typer.Option(help="Likewise, for LPIPS with VGG and DISTS")] = None,
    embedding: Annotated[str | None, typer.Option(help="Likewise, for identity")] = None,
    detector: Annotated[str | None, typer.Option(help="Likewise, for identity and the crops of sheets")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are not from here")] = False,
    zip_encoding: Annotated[str | None, typer.Option(help="Of a zip's names that are not marked: cp932, gbk …")] = None,
    column: Annotated[str | None, typer.Option(help="Parquet's column of pictures, of ORIGINALS")] = None,
) -> None:
    """Measure pictures against their originals. Exit 0: all compared, 1: some could not be, each named, 2: usage."""
    from pipeline.cli.table import print_table
    from pipeline.compare.compare import SUBJECT
    from pipeline.compare.compare import compare as run
    from pipeline.compare.name_match import MatchError
    from pipeline.core.files import write_json
    from pipeline.core.scales import BASELINES
    from pipeline.pretrained.registry import WeightsError
    from pipeline.sources.base import Reading, SourceError

    if device not in ("cpu", "cuda"):
        raise fail(f"--device {device}: cpu or cuda")
    baselines = [name for name in against or [] if name in BASELINES]
    named = parse_named([name for name in against or [] if name not in BASELINES], "--against", [SUBJECT, *baselines])
    files = {"inception": inception, "alexnet": alexnet, "vgg16": vgg16, "embedding": embedding, "detector": detector}
    read = [originals, upscaled, *named.values(), *files.values()]
    if report is not None:
        refuse_to_replace_report(report, read, overwrite, "--report")
    if json_file is not None:
        refuse_folder(json_file, "--json")
        refuse_to_replace(json_file, our_json("methods", "unmatched", "count"), read, overwrite, "--json")
    try:
        result = run(
            originals,
            upscaled,
            named,
            baselines=baselines,
            networks=files,
            device=device,
            report=report,
            workers=workers,
            suffixes=suffix or (),
            reading=Reading(zip_encoding, column),
        )
    except (SourceError, WeightsError, MatchError) as error:
        raise fail(str(error)) from error
    if json_file is not None:
        write_json(json_file, result.to_json())
    print_table(result.summary, baseline=result.baseline)
    print_problems([f"{name}: {why}" for name, why in result.unmatched.items()])
    if report is not None:
        console.print(f"{report / 'report.html'}", markup=False)
    if result.unmatched:
        raise typer.Exit(1)
