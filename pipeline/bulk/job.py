"""A run on record: what it makes, what of it is done, and if the same command goes on or asks first.

Beside partial work lies `job.json`: settings, engine, listing. A run that finds it goes on with the same engine.
Another model or option is never mixed in silently. An archive that has grown or changed is no such change: what is done
of it is kept, the rest is done.
"""

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace

from pipeline.bulk.listing import Listing
from pipeline.bulk.outputs import Output
from pipeline.bulk.plan import BulkUnit, Item, items_of, listing_hash, units_of
from pipeline.bulk.record import JobError, RunRecord, manifest_record, part_rows, read_part, read_record, write_part
from pipeline.bulk.settings import Engine, Settings
from pipeline.core.schema import Row
from pipeline.storage.path import StoragePath
from pipeline.version import __version__

CARRIED = "carried.parquet"
"""The part that holds the rows of an earlier listing."""

CHOICE = "`--resume` finishes what is there with its own options, `--overwrite` starts anew"


@dataclass(frozen=True)
class Job:
    """What is to do."""

    output: Output
    record: RunRecord
    items: list[Item]
    units: list[BulkUnit] = field(default_factory=list)
    """All units of this listing, finished ones too."""
    carried: list[Row] = field(default_factory=list)
    """Rows of an earlier listing or run that still hold."""
    fresh: bool = True
    """True if it starts here, rather than going on with recorded work."""
    clear: bool = False
    """True if results of a run before are removed first."""
    note: str = ""
    """What is worth saying before the start."""
    finished: bool = False
    """There is nothing to do: the manifest tells of this very run."""

    @property
    def settings(self) -> Settings:
        """Of the run: as asked for, or with `--resume` the recorded ones."""
        return self.record.settings

    @property
    def engine(self) -> Engine:
        """Of the run: one that is gone on with keeps its own."""
        return self.record.engine

    @property
    def parts(self) -> StoragePath:
        """Folder for the rows of finished units."""
        return self.output.work / "parts" / self.record.listing

    @property
    def missing(self) -> list[BulkUnit]:
        """Units without a part."""
        there = set() if self.clear else _names(self.parts)
        return [unit for unit in self.units if StoragePath.of(unit.part).name not in there]

    @property
    def left(self) -> list[Item]:
        """Items without a row."""
        return [item for unit in self.missing for item in unit.items]

    def rows(self) -> list[Row]:
        """Rows of all that is done, in the order of the archive."""
        found = {row["target"]: row for row in part_rows(self.parts)}
        return [found[item.target] for item in self.items if item.target in found]


def open_job(listing: Listing, settings: Settings, engine: Engine) -> Job:
    """Plan a new run, or how to go on with the one that is there. Nothing is written or removed yet: `begin` does.

    Args:
        listing: INPUT and OUTPUT; its options decide between `resume` and `overwrite`.
        settings: as asked for.
        engine: for a new run; one that is gone on with keeps its own.

    Raises:
        JobError: OUTPUT holds another run's work, or files that are not ours.
    """
    output, options = listing.output, listing.options
    items = items_of(listing.entries, settings, output.path.name if output.kind == "picture" else None)
    record = RunRecord(__version__, listing.input, output.path.uri, settings, engine, listing_hash(items), len(items))
    job = Job(output, record, items, clear=options.overwrite)
    before = None if options.overwrite else read_record(output)
    if before is None:
        if not options.overwrite:
            _refuse_foreign_files(job)
        return _planned(job, [])
    differences = _differences(before, record)
    if differences and not options.resume:
        what = "an unfinished run" if output.unfinished else "the results of a run"
        raise JobError(f"{output.path} holds {what} with other options: {'; '.join(differences)}. {CHOICE}")
    kept = replace(record, engine=before.engine, settings=before.settings if differences else settings)
    job = replace(job, record=kept, fresh=False)
    same_listing = before.listing == record.listing
    return _go_on(job, same_listing) if output.unfinished else _again(job, same_listing)


def begin(job: Job) -> None:
    """Put the run on record; `overwrite` takes effect."""
    if job.clear:
        _clear(job.output)
    if job.carried:
        write_part(job.parts / CARRIED, job.carried)
    job.output.job.write_bytes(job.record.to_json(indent=2).encode())


@contextmanager
def locked(output: Output) -> Iterator[None]:
    """Keep a second run off the same OUTPUT; the lock goes with the process, however that ends.

    Raises:
        JobError: another run is at work on it.
    """
    folder = output.work.local
    if folder is None:
        yield  # an object store has no locks
        return
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JobError(f"{output.path}: another run is at work on it") from error
        yield


def _go_on(job: Job, same_listing: bool) -> Job:
    """With a run that ended too early."""
    if same_listing:
        carried = job.parts / CARRIED
        return _planned(job, read_part(carried) if carried.exists() else [])
    rows = list(part_rows(job.output.work / "parts"))
    return _planned(replace(job, note=_changed(job.items, rows)), rows)


def _again(job: Job, same_listing: bool) -> Job:
    """With a run that came to its end: what failed is tried again, what is new is done."""
    if job.output.kind != "folder":
        if same_listing:
            return replace(job, finished=True)
        raise JobError(f"{job.output.path} was made of an archive that has changed since: `--overwrite` makes it anew")
    rows = [row | {"target": row["file"]} for row in read_part(job.output.manifest)]
    note = "" if same_listing else _changed(job.items, rows)
    planned = _planned(replace(job, note=note), [row for row in rows if row["status"] == "ok"])
    return replace(job, finished=True) if same_listing and not planned.units else planned


def _planned(job: Job, done: Sequence[Row]) -> Job:
    """Cut what is not done yet into units; rows of what is done are kept beside their parts."""
    if done and job.output.kind == "folder":
        there = _names(job.output.path)
        done = [row for row in done if row["status"] != "ok" or row["target"] in there]
    known = {(row["name"], row["stamp"], row["target"]): row for row in done}
    carried = [known[item.identity] for item in job.items if item.identity in known]
    left = [item for item in job.items if item.identity not in known]
    return replace(job, units=units_of(left, job.parts), carried=carried)


def _differences(before: RunRecord, now: RunRecord) -> list[str]:
    """In words."""
    words = []
    for name in (setting.name for setting in fields(Settings) if setting.compare):
        was, asked = getattr(before.settings, name), getattr(now.settings, name)
        if was != asked:
            words.append(f"{name} was {_short(was)}, now {_short(asked)}")
    if before.facesr != now.facesr:
        words.append(f"facesr was {before.facesr}, now {now.facesr}")
    if before.input != now.input and before.listing != now.listing:
        words.append(f"INPUT was {StoragePath.of(before.input)}")
    return words


def _short(value: object) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) > 16 else str(value)


def _changed(items: Sequence[Item], rows: Sequence[Row]) -> str:
    before = {row["name"]: row["stamp"] for row in rows}
    new = sum(item.name not in before for item in items)
    other = sum(item.name in before and before[item.name] != item.stamp for item in items)
    gone = len(before.keys() - {item.name for item in items})
    return f"INPUT has changed since: {new} new or not done yet, {other} changed, {gone} gone; what is done is kept"


def _names(folder: StoragePath, recursive: bool = True) -> set[str]:
    return {name for name, _, _ in folder.files(recursive)}


def _refuse_foreign_files(job: Job) -> None:
    path, is_folder = job.output.path, job.output.is_folder
    if path.is_file():
        choice = "is a file, not a folder" if is_folder else "exists already: name another OUTPUT, or `--overwrite` it"
        raise JobError(f"{path} {choice}")
    taken = sorted(_names(path) & {item.target for item in job.items}) if is_folder else ()
    if taken:
        raise JobError(
            f"{path} holds files that would be replaced, {taken[0]} and {len(taken) - 1} more: name another "
            "OUTPUT, or `--overwrite` them"
        )


def _clear(output: Output) -> None:
    """Remove the work and results of a run before, and nothing else."""
    for folder in ("parts", "pictures", "incoming"):
        (output.work / folder).remove_tree()
    for name in _names(output.work, recursive=False) - {"lock"}:  # held by this very run
        (output.work / name).remove()
    ours = manifest_record(output) is not None
    if ours and output.kind == "folder":
        for row in read_part(output.manifest):
            if row["file"]:
                (output.path / row["file"]).remove()
    if ours and output.kind == "shards":
        for name in fnmatch.filter(_names(output.path, recursive=False), "pictures-*.parquet"):
            (output.path / name).remove()
    output.manifest.remove()
