"""All of a bulk run: list, compare with what is there, check, enlarge, assemble, and say what became of every file."""

import os
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from pipeline import released
from pipeline.bulk.assembly import assemble
from pipeline.bulk.cluster import check_nodes
from pipeline.bulk.estimate import Estimate, estimate
from pipeline.bulk.job import Job, begin, locked, open_job, read_part, write_manifest
from pipeline.bulk.outputs import Output, OutputError
from pipeline.bulk.plan import items_of
from pipeline.bulk.task import Engine, Settings, Task
from pipeline.bulk.worker import BulkWorker
from pipeline.checkpoint import load_generator
from pipeline.checks import flag
from pipeline.distributed import WorkerError, prepare, run_units
from pipeline.pictures import FORMATS, format_of
from pipeline.precision import choose_device, choose_precision
from pipeline.progress import Advance, console, progress
from pipeline.sources import Entry, Source, SourceError, open_archive
from pipeline.stage import StageError
from pipeline.storage import Place
from pipeline.upscaling import Upscaler
from pipeline.weights import find, find_optional

FEW = 4
"""Pictures that are done here rather than by workers, whose start would take longer."""
CPU_BATCH = 256 * 256
"""Input pixels that go through the network together on a CPU, where more is no faster."""

Row = dict[str, Any]


@dataclass
class Request:
    """What the command line asks for."""

    input: str
    output: str
    model: Path | None = None
    realism: float = 0.0
    realism_model: Path | None = None
    to: str | None = None
    format: str | None = None
    quality: int = 95
    back_projection: int | None = None
    tile: int = 512
    precision: str = "auto"
    faces: bool = False
    detector: str | None = None
    check: bool = False
    embedding: str | None = None
    workers: int | tuple[int, int] | None = None
    cpus_per_worker: int | None = None
    gpus_per_worker: float | None = None
    address: str | None = None
    resume: bool = False
    overwrite: bool = False
    strict: bool = False
    csv: bool = False


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


def upscale(request: Request) -> Summary:
    """Do what is asked for.

    Raises:
        ModelError, NoModelError, WeightsError, SourceError, OutputError, JobError, ClusterError, ValueError: it cannot
            start; the message says why.
        StageError: it cannot go on; what is done is kept.
    """
    start = time.monotonic()
    with _prepared(request) as (job, source):
        if job.finished:
            return _summary(job, read_part(job.output.manifest), start, done_before=True)
        with locked(job.output), _ray(request, job):
            job = _checked_on_nodes(request, job)
            _warn_of_space(job, source)
            begin(job, _absolute(request.input))
            _work(request, job, source)
            rows = job.rows()
            assemble(job.output, rows)
            if request.check:
                flag(rows)
            write_manifest(job, _absolute(request.input), rows, request.csv)
        # the lock lies in there too
        job.output.work.remove_tree()
    return _summary(job, rows, start)


def dry_run(request: Request) -> tuple[Job, Estimate, int]:
    """What `upscale` would do: the job, time and space for what is missing, and the number of workers assumed."""
    with _prepared(request) as (job, source):
        names = {values[3] for unit in job.missing for values in unit["items"]}
        items = [item for item in job.items if item.target in names]
        settings = job.settings
        torch.set_num_threads(job.engine.threads)
        upscaler = Upscaler.load(
            settings.fidelity, settings.realism_model, settings.realism, precision=job.engine.precision
        )
        workers = request.workers[0] if isinstance(request.workers, tuple) else request.workers
        count = workers or (1 if _in_process(request, len(job.items)) else max(1, _cores() // job.engine.threads))
        return job, estimate(source, items, settings, upscaler), count


@contextmanager
def _prepared(request: Request) -> Iterator[tuple[Job, Source]]:
    """The job, and its source opened; scratch for unpacking goes with the run's work, or at the end."""
    output = Output.of(request.output, request.to)
    settings = _settings(request, output)
    with _scratch(output) as scratch:
        source = open_archive(request.input, scratch)
        entries = _outside(source, request, output)
        if not entries:
            raise SourceError(f"{request.input}: no pictures in it")
        if output.kind == "picture" and len(entries) != 1:
            raise OutputError(
                f"{request.output} is one picture, {request.input} holds {len(entries)}: name a folder or an archive"
            )
        only = output.place.name if output.kind == "picture" else None
        items = items_of(entries, settings.format, only)
        engine = _engine(request, settings, len(items))
        absolute = _absolute(request.input)
        yield (
            open_job(absolute, output, settings, engine, items, resume=request.resume, overwrite=request.overwrite),
            source,
        )


@contextmanager
def _scratch(output: Output) -> Iterator[Path]:
    if output.work.local is not None:
        yield output.work.local / "unpacked"
        return
    with tempfile.TemporaryDirectory(prefix="facesr-") as folder:
        yield Path(folder)


def _absolute(text: str) -> str:
    """INPUT as any process on any node can open it; patterns stay patterns."""
    return Place.of(text).uri


def _outside(source: Source, request: Request, output: Output) -> list[Entry]:
    """Entries of INPUT, without results that lie inside it."""
    entries = list(source.entries())
    root, place = Place.of(request.input).local, output.place.local
    if root is None or place is None or not root.is_dir() or not place.is_relative_to(root):
        return entries
    if place == root:
        raise OutputError(f"{output.place} is INPUT too: results would mix with what they are made from")
    inside = place.relative_to(root).as_posix()
    hidden = output.work.local.relative_to(root).as_posix() if output.work.local else inside
    return [e for e in entries if e.name != inside and not e.name.startswith((f"{inside}/", f"{hidden}/"))]


def _settings(request: Request, output: Output) -> Settings:
    fidelity, other = released.choose(request.model, request.realism_model, request.realism)
    hashes = [load_generator(path)[1]["sha256"] for path in (fidelity, other) if path]
    model = hashes[-1] if request.realism in (0, 1) else f"{hashes[0]}+{request.realism:g}*{hashes[1]}"
    kind = request.format or output.format or "png"
    if kind not in (*FORMATS, "same"):
        raise ValueError(f"--format {kind}: one of {', '.join(FORMATS)}, same")
    if output.format not in (None, kind) and not (kind == "same" and format_of(request.input) == output.format):
        raise ValueError(f"--format {kind}, but OUTPUT ends in {output.place.suffix}")
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
        format=output.format or kind,
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


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_process(request: Request, pictures: int) -> bool:
    if request.address is not None:
        return False
    return request.workers == 1 or (request.workers is None and (pictures <= FEW or _cores() == 1))


def _ray(request: Request, job: Job) -> AbstractContextManager[None]:
    """Ray, where it is wanted, starts while the rest is prepared."""
    if _in_process(request, len(job.items)) or not job.missing:
        return nullcontext()
    return prepare(request.address)


def _engine(request: Request, settings: Settings, pictures: int) -> Engine:
    """For a run that begins here; on a cluster the nodes are asked later."""
    device = choose_device()
    precision = "bf16" if choose_precision(settings.precision, device) is torch.bfloat16 else "fp32"
    threads = 1
    if _in_process(request, pictures):
        threads = _cores()
    elif device.type == "cuda":
        # decoding and encoding keep up with a GPU on several cores only
        threads = max(1, _cores() // torch.cuda.device_count())
    batch = settings.tile**2 if device.type == "cuda" else CPU_BATCH
    return Engine(precision, request.cpus_per_worker or threads, batch)


def _checked_on_nodes(request: Request, job: Job) -> Job:
    if request.address is None:
        return job
    nodes = check_nodes(request.address, _absolute(request.input), job.output, job.settings)
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
    names = {values[3] for unit in job.missing for values in unit["items"]}
    needed = estimate(source, [item for item in job.items if item.target in names], job.settings, None).bytes
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
    in_process = _in_process(request, len(job.items))
    options: dict[str, Any] = {"workers": 1 if in_process else request.workers}
    options |= {"cpus_per_worker": job.engine.threads, "gpus_per_worker": request.gpus_per_worker}
    if request.address is None:
        options["cpus_per_worker"] = min(job.engine.threads, _cores())
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
