"""`facesr compare`: how near pictures are to their originals, for any two folders or archives."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from pipeline.cli._shared import fail, parse_named
from pipeline.runtime.console import console


def compare(
    originals: Annotated[str, typer.Argument(help="True pictures: a folder, .zip, .tar or .parquet")],
    upscaled: Annotated[str, typer.Argument(help="What was made of them, matched by name")],
    against: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER of another method, any number of times; bicubic or lanczos alone is made here"),
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
) -> None:
    """Measure pictures against their originals. Exit 0: all compared, 1: some could not be, each named, 2: usage."""
    from pipeline.cli.table import print_table
    from pipeline.compare import compare as comparing
    from pipeline.core.files import write_json
    from pipeline.evaluate.aggregate import aggregate
    from pipeline.evaluate.cases import Case, EvaluationConfig
    from pipeline.evaluate.networks import find_networks
    from pipeline.pretrained.registry import WeightsError
    from pipeline.report.write import finish
    from pipeline.runtime.stage import environment
    from pipeline.runtime.units import do_units
    from pipeline.sources.base import SourceError

    if device not in ("cpu", "cuda"):
        raise fail(f"--device {device}: cpu or cuda")
    if report is not None and report.exists() and not report.is_dir():
        raise fail(f"--report {report} is a file: name a folder")
    files = {"inception": inception, "alexnet": alexnet, "vgg16": vgg16, "embedding": embedding, "detector": detector}
    made = [name for name in against or [] if name in comparing.MADE]
    named = parse_named(
        [one for one in against or [] if one not in comparing.MADE], "--against", [comparing.SUBJECT, *made]
    )
    with TemporaryDirectory(prefix="facesr-compare-") as scratch:
        parts = Path(scratch) / "parts"
        try:
            sources = comparing.open_places(originals, {comparing.SUBJECT: upscaled, **named}, Path(scratch))
            methods = {name: source for name, source in sources.items() if name != "original"}
            pairing = comparing.pair(sources["original"], methods)
            networks, problems = find_networks(files, device)
        except (SourceError, WeightsError) as error:
            raise fail(str(error)) from error
        if not any(comparing.SUBJECT in results for results in pairing.results):
            raise fail(f"no picture in {upscaled} has the name of one in {originals}")
        config: EvaluationConfig = {
            "faces": "",
            "inputs": "",
            "upscaled": "",
            "methods": [comparing.SUBJECT],
            "peers": list(named),
            "baselines": made,
            "baseline": next(iter([*made, *named]), ""),
            "networks": networks,
            "problems": problems,
            "device": device,
            "sheet_faces": 4,
        }
        units = comparing.plan_units(pairing, parts)
        do_units(
            "compare",
            comparing.CompareWorker,
            (config, sources),
            units,
            workers=workers,
            gpus_per_worker=None if device == "cuda" else 0,
        )
        unmatched = dict(pairing.unmatched)
        pairs = {one["name"]: one for unit in units for one in unit.pairs}
        unmatched |= _failures(parts, pairs, sources, made)
        config["unmatched"] = [f"{name}: {why}" for name, why in unmatched.items()]

        def find(split: str, scale: str, ids: list[str]) -> list[Case]:
            return [comparing.read_pair(pairs[one], sources, made)[0] for one in ids]

        if report is not None:
            places = {"originals": originals, comparing.SUBJECT: upscaled, **named}
            summary = finish(parts, config, report, {"places": places, "environment": environment()}, find)
        else:
            summary = aggregate(parts, config)
    split, scale = comparing.GROUP
    scores: dict[str, Any] = summary[split][scale]
    result = {
        "methods": {name: scores[name] for name in sorted(scores, key=[comparing.SUBJECT, *made, *named].index)},
        "unmatched": list(unmatched),
        "unmatched_reasons": unmatched,
        "count": scores[comparing.SUBJECT]["count"],
    }
    if json_file is not None:
        write_json(json_file, result)
    print_table({split: {scale: scores}}, baseline=config["baseline"])
    for name, why in list(unmatched.items())[:20]:
        console.print(f"{name}: {why}", style="yellow", markup=False)
    if len(unmatched) > 20:
        console.print(f"and {len(unmatched) - 20} more", style="yellow", markup=False)
    if report is not None:
        console.print(f"{report / 'report.html'}", markup=False)
    if unmatched:
        raise typer.Exit(1)


def _failures(parts: Path, pairs: dict[str, Any], sources: dict[str, Any], made: list[str]) -> dict[str, str]:
    """`[METHOD: ]NAME` -> why, of pairs that could not be measured."""
    from pipeline.compare import compare as comparing
    from pipeline.evaluate.aggregate import read_parts

    found: dict[str, str] = {}
    failed = {
        row["id"] for row in read_parts(parts) if row["psnr"] is None and row["method"] in pairs[row["id"]]["results"]
    }
    for name in sorted(failed):
        for method, why in comparing.read_pair(pairs[name], sources, made)[1].items():
            found[name if method in ("", comparing.SUBJECT) else f"{method}: {name}"] = why
    return found
