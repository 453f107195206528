"""The listing of INPUT: all that is known before torch is imported.

Importing torch and starting Ray take seconds each; this is enough to begin the one while the other is under way.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.bulk.outputs import Output, OutputError
from pipeline.bulk.settings import RunOptions, Settings
from pipeline.sources.base import Entry, Source, SourceError
from pipeline.sources.open import open_archive
from pipeline.sources.reading import Reading
from pipeline.storage.path import StoragePath


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
    settings = settings.chosen_for(source, output)
    with _scratch(output) as scratch:
        archive = open_archive(source, scratch, reading=reading)
        entries = _without_results(archive, source, output)
        if not entries:
            raise SourceError(f"{source}: no pictures in it")
        if output.kind == "picture" and len(entries) != 1:
            raise OutputError(
                f"{output.path} is one picture, {source} holds {len(entries)}: name a folder or an archive"
            )
        yield Listing(StoragePath.of(source).uri, archive, entries, output, settings, options.for_images(len(entries)))


@contextmanager
def _scratch(output: Output) -> Iterator[Path]:
    work = output.work.local
    if work is None:
        with tempfile.TemporaryDirectory(prefix="facesr-") as temporary:
            yield Path(temporary)
        return
    made = [folder for folder in (work, work.parent) if not folder.exists()]
    try:
        yield work / "unpacked"
    finally:
        if not output.unfinished:  # no run has begun, or it is done
            shutil.rmtree(work / "unpacked", ignore_errors=True)
            for folder in made:
                with suppress(OSError):  # not there, or not empty
                    folder.rmdir()


def _without_results(archive: Source, source: str, output: Output) -> list[Entry]:
    """Entries of INPUT, without results that lie inside it."""
    entries = list(archive.entries())
    root, result = StoragePath.of(source).local, output.path.local
    if root is None or result is None or not root.is_dir() or not result.is_relative_to(root):
        return entries
    if result == root:
        raise OutputError(f"{output.path} is INPUT too: results would mix with what they are made from")
    inside = result.relative_to(root).as_posix()
    hidden = output.work.local.relative_to(root).as_posix() if output.work.local else inside
    return [e for e in entries if e.name != inside and not e.name.startswith((f"{inside}/", f"{hidden}/"))]
