"""All of a bulk run: compare with what is there, check, enlarge, assemble, and say what became of every file."""

import secrets
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from pipeline.bulk.assembly import assemble
from pipeline.bulk.checks import flag
from pipeline.bulk.estimate import Estimate, estimate
from pipeline.bulk.job import Job, begin, locked, open_job
from pipeline.bulk.node_check import check_nodes
from pipeline.bulk.outputs import Output
from pipeline.bulk.plan import items_of
from pipeline.bulk.record import Row, read_part, write_manifest
from pipeline.bulk.request import Listing, Request, cores, in_process
from pipeline.bulk.task import Engine, Settings, Task
from pipeline.bulk.worker import BulkWorker
from pipeline.models.checkpoint import load_generator
from pipeline.models.device import choose_device, choose_precision
from pipeline.pretrained.registry import find, find_optional
from pipeline.runtime.console import Advance, console, progress
from pipeline.runtime.ray_session import WorkerError, prepare
from pipeline.runtime.stage import StageError
from pipeline.runtime.units import run_units
from pipeline.sources.base import Source
from pipeline.upscale.upscaler import Upscaler

CPU_BATCH = 256 * 256
"""Input pixels that go through the network together on a CPU, where more is no faster."""


@dataclass
class Summary:
    """What became of it."""

    manifest: str
    counts: Counter[str]
    flagged: int
    seconds: float
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Names and reasons, of failed and skipped pictures."""
    done_before: bool = False
    """Nothing was left to do."""


def upscale(request: Request, listing: Listing) -> Summary:
    """Do what is asked for.

    Raises:
        ModelError, WeightsError, JobError, ClusterError, ValueError: it cannot start; the message says why.
        StageError: it cannot go on; what is done is kept.
    """
    start = time.monotonic()
    job = _planned(request, listing)
    if job.finished:
        return _summary(job, read_part(job.output.manifest), start, done_before=True)
    with locked(job.output), _ray(request, job):
        job = _checked_on_nodes(request, job, listing)
        _warn_of_space(job, listing.source)
        begin(job, listing.input)
        _work(request, job, listing.source)
        rows = job.rows()
        assemble(job.output, rows)
        if request.check:
            flag(rows)
        write_manifest(job.output, job.record(listing.input), rows, request.csv)
    # the lock lies in there too
    job.output.work.remove_tree()
    return _summary(job, rows, start)


def dry_run(request: Request, listing: Listing) -> tuple[Job, Estimate, int]:
    """What `upscale` would do: the job, time and space for what is missing, and the number of workers assumed."""
    job = _planned(request, listing)
    settings = job.settings
    torch.set_num_threads(job.engine.threads)
    upscaler = Upscaler.load(
        settings.fidelity, settings.realism_model, settings.realism, precision=job.engine.precision
    )
    workers = request.workers[0] if isinstance(request.workers, tuple) else request.workers
    count = workers or (1 if in_process(request, len(job.items)) else max(1, cores() // job.engine.threads))
    return job, estimate(listing.source, job.left, settings, upscaler), count


def _planned(request: Request, listing: Listing) -> Job:
    settings = _settings(request, listing.output)
    only = listing.output.place.name if listing.output.kind == "picture" else None
    items = items_of(listing.entries, settings.format, only)
    return open_job(
        listing.input,
        listing.output,
        settings,
        _engine(request, settings, len(items)),
        items,
        resume=request.resume,
        overwrite=request.overwrite,
    )


def _settings(request: Request, output: Output) -> Settings:
    fidelity, other = request.weights()
    hashes = [load_generator(path)[1]["sha256"] for path in (fidelity, other) if path]
    model = hashes[-1] if request.realism in (0, 1) else f"{hashes[0]}+{request.realism:g}*{hashes[1]}"
    choose_precision(request.precision, choose_device())
    detector = embedding = None
    if request.faces:
        detector = find("detector", request.detector)
    elif request.check:
        detector = find_optional("detector", request.detector)
    if request.check:
        embedding = find_optional("embedding", request.embedding)
    return Settings(
        fidelity=str(fidelity.absolute()),
        realism_model=str(other.absolute()) if other else None,
        realism=request.realism,
        model=model,
        name="facesr" if request.model is None else fidelity.stem,
        format=request.format_for(output),
        quality=request.quality,
        back_projection=request.back_projection,
        tile=request.tile,
        precision=request.precision,
        faces=request.faces,
        detector=str(detector.absolute()) if detector else None,
        check=request.check,
        embedding=str(embedding.absolute()) if embedding else None,
        strict=request.strict,
    )


def _ray(request: Request, job: Job) -> AbstractContextManager[None]:
    """Ray, where it is wanted, starts while the rest is prepared; it may have been begun before."""
    if in_process(request, len(job.items)) or not job.missing:
        return nullcontext()
    return prepare(request.address)


def _engine(request: Request, settings: Settings, pictures: int) -> Engine:
    """For a run that begins here; on a cluster the nodes are asked later."""
    device = choose_device()
    precision = "bf16" if choose_precision(settings.precision, device) is torch.bfloat16 else "fp32"
    threads = 1
    if in_process(request, pictures):
        threads = cores()
    elif device.type == "cuda":
        # decoding and encoding keep up with a GPU on several cores only
        threads = max(1, cores() // torch.cuda.device_count())
    batch = settings.tile**2 if device.type == "cuda" else CPU_BATCH
    return Engine(precision, request.cpus_per_worker or threads, batch)


def _checked_on_nodes(request: Request, job: Job, listing: Listing) -> Job:
    if request.address is None:
        return job
    nodes = check_nodes(request.address, listing.input, job.output, job.settings)
    if not job.fresh:
        return job  # it keeps its engine; a new one takes what every node can do
    precision = job.settings.precision
    if precision == "auto":
        precision = "bf16" if all(node["precision"] == "bf16" for node in nodes) else "fp32"
    shares = [max(1, node["cpus"] // node["gpus"]) for node in nodes if node["gpus"]]
    threads = request.cpus_per_worker or (min(shares) if shares else 1)
    batch = job.settings.tile**2 if shares else CPU_BATCH
    return replace(job, engine=Engine(precision, threads, batch))


def _warn_of_space(job: Job, source: Source) -> None:
    free = job.output.work.free()
    if free is None:
        return
    needed = estimate(source, job.left, job.settings, None).bytes
    if job.output.kind == "parquet":
        needed *= 2
    if needed > free:
        console.print(
            f"[yellow]warning:[/] about {needed / 1e9:.1f} GB are needed at {job.output.place}, "
            f"{free / 1e9:.1f} GB are free; if the disk gets full, make room and run the same command again"
        )


def _work(request: Request, job: Job, source: Source) -> None:
    """Do the units that are missing."""
    missing = job.missing
    total, left = len(job.items), sum(len(unit["items"]) for unit in missing)
    if job.note:
        console.print(job.note, markup=False)
    task = Task(
        place=job.output.place.uri,
        kind=job.output.kind,
        settings=job.settings,
        engine=job.engine,
        run=secrets.token_hex(8),
    )
    workers = 1 if in_process(request, len(job.items)) else request.workers
    options: dict[str, Any] = {"workers": workers}
    options |= {"cpus_per_worker": job.engine.threads, "gpus_per_worker": request.gpus_per_worker}
    if request.address is None:
        options["cpus_per_worker"] = min(job.engine.threads, cores())
    counts: Counter[str] = Counter()
    alive = 0

    def count_alive(number: int) -> None:
        nonlocal alive
        alive = number

    with progress("upscale", total, total - left) as advance:
        try:
            units = run_units(
                BulkWorker, (task.to_dict(), source), missing, address=request.address, alive=count_alive, **options
            )
            for statistics in units:
                if statistics.get("stop"):
                    raise StageError(statistics["stop"])
                counts.update({name: statistics[name] for name in ("failed", "skipped")})
                _advance(advance, statistics["images"], counts, alive)
        except WorkerError as error:
            raise StageError(f"{error}; what is done is kept, run the same command again to go on") from error


def _advance(advance: Advance, count: int, counts: Counter[str], alive: int) -> None:
    words = [f"{number} {name}" for name, number in counts.items() if number]
    words += [f"{alive} worker{'s' * (alive != 1)}"] if alive else []
    advance(count, ", ".join(words))


def _summary(job: Job, rows: list[Row], start: float, done_before: bool = False) -> Summary:
    counts = Counter(row["status"] for row in rows)
    failures = [(row["name"], row["error"]) for row in rows if row["status"] != "ok"]
    flagged = sum(bool(row["flags"]) for row in rows)
    return Summary(str(job.output.manifest), counts, flagged, time.monotonic() - start, failures, done_before)
