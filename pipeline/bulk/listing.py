"""The listing of INPUT: all that is known before torch is imported.

Importing torch and starting Ray take seconds each; this is enough to begin the one while the other is under way.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.bulk.outputs import Output, OutputError
from pipeline.bulk.ownership import below, refuse_overlap
from pipeline.bulk.record import is_ours
from pipeline.bulk.settings import RunOptions, Settings
from pipeline.runtime.console import slow
from pipeline.sources.base import Entry, Reading, Source, SourceError
from pipeline.sources.open import open_archive
from pipeline.sources.patterns import expand
from pipeline.storage.path import StoragePath

PASSED_OVER = "made by facesr upscale, passed over"


@dataclass(frozen=True)
class Listing:
    """INPUT, opened and listed, OUTPUT, and what is asked for."""

    input: str
    """As any process on any node can open it; patterns stay patterns."""
    source: Source
    entries: list[Entry]
    output: Output
    settings: Settings
    options: RunOptions
    roots: list[StoragePath] = field(default_factory=list)
    """The files or folders that INPUT consists of."""
    notes: list[str] = field(default_factory=list)
    """What was passed over, and why."""


@contextmanager
def listed(
    source: str, output: Output, settings: Settings, options: RunOptions, reading: Reading | None = None
) -> Iterator[Listing]:
    """List INPUT; scratch for unpacking it goes with the run's work, or at the end.

    Raises:
        SourceError: INPUT cannot be read, or holds nothing.
        OutputError: OUTPUT cannot be written as asked.
        NoModelError: weights are missing.
    """
    if not source:
        raise SourceError("INPUT is empty: a variable that is not set?")
    settings = settings.chosen_for(source, output)
    shown = StoragePath.of(source)  # without credentials
    matches = expand(source)
    results = {match for match in matches if _is_result(match)}
    if len(results) == len(matches):
        results = set()  # they are what is meant
    roots = [match for match in matches if match not in results] or [shown]
    refuse_overlap(roots, output)
    with _scratch(output) as scratch:
        with slow(f"list {shown}"):
            archive = open_archive(source, scratch, reading=reading, left_out=results)
            entries, notes = _without_results(archive.entries(), roots, output)
            notes = [f"{of}: {PASSED_OVER}" for of in sorted(results) if of != output.path] + notes
        if not entries:
            raise SourceError("; ".join([f"{shown}: no pictures in it", *notes]))
        if output.kind == "picture" and len(entries) != 1:
            raise OutputError(
                f"{output.path} is one picture, {shown} holds {len(entries)}: name a folder or an archive"
            )
        yield Listing(shown.uri, archive, entries, output, settings, options.for_images(len(entries)), roots, notes)


@contextmanager
def _scratch(output: Output) -> Iterator[Path]:
    work = output.work.local
    if work is None:
        with tempfile.TemporaryDirectory(prefix="facesr-") as temporary:
            yield Path(temporary)
        return
    made = [folder for folder in (work, *work.parents) if not folder.exists()]
    try:
        yield work / "unpacked"
    finally:
        if not output.unfinished:  # no run has begun, or it is done
            shutil.rmtree(work / "unpacked", ignore_errors=True)
            for folder in made:
                with suppress(OSError):  # not there, or not empty
                    folder.rmdir()


def _without_results(
    entries: Iterable[Entry], roots: Sequence[StoragePath], output: Output
) -> tuple[list[Entry], list[str]]:
    """Entries of INPUT, without results that lie inside it: of this run, and of earlier ones, which are named."""
    found = list(entries)
    if len(roots) != 1:
        return found, []
    (root,) = roots
    if (inside := below(output.path, root)) is not None:
        hidden = below(output.work, root) or inside
        found = [e for e in found if e.name != inside and not e.name.startswith((f"{inside}/", f"{hidden}/"))]
    if root.local is None or not root.local.is_dir():
        return found, []
    known: dict[str, bool] = {}
    earlier = {entry.name: of for entry in found if (of := _result_of(root.local, entry.name, known))}
    counts = Counter(earlier.values())
    notes = [f"{of}: {PASSED_OVER} ({counts[of]} file{'s' * (counts[of] > 1)})" for of in sorted(counts)]
    return [entry for entry in found if entry.name not in earlier], notes


def _result_of(root: Path, name: str, known: dict[str, bool]) -> str | None:
    """The OUTPUT of an earlier run below INPUT that a file belongs to: a folder, or the file itself.

    `known` remembers folders.
    """
    parts = name.split("/")
    for depth in range(1, len(parts) + 1):
        folder = "/".join(parts[:depth])
        if depth == len(parts):
            return folder if _is_result(StoragePath.of(root / folder)) else None
        if folder not in known:
            known[folder] = is_ours(Output(StoragePath.of(root / folder), "folder"))
        if known[folder]:
            return folder
    return None


def _is_result(path: StoragePath) -> bool:
    """True of the OUTPUT of a run, a folder or a file, on this machine's disks."""
    if path.local is None:
        return False
    if path.local.is_dir():
        return is_ours(Output(path, "folder"))
    return os.path.lexists(f"{path.local}.manifest.parquet") and is_ours(Output(path, "zip"))
