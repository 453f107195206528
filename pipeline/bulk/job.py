"""A run on record: what it makes, what of it is done, and whether the same command goes on or asks first.

Beside partial work lies `job.json`: settings, engine, listing. A run that finds it goes on with the same engine.
Another model or option is never mixed in silently. An archive that has grown or changed is no such change: what is done
of it is kept, the rest is done.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.bulk.outputs import Output
from pipeline.bulk.plan import Item, listing_hash, units_of
from pipeline.bulk.record import Row, part_rows, read_part, read_record, write_part, write_record
from pipeline.bulk.task import NOT_IN_PICTURES, Engine, Settings
from pipeline.core.errors import FacesrError
from pipeline.storage.path import StoragePath
from pipeline.version import __version__

CARRIED = "carried.parquet"
"""The part that holds the rows of an earlier listing."""

CHOICE = "`--resume` finishes what is there with its own options, `--overwrite` starts anew"


class JobError(FacesrError):
    """OUTPUT holds something else; the message says what, and the choice."""


@dataclass(frozen=True)
class Job:
    """What is to do."""

    output: Output
    settings: Settings
    engine: Engine
    items: list[Item]
    units: list[dict[str, Any]]
    """All units of this listing, finished ones too."""
    parts: StoragePath
    carried: list[Row] = field(default_factory=list)
    """Rows of an earlier listing or run that still hold."""
    fresh: bool = True
    """Whether it starts here, rather than going on with recorded work."""
    clear: bool = False
    """Whether results of a run before are removed first."""
    note: str = ""
    """What is worth saying before the start."""
    finished: bool = False
    """There is nothing to do: the manifest tells of this very run."""

    @property
    def missing(self) -> list[dict[str, Any]]:
        """Units without a part."""
        there = {name for name, _, _ in self.parts.files()} if self.parts.exists() and not self.clear else set()
        return [unit for unit in self.units if StoragePath.of(unit["part"]).name not in there]

    @property
    def left(self) -> list[Item]:
        """Items without a row."""
        names = {values[3] for unit in self.missing for values in unit["items"]}
        return [item for item in self.items if item.target in names]

    def rows(self) -> list[Row]:
        """Rows of all that is done, in the order of the archive."""
        found = {row["target"]: row for row in part_rows(self.parts)}
        return [found[item.target] for item in self.items if item.target in found]

    def record(self, source: str) -> dict[str, Any]:
        """What a later run compares with; `source` is INPUT."""
        return {
            "facesr": __version__,
            "input": source,
            "output": self.output.place.uri,
            "settings": self.settings.to_dict(),
            "engine": self.engine.to_dict(),
            "listing": listing_hash(self.items),
            "count": len(self.items),
        }


def open_job(
    source: str,
    output: Output,
    settings: Settings,
    engine: Engine,
    items: list[Item],
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Job:
    """Plan a new run, or how to go on with the one that is there. Nothing is written or removed yet: `begin` does.

    Args:
        source: INPUT.
        output: OUTPUT.
        settings: as asked for.
        engine: for a new run; one that is gone on with keeps its own.
        items: the listing of INPUT.
        resume: go on with other options than those asked for: the recorded ones.
        overwrite: begin anew whatever is there.

    Raises:
        JobError: OUTPUT holds another run's work, or files that are not ours.
    """
    parts = output.work / "parts" / listing_hash(items)
    job = Job(output, settings, engine, items, [], parts)
    if overwrite:
        return _planned(replace(job, clear=True), [])
    record = read_record(output)
    if record is None:
        _refuse_foreign_files(output, items)
        return _planned(job, [])
    unfinished = record.pop("unfinished")
    recorded = Settings.from_dict(record["settings"])
    differences = _differences(recorded, settings, record, source, items)
    if differences and not resume:
        what = "an unfinished run" if unfinished else "the results of a run"
        raise JobError(f"{output.place} holds {what} with other options: {'; '.join(differences)}. {CHOICE}")
    if differences:
        job = replace(job, settings=replace(recorded, strict=settings.strict))
    if "engine" in record:
        job = replace(job, engine=Engine.from_dict(record["engine"]), fresh=False)
    same_listing = record["listing"] == listing_hash(items)
    if unfinished:
        return _go_on(job, same_listing)
    return _again(job, same_listing)


def begin(job: Job, source: str) -> None:
    """Put the run on record; `overwrite` takes effect."""
    if job.clear:
        _clear(job.output)
    if job.carried:
        write_part(job.parts / CARRIED, job.carried)
    write_record(job.output, job.record(source))


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
            raise JobError(f"{output.place}: another run is at work on it") from error
        yield


def _go_on(job: Job, same_listing: bool) -> Job:
    """With a run that ended too early."""
    if same_listing:
        return _planned(job, list(part_rows(job.parts, CARRIED)))
    old = [row for place in _part_folders(job.output) for row in part_rows(place)]
    return _planned(replace(job, note=_changed(job.items, old)), old)


def _again(job: Job, same_listing: bool) -> Job:
    """With a run that came to its end: what failed is tried again, what is new is done."""
    rows = [row | {"target": row["file"]} for row in read_part(job.output.manifest)]
    if job.output.kind != "folder":
        if same_listing:
            return replace(job, finished=True)
        raise JobError(f"{job.output.place} was made of an archive that has changed since: `--overwrite` makes it anew")
    kept = [row for row in rows if row["status"] == "ok"]
    planned = _planned(replace(job, note="" if same_listing else _changed(job.items, rows)), kept)
    return replace(job, finished=True) if same_listing and not planned.units else planned


def _planned(job: Job, done: Sequence[Row]) -> Job:
    """Cut what is not done yet into units; rows of what is done are kept beside their parts."""
    known = {row["name"]: row for row in done}
    carried, left = [], []
    there = {name for name, _, _ in job.output.place.files()} if known and job.output.kind == "folder" else None
    for item in job.items:
        row = known.get(item.name)
        lost = row is not None and row["status"] == "ok" and there is not None and item.target not in there
        if row is not None and item.same(row) and not lost:
            carried.append(row | {"target": item.target})
        else:
            left.append(item)
    units = units_of(left)
    for unit in units:
        unit["part"] = (job.parts / f"{unit['number']:06d}.parquet").uri
    return replace(job, units=units, carried=carried)


def _differences(
    recorded: Settings, asked: Settings, record: dict[str, Any], source: str, items: Sequence[Item]
) -> list[str]:
    """In words."""
    before, now = recorded.to_dict(), asked.to_dict()
    words = [
        f"{name} was {_short(before[name])}, now {_short(now[name])}"
        for name in now
        if name not in NOT_IN_PICTURES and before[name] != now[name]
    ]
    if record["facesr"] != __version__:
        words.append(f"facesr was {record['facesr']}, now {__version__}")
    if record["input"] != source and record["listing"] != listing_hash(items):
        words.append(f"INPUT was {StoragePath.of(record['input'])}")
    return words


def _short(value: Any) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) > 16 else str(value)


def _changed(items: Sequence[Item], rows: Sequence[Row]) -> str:
    before = {row["name"]: row["stamp"] for row in rows}
    new = sum(item.name not in before for item in items)
    other = sum(item.name in before and before[item.name] != item.stamp for item in items)
    gone = len(before.keys() - {item.name for item in items})
    return f"INPUT has changed since: {new} new or not done yet, {other} changed, {gone} gone; what is done is kept"


def _refuse_foreign_files(output: Output, items: Sequence[Item]) -> None:
    if not output.is_folder:
        if output.place.is_file():
            raise JobError(f"{output.place} exists already: name another OUTPUT, or `--overwrite` it")
        return
    if output.place.is_file():
        raise JobError(f"{output.place} is a file, not a folder")
    there = {name for name, _, _ in output.place.files()} if output.place.exists() else set()
    taken = sorted(there & {item.target for item in items})
    if taken:
        raise JobError(
            f"{output.place} holds files that would be replaced, {taken[0]} and {len(taken) - 1} more: name another "
            "OUTPUT, or `--overwrite` them"
        )


def _clear(output: Output) -> None:
    """Remove the work and results of a run before, and nothing else."""
    for folder in ("parts", "pictures", "incoming"):
        (output.work / folder).remove_tree()
    for name, _, _ in output.work.files(recursive=False) if output.work.exists() else ():
        if name != "lock":  # held by this very run
            (output.work / name).remove()
    if not output.manifest.is_file():
        return
    # the work folder's record is gone by now: this asks whether the manifest is ours
    if output.is_folder and read_record(output) is not None:
        for row in read_part(output.manifest):
            if row["file"] and output.kind == "folder":
                (output.place / row["file"]).remove()
        for name, _, _ in output.place.files(recursive=False):
            if output.kind == "shards" and name.startswith("pictures-") and name.endswith(".parquet"):
                (output.place / name).remove()
    output.manifest.remove()


def _part_folders(output: Output) -> list[StoragePath]:
    parts = output.work / "parts"
    names = {Path(name).parts[0] for name, _, _ in parts.files()} if parts.exists() else set()
    return [parts / name for name in sorted(names)]
