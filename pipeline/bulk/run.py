"""All of a bulk run: compare with what is there, check, enlarge, assemble, and say what became of every file.

Time and space are estimated before the start: measured on a few pictures of the archive itself.
"""

import secrets
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipeline.bulk.assembly import assemble
from pipeline.bulk.checks import flags_of
from pipeline.bulk.job import Job, begin, open_job, with_other_networks
from pipeline.bulk.listing import Listing
from pipeline.bulk.node_check import Machine, check_nodes
from pipeline.bulk.ownership import locked, remove_work
from pipeline.bulk.picture_job import load_upscaler, within
from pipeline.bulk.plan import Item
from pipeline.bulk.record import RowTable, read_part, write_manifest
from pipeline.bulk.settings import Engine, RunOptions, Settings, cores
from pipeline.bulk.worker import BulkWorker
from pipeline.codecs.reader import Picture, read_picture
from pipeline.codecs.writer import encode_picture, loss_note
from pipeline.core.errors import FacesrError
from pipeline.core.images import eight_bit_rgb, resize
from pipeline.core.scales import FACTOR
from pipeline.core.shards import evenly_spaced
from pipeline.runtime.console import Advance, console, progress, slow
from pipeline.runtime.ray_session import WorkerError
from pipeline.runtime.stage import StageError
from pipeline.runtime.units import run_units
from pipeline.sources.base import Source
from pipeline.upscale.generators import checksums, load_all
from pipeline.upscale.upscaler import Upscaler

SAMPLES = 6
LARGEST_SAMPLE = 1024 * 1024
"""Pixels of a sample's input above which only a part of it is encoded."""
LONGEST_SAMPLE = 20.0
"""Seconds for decoding a sample, at most: nobody waits longer for an estimate."""
SIDE = 96
"""Of the picture that the network is timed on."""


CPU_BATCH = 256 * 256
"""Input pixels that go through the network together on a CPU, where more is no faster."""


@dataclass(frozen=True)
class Estimate:
    """Time and space of a whole run."""

    bytes: int
    """Of all results together."""
    seconds: float | None
    """Of one worker for all of them; None where the network was not timed."""


@dataclass(frozen=True)
class Summary:
    """Result of a run."""

    manifest: str
    counts: Counter[str]
    flagged: int
    seconds: float
    failures: list[tuple[str, str]]
    """Names and reasons, of failed and skipped pictures."""
    done_before: bool
    """Nothing was left to do."""


def upscale(listing: Listing) -> Summary:
    """Enlarge all of INPUT into OUTPUT, or what is left of it.

    Raises:
        ModelError, WeightsError, JobError, ClusterError: it cannot start; the message says why.
        StageError: it cannot go on; what is done is kept.
        OSError: OUTPUT cannot be written.
    """
    start = time.monotonic()
    job = _planned(listing)
    if job.finished and not job.output.work.is_dir():
        return _summary(job, read_part(job.output.manifest), start, done_before=True)
    with ExitStack() as stack:
        stack.enter_context(locked(job.output))
        if job.outdated():
            # another run was at work on it, and came to its end meanwhile
            job = _planned(listing)
        if job.finished:
            remove_work(job.output)  # what a run left that was killed at its very end
            return _summary(job, read_part(job.output.manifest), start, done_before=True)
        stack.enter_context(listing.options.ray(wanted=bool(job.missing)))
        job = _checked_on_nodes(job, listing)
        _warn_of_space(job, listing)
        begin(job)
        _work(job, listing)
        rows = job.rows()
        assemble(job.output, rows)
        if job.settings.check:
            rows = rows.with_column("flags", flags_of(rows))
        with slow("write the manifest"):
            write_manifest(job.output, job.record, rows, listing.options.csv)
        remove_work(job.output)
    return _summary(job, rows, start)


def dry_run(listing: Listing) -> tuple[Job, Estimate, int]:
    """What `upscale` would do: the job, time and space for what is missing, and the number of workers assumed."""
    job = _planned(listing)
    if not job.finished and (job.output.work / "lock").is_file():
        with locked(job.output):
            pass  # refused as the run would be
    workers = listing.options.workers
    torch.set_num_threads(job.engine.threads)
    upscaler = load_upscaler(job.settings, job.engine)
    count = workers[0] if isinstance(workers, tuple) else workers or max(1, cores() // job.engine.threads)
    with slow("time the network and a few pictures"):
        found = estimate(listing.source, job.left, job.settings, upscaler, listing.options.decode_seconds)
    return job, found, count


def _planned(listing: Listing) -> Job:
    with slow("load the generator"):
        settings = _with_networks(listing.settings)
    with slow(f"plan {len(listing.entries)} results"):
        return open_job(listing, settings, _engine(settings, listing.options, [Machine.here()]))


def _with_networks(settings: Settings) -> Settings:
    """Fill in checksums of the weights and paths of other people's networks."""
    fidelity, crisp = (None if path is None else Path(path) for path in (settings.fidelity, settings.realism_model))
    assert fidelity is not None  # noqa: S101
    metadata = load_all(fidelity, crisp, settings.realism)[1]
    return with_other_networks(replace(settings, model=checksums(metadata)))


def _engine(settings: Settings, options: RunOptions, machines: Sequence[Machine]) -> Engine:
    """For a run that begins here: what every machine can do."""
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if all(machine.precision == "bf16" for machine in machines) else "fp32"
    # decoding and encoding keep up with a GPU on several cores only
    shares = [max(1, machine.cpus // machine.gpus) for machine in machines if machine.gpus]
    threads = cores() if options.in_process else min(shares, default=1)
    return Engine(precision, options.cpus_per_worker or threads, settings.tile**2 if shares else CPU_BATCH)


def _checked_on_nodes(job: Job, listing: Listing) -> Job:
    options = listing.options
    if options.address is None:
        return job
    with slow("check what every node has"):
        machines = check_nodes(options.address, listing.input, job.output, job.settings)
    if not job.fresh:
        return job  # it keeps its engine
    return replace(job, record=replace(job.record, engine=_engine(job.settings, options, machines)))


def _warn_of_space(job: Job, listing: Listing) -> None:
    free = job.output.work.free()
    if free is None:
        return
    copies = 2 if job.output.kind == "parquet" else 1
    with slow("estimate the space of the results"):
        needed = copies * estimate(listing.source, job.left, job.settings, None, listing.options.decode_seconds).bytes
    if needed > free:
        console.print(
            f"warning: about {needed / 1e9:.1f} GB are needed at {job.output.path}, "
            f"{free / 1e9:.1f} GB are free; if the disk gets full, make room and run the same command again",
            style="yellow",
            markup=False,
        )


def _work(job: Job, listing: Listing) -> None:
    """Do the units that are missing."""
    missing, options, engine = job.missing, listing.options, job.engine
    if job.note:
        console.print(job.note, markup=False)
    counts: Counter[str] = Counter()
    alive = deque([0], maxlen=1)
    total = len(job.items)
    with progress("upscale", total, total - len(job.left)) as advance:
        try:
            units = run_units(
                BulkWorker,
                (
                    *(job.output, job.settings, engine, listing.source, secrets.token_hex(8)),
                    *(options.strict, options.decode_seconds),
                ),
                missing,
                workers=options.workers,
                cpus_per_worker=engine.threads if options.address else min(engine.threads, cores()),
                gpus_per_worker=options.gpus_per_worker,
                address=options.address,
                alive=alive.append,
            )
            for statistics in units:
                if statistics.get("stop"):
                    raise StageError(statistics["stop"])
                counts.update({name: statistics[name] for name in ("failed", "skipped")})
                _advance(advance, statistics["images"], counts, alive[-1])
        except WorkerError as error:
            raise StageError(f"{error}; what is done is kept, run the same command again to go on") from error


def _advance(advance: Advance, count: int, counts: Counter[str], alive: int) -> None:
    words = [f"{number} {name}" for name, number in counts.items() if number]
    words += [f"{alive} worker{'s' * (alive != 1)}"] if alive else []
    advance(count, ", ".join(words))


def _summary(job: Job, rows: RowTable, start: float, done_before: bool = False) -> Summary:
    status = rows.column("status")
    counts = Counter(status)
    failures = [(row["name"], row["error"]) for row in rows.where([word != "ok" for word in status])]
    flagged = sum(map(bool, rows.column("flags")))
    return Summary(str(job.output.manifest), counts, flagged, time.monotonic() - start, failures, done_before)


def estimate(
    source: Source, items: Sequence[Item], settings: Settings, upscaler: Upscaler | None, decode_seconds: float
) -> Estimate:
    """Decode, enlarge by repetition and encode a few pictures; time the network, if given, on a small one.

    Returns:
        Sums for all `items`; pictures that cannot be read count for nothing.
    """
    readable = [item for item in items if not item.problem]
    samples = []
    for index in evenly_spaced(len(readable), SAMPLES):
        start = time.perf_counter()
        try:
            data = source.read(readable[index].key)
            picture = within(min(decode_seconds, LONGEST_SAMPLE), partial(read_picture, data))
            part, encoded = _encoded(picture, settings, readable[index].target)
        except (FacesrError, OSError):
            continue
        count = picture.pixels.shape[0] * picture.pixels.shape[1]
        samples.append(((time.perf_counter() - start) * count / part, count, encoded * count / part))
    if not samples:
        return Estimate(0, 0.0)
    seconds, pixels, size = len(readable) * np.mean(samples, axis=0)
    return Estimate(int(size), None if upscaler is None else float(seconds + pixels * _network(upscaler)))


def _encoded(picture: Picture, settings: Settings, target: str) -> tuple[int, int]:
    """Pixels of the input, or of the part of it that was tried, and the bytes of its result."""
    low = picture.pixels
    while low.shape[0] * low.shape[1] > LARGEST_SAMPLE:
        low = low[: -(-low.shape[0] // 2), : -(-low.shape[1] // 2)]
    kind = settings.format_of(target)
    loss_note(kind, FACTOR * low.shape[1], FACTOR * low.shape[0], low.shape[2], 8 * low.itemsize)
    # smooth as a result is: repeated pixels would compress far too well
    high = resize(eight_bit_rgb(low), FACTOR * low.shape[0], FACTOR * low.shape[1])
    data = encode_picture(high, picture.metadata, kind, settings.quality, settings.provenance_tag(settings.model))
    more = low.itemsize * low.shape[2] / 3 if kind == "png" else 1
    return low.shape[0] * low.shape[1], round(more * len(data))


def _network(upscaler: Upscaler) -> float:
    """Seconds for an input pixel."""
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    upscaler.batch([picture])
    start = time.perf_counter()
    upscaler.batch([picture])
    return (time.perf_counter() - start) / SIDE**2
