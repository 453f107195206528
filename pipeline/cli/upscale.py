"""`facesr upscale`: enlarge any archive of pictures."""

import errno
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from pipeline.cli._shared import fail, fail_on
from pipeline.runtime.console import console, slow

if TYPE_CHECKING:
    from pipeline.bulk.listing import Listing
    from pipeline.bulk.run import Summary

SHOWN = 10
"""Failures and planned pictures that are listed; the manifest has them all."""


def upscale(
    input: Annotated[  # noqa: A002
        str, typer.Argument(help="A picture, folder, zip, tar, Parquet file, WebDataset, or s3://… of these")
    ],
    output: Annotated[
        str, typer.Argument(help="A folder, a file ending in .zip, .tar or .parquet, one picture, or s3://… of these")
    ],
    model: Annotated[
        str | None, typer.Option(help="Instead of the newest released: a file, or a name of `facesr models list`")
    ] = None,
    realism: Annotated[float, typer.Option(min=0, max=1, help="0: faithful, 1: realistic, or between")] = 0.0,
    realism_model: Annotated[str | None, typer.Option(help="The realism generator that goes with --model")] = None,
    format: Annotated[  # noqa: A002
        str | None, typer.Option(help="png (the default), jpeg, webp, or same: what the input's name ends in")
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG and WebP")] = 95,
    to: Annotated[
        str | None, typer.Option(help="folder, zip, tar or parquet (a folder of shards), whatever OUTPUT ends in")
    ] = None,
    strip_location: Annotated[
        bool, typer.Option("--strip-location", help="Leave GPS and names of places out of the results")
    ] = False,
    faces: Annotated[bool, typer.Option("--faces", help="Find faces in photographs and do them upright")] = False,
    detector: Annotated[str | None, typer.Option(help="YuNet's file, for --faces and --check")] = None,
    check: Annotated[bool, typer.Option("--check", help="Measure each result and flag what to look at")] = False,
    embedding: Annotated[str | None, typer.Option(help="Face embedding's file, for --check")] = None,
    workers: Annotated[str, typer.Option(help="auto, a number, or MIN:MAX for a cluster that grows")] = "auto",
    cpus_per_worker: Annotated[int | None, typer.Option(min=1, help="One; beside GPUs, an even share")] = None,
    gpus_per_worker: Annotated[float | None, typer.Option(min=0, help="A whole one where there are any")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster; a local one by default")] = None,
    tile: Annotated[int, typer.Option(min=64, help="Side of the pieces large pictures are cut into")] = 512,
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32")] = "auto",
    back_projection: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Steps towards agreement with the input; by default 2 for clean PNG & Co. (realism: 0), 1 for a JPEG",
        ),
    ] = None,
    degradation: Annotated[
        str,
        typer.Option(help="What pictures have suffered, for a generator that is told: auto, none, jpeg=60,noise=4"),
    ] = "auto",
    denoise: Annotated[float, typer.Option(min=0, max=1, help="0: keep noise, 1: take away what is told")] = 1.0,
    deblock: Annotated[float, typer.Option(min=0, max=1, help="The same for traces of JPEG compression")] = 1.0,
    decode_seconds: Annotated[
        float, typer.Option(min=0.01, help="That a picture may take to be decoded; beyond that it has failed")
    ] = 120.0,
    resume: Annotated[bool, typer.Option("--resume", help="Finish an earlier run with its own options")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew, whatever OUTPUT holds")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first failure")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and its time and space")] = False,
    manifest: Annotated[str, typer.Option(help="parquet, or csv for both")] = "parquet",
    zip_encoding: Annotated[str | None, typer.Option(help="Of a zip's names that are not marked: cp932, gbk …")] = None,
    column: Annotated[str | None, typer.Option(help="Parquet's column of pictures")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but errors")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON on standard output")] = False,
) -> None:
    """Make every picture of an archive four times larger. Run it again after a crash: it goes on where it was.

    Exit 0: all done, 1: some failed (the manifest says which and why) or it could not go on, 2: it cannot start.
    Restored detail is invented and must not serve to identify a person.
    """
    from pipeline.bulk.listing import listed
    from pipeline.bulk.outputs import Output
    from pipeline.bulk.settings import RunOptions, Settings
    from pipeline.core.errors import FacesrError
    from pipeline.core.imports import spare_meta_kernels, spare_pandas
    from pipeline.runtime.signals import exit_on_sigterm
    from pipeline.runtime.stage import StageError
    from pipeline.sources.base import Reading
    from pipeline.storage.object_stores import NoBucketError
    from pipeline.upscale.told import as_text

    if manifest not in ("parquet", "csv"):
        raise fail(f"--manifest {manifest}: parquet or csv")
    if precision not in ("auto", "bf16", "fp32"):
        raise fail(f"precision must be auto, bf16 or fp32, not {precision!r}")
    if resume and overwrite:
        raise fail("--resume and --overwrite: one of them")
    try:
        degradation = as_text(degradation)
    except FacesrError as error:
        raise fail(f"--{error}") from error
    fidelity, crisp = _models(model, realism_model, realism)
    settings = Settings(
        fidelity=fidelity,
        realism_model=crisp,
        realism=realism,
        format=format,
        quality=quality,
        back_projection=back_projection,
        degradation=degradation,
        denoise=denoise,
        deblock=deblock,
        tile=tile,
        precision=precision,
        strip_location=strip_location,
        faces=faces,
        detector=detector,
        check=check,
        embedding=embedding,
    )
    options = RunOptions(
        workers=_workers(workers),
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        address=address,
        resume=resume,
        overwrite=overwrite,
        strict=strict,
        csv=manifest == "csv",
        decode_seconds=decode_seconds,
    )
    exit_on_sigterm()
    console.quiet = quiet
    try:
        reading = Reading(zip_encoding, column)
        with listed(input, Output.of(output, to), settings, options, reading) as listing:
            for note in listing.notes:
                console.print(note, markup=False)
            if dry_run:
                _show_plan(listing, as_json)
                return
            if listing.options.in_process:
                spare_pandas()
            spare_meta_kernels()
            # a run that is there already may have nothing left to do: it starts Ray when it knows
            known = listing.output.unfinished or listing.output.manifest.exists()
            with listing.options.ray(wanted=not known):
                # while Ray starts
                with slow("load torch"):
                    from pipeline.bulk import run

                summary = run.upscale(listing)
    except KeyboardInterrupt:
        console.quiet = False
        raise fail("stopped; what is done is kept, run the same command again to go on", 130) from None
    except (FacesrError, OSError) as error:
        console.quiet = False
        # 1: it had started, or a disk or store failed; 2: it cannot start
        again = isinstance(error, (StageError, OSError)) and not isinstance(error, NoBucketError)
        raise fail(_words(error, output), 1 if again else 2) from error
    else:
        _show_summary(summary, as_json, listing.source.passed_over)
        if summary.failures:
            raise typer.Exit(1)
    finally:
        console.quiet = False


def _words(error: Exception, output: str) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.filename or output}: the disk is full; make room and run the same command again to go on"
    return str(error)


def _models(model: str | None, realism_model: str | None, realism: float) -> tuple[str | None, str | None]:
    """Weights that a repository holds are brought here; DVC, which takes a second, is asked only for these."""
    if "#" not in f"{model}{realism_model}":
        return model, realism_model
    from pipeline.core.errors import FacesrError
    from pipeline.registry.catalog import local

    with fail_on(FacesrError):
        return local(model, realism), local(realism_model)


def _workers(text: str) -> int | tuple[int, int] | None:
    if text == "auto":
        return None
    low, colon, high = text.partition(":")
    try:
        numbers = (int(low), int(high if colon else low))
    except ValueError:
        numbers = (0, 0)
    if not 1 <= numbers[0] <= numbers[1]:
        raise fail(f"--workers {text}: auto, a number from 1 up, or MIN:MAX")
    return numbers if colon else numbers[0]


def _show_plan(listing: "Listing", as_json: bool) -> None:
    with slow("load torch"):
        from pipeline.bulk.run import dry_run

    job, estimate, workers = dry_run(listing)
    left, free = job.left, job.output.path.free()
    seconds = (estimate.seconds or 0.0) / workers
    if as_json:
        plan = {
            "pictures": len(job.items),
            "to_do": len(left),
            "files": [{"name": item.name, "file": item.target, "problem": item.problem} for item in left],
            "bytes": estimate.bytes,
            "free_bytes": free,
            "seconds": round(seconds, 3),
            "workers": workers,
        }
        _echo_json(plan)
        return
    if job.note:
        console.print(job.note, markup=False)
    files = [(item.name, "" if item.problem else item.target, item.problem) for item in left[:SHOWN]]
    _show_table(("input", "result", "problem"), files)
    if len(left) > SHOWN:
        console.print(f"… and {len(left) - SHOWN} more")
    bad = sum(bool(item.problem) for item in left)
    console.print(f"{len(left)} of {len(job.items)} pictures to do, {bad} known to be unusable")
    room = "" if free is None else f", {free / 1e9:.1f} GB free"
    console.print(f"about {_duration(seconds)} with {workers} worker(s), {estimate.bytes / 1e9:.2f} GB{room}")


def _show_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(*header, box=None)
    for row in rows:
        table.add_row(*map(Text, row))  # as it is: `[red]` in a name is no markup
    console.print(table)


def _echo_json(values: dict[str, Any]) -> None:
    """Print as JSON on standard output; escaped where that takes no other characters, or a name is no text."""
    text = json.dumps(values, indent=2, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(values, indent=2)
    typer.echo(text)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _show_summary(summary: "Summary", as_json: bool, passed_over: int) -> None:
    counts = {status: summary.counts[status] for status in ("ok", "failed", "skipped")}
    if as_json:
        values = {
            **counts,
            "passed_over": passed_over,
            "flagged": summary.flagged,
            "seconds": round(summary.seconds, 1),
            "manifest": summary.manifest,
            "failures": [{"name": name, "error": error} for name, error in summary.failures],
        }
        _echo_json(values)
        return
    if summary.failures:
        _show_table(("not done", "why"), summary.failures[:SHOWN])
        if len(summary.failures) > SHOWN:
            reasons = Counter(error for _, error in summary.failures)
            console.print(f"… {len(summary.failures)} in all, for {len(reasons)} reasons")
    words = f"{counts['ok']} done, {counts['failed']} failed"
    words += f", {counts['skipped']} skipped" if counts["skipped"] else ""
    words += f", {summary.flagged} flagged to be looked at" if summary.flagged else ""
    words += f", {passed_over} other file(s) beside the pictures passed over" if passed_over else ""
    before = "nothing was left to do: " if summary.done_before else ""
    console.print(
        f"{before}{words}, {_duration(summary.seconds)}; every file's outcome: {summary.manifest}", markup=False
    )
