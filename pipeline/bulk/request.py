"""What `facesr upscale` is asked for, and the listing of INPUT: all that is known before torch is imported.

Importing torch and starting Ray take seconds each; this is enough to begin the one while the other is under way.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.bulk.outputs import Output, OutputError
from pipeline.codecs.reader import format_of
from pipeline.codecs.writer import FORMATS
from pipeline.runtime.ray_session import prepare
from pipeline.sources.base import Entry, Source, SourceError
from pipeline.sources.open import open_archive
from pipeline.storage.path import StoragePath
from pipeline.upscale import weights as released

FEW = 4
"""Pictures that are done here rather than by workers, whose start would take longer."""


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

    def weights(self) -> tuple[Path, Path | None]:
        """Files of the fidelity and, where it is wanted, the realism generator.

        Raises:
            NoModelError: one is missing.
        """
        return released.choose(self.model, self.realism_model, self.realism)

    def format_for(self, output: Output) -> str:
        """The format of results: `png`, `jpeg`, `webp` or `same`.

        Raises:
            ValueError: there is no such format, or OUTPUT's name ends in another.
        """
        kind = self.format or output.format or "png"
        if kind not in (*FORMATS, "same"):
            raise ValueError(f"--format {kind}: one of {', '.join(FORMATS)}, same")
        if output.format not in (None, kind) and not (kind == "same" and format_of(self.input) == output.format):
            raise ValueError(f"--format {kind}, but OUTPUT ends in {output.place.suffix}")
        return output.format or kind


@dataclass(frozen=True)
class Listing:
    """INPUT, opened and listed, and OUTPUT."""

    input: str
    """As any process on any node can open it; patterns stay patterns."""
    source: Source
    entries: list[Entry]
    output: Output


@contextmanager
def listed(request: Request) -> Iterator[Listing]:
    """List INPUT; scratch for unpacking it goes with the run's work, or at the end.

    Raises:
        SourceError: INPUT cannot be read, or holds nothing.
        OutputError, ValueError: OUTPUT cannot be written as asked.
        NoModelError: weights are missing.
    """
    output = Output.of(request.output, request.to)
    request.weights()
    request.format_for(output)
    with _scratch(output) as scratch:
        source = open_archive(request.input, scratch)
        entries = _outside(source, request, output)
        if not entries:
            raise SourceError(f"{request.input}: no pictures in it")
        if output.kind == "picture" and len(entries) != 1:
            raise OutputError(
                f"{request.output} is one picture, {request.input} holds {len(entries)}: name a folder or an archive"
            )
        yield Listing(StoragePath.of(request.input).uri, source, entries, output)


def ray_early(request: Request, listing: Listing) -> AbstractContextManager[None]:
    """Begin to start Ray where a new run will want it; one that may have nothing left to do starts it later."""
    output = listing.output
    known = output.manifest.exists() or (output.work / "job.json").exists()
    if in_process(request, len(listing.entries)) or known:
        return nullcontext()
    return prepare(request.address)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_process(request: Request, pictures: int) -> bool:
    """Whether the run is its own only worker, without Ray."""
    if request.address is not None:
        return False
    return request.workers == 1 or (request.workers is None and (pictures <= FEW or cores() == 1))


@contextmanager
def _scratch(output: Output) -> Iterator[Path]:
    work = output.work.local
    if work is not None:
        made = [place for place in (work, work.parent) if not place.exists()]
        try:
            yield work / "unpacked"
        finally:
            if not (work / "job.json").exists():  # no run has begun, or it is done
                shutil.rmtree(work / "unpacked", ignore_errors=True)
                for place in made:
                    with suppress(OSError):  # not there, or not empty
                        place.rmdir()
        return
    with tempfile.TemporaryDirectory(prefix="facesr-") as folder:
        yield Path(folder)


def _outside(source: Source, request: Request, output: Output) -> list[Entry]:
    """Entries of INPUT, without results that lie inside it."""
    entries = list(source.entries())
    root, place = StoragePath.of(request.input).local, output.place.local
    if root is None or place is None or not root.is_dir() or not place.is_relative_to(root):
        return entries
    if place == root:
        raise OutputError(f"{output.place} is INPUT too: results would mix with what they are made from")
    inside = place.relative_to(root).as_posix()
    hidden = output.work.local.relative_to(root).as_posix() if output.work.local else inside
    return [e for e in entries if e.name != inside and not e.name.startswith((f"{inside}/", f"{hidden}/"))]
