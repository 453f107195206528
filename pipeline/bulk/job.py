"""A run on record: what it makes, what of it is done, and if the same command goes on or asks first.

Beside partial work lies `job.json`: settings, engine, listing. A run that finds it goes on with the same engine.
Another model or option is never mixed in silently. An archive that has grown or changed is no such change: what is done
of it is kept, the rest is done.
"""

import os
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from pipeline.bulk.assembly import held, identity
from pipeline.bulk.listing import Listing
from pipeline.bulk.outputs import Output
from pipeline.bulk.ownership import (
    KEPT,
    archive_exists,
    archive_size,
    clear,
    read_targets,
    refuse_foreign_manifests,
    refuse_foreign_results,
    refuse_inputs,
    remove_work,
    write_targets,
)
from pipeline.bulk.plan import CUT, BulkUnit, Item, items_of, listing_hash, units_of
from pipeline.bulk.record import JobError, RowTable, RunRecord, part_rows, read_part, read_record, write_part
from pipeline.bulk.settings import Engine, Settings, absolute
from pipeline.core.schema import Row
from pipeline.pretrained.registry import find, find_optional
from pipeline.storage.path import StoragePath
from pipeline.upscale.weights import choose
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
    carried: RowTable | None = None
    """Rows of an earlier listing or run that still hold."""
    fresh: bool = True
    """True if it starts here, rather than going on with recorded work."""
    clear: bool = False
    """True if results of a run before are removed first."""
    note: str = ""
    """What is worth saying before the start."""
    finished: bool = False
    """There is nothing to do: the manifest tells of this very run."""
    found: tuple[bool, RunRecord | None] = (False, None)
    """What OUTPUT held when this was planned: a run that had not come to its end, and its record."""

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
        return self.output.work / "parts" / (self.record.parts or self.record.listing)

    @property
    def missing(self) -> list[BulkUnit]:
        """Units without a part."""
        # without a record, parts are those of a run whose end was cut short
        there = _names(self.parts) if self.output.unfinished and not self.clear else set()
        return [unit for unit in self.units if StoragePath.of(unit.part).name not in there]

    @property
    def left(self) -> list[Item]:
        """Items without a row."""
        return [item for unit in self.missing for item in unit.items]

    def outdated(self) -> bool:
        """True if OUTPUT has been written to by another run since this was planned."""
        return not self.clear and self.found != _found(self.output)

    def rows(self) -> RowTable:
        """Rows of all that is done, in the order of the archive."""
        done = part_rows(self.parts)
        return done.take(done.places("target", [item.target for item in self.items]))


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
    job = _asked(listing, settings, engine)
    if options.overwrite:
        return _planned(job, None)
    refuse_foreign_manifests(output, options.csv)
    job = replace(job, found=_found(output))
    unfinished, before = job.found
    if before is None:
        return _only_ours(_planned(job, None), ())
    if differences := _differences(before, job.record):
        if not options.resume:
            what = "an unfinished run" if unfinished else "the results of a run"
            raise JobError(f"{output.path} holds {what} with other options: {'; '.join(differences)}. {CHOICE}")
        # the names of results, too, are those of its own options
        job = replace(_asked(listing, _recorded(before.settings, settings), engine), found=job.found)
    job = replace(job, record=replace(job.record, engine=before.engine, parts=before.parts), fresh=False)
    return _go_on(job, before) if unfinished else _again(job, before)


def _found(output: Output) -> tuple[bool, RunRecord | None]:
    return output.unfinished, read_record(output)


def _asked(listing: Listing, settings: Settings, engine: Engine) -> Job:
    """The whole listing by these settings, whatever is there; OutputError where a result would lie over INPUT."""
    output = listing.output
    items = items_of(listing.entries, settings, output.path.name if output.kind == "picture" else None)
    record = RunRecord.of(__version__, listing.input, output, settings, engine, listing_hash(items), len(items))
    refuse_inputs(output, (item.target for item in items), listing.roots, listing.options.overwrite)
    return Job(output, record, items, clear=listing.options.overwrite)


def begin(job: Job) -> None:
    """Put the run on record; `overwrite` takes effect."""
    if job.clear:
        clear(job.output)
    elif not job.output.unfinished:
        remove_work(job.output, keep=KEPT)
    write_targets(job.output, (item.target for item in job.items))
    if job.carried is not None and len(job.carried):
        write_part(job.parts / CARRIED, job.carried)
    job.output.job.write_bytes(job.record.to_json(indent=2).encode())


def _go_on(job: Job, before: RunRecord) -> Job:
    """With a run that ended too early."""
    # older parts, of listings before the recorded one, tell of results that may have been replaced since
    rows = part_rows(job.output.work / "parts" / (before.parts or before.listing))
    there = _available(job.output)
    if before.listing != job.record.listing:
        job = replace(job, note=_changed(job.items, rows))
    elif before.cut == CUT and all(row["status"] != "ok" or there(row) for row in rows):
        carried = job.parts / CARRIED
        return _planned(job, read_part(carried) if carried.exists() else None)
    # cut anew, into parts of their own: those that are there number other units
    parts = f"{job.record.listing}-{secrets.token_hex(4)}"
    job = _planned(replace(job, record=replace(job.record, parts=parts)), rows)
    return _only_ours(job, read_targets(job.output))


def _again(job: Job, before: RunRecord) -> Job:
    """With a run that came to its end: what failed is tried again, what is new is done."""
    same_listing = before.listing == job.record.listing
    rows = read_part(job.output.manifest)
    rows = rows.with_column("target", rows.column("file"))
    if job.output.kind != "folder":
        size = sum(size for size, status in zip(*map(rows.column, ("bytes", "status")), strict=True) if status == "ok")
        cut = archive_exists(job.output) and archive_size(job.output) < size
        if not archive_exists(job.output) or (cut and job.output.kind == "picture"):
            return replace(_planned(job, None), fresh=True)
        if not same_listing:
            raise JobError(
                f"{job.output.path} was made of an archive that has changed since: `--overwrite` makes it anew"
            )
        if cut:
            raise JobError(f"{job.output.path} is not what was written, it was cut: `--overwrite` makes it anew")
        return replace(job, finished=True)
    note = "" if same_listing else _changed(job.items, rows)
    done = rows.where([status == "ok" for status in rows.column("status")])
    planned = _planned(replace(job, note=note), done)
    if same_listing and not planned.units:
        return replace(job, finished=True)
    return _only_ours(planned, done.column("file"))


def _available(output: Output) -> Callable[[Row], bool]:
    """What tells if the result of a row is there, as large as it was: as a file, or in an archive half assembled."""
    if output.kind == "picture":
        sizes = {output.path.name: output.path.size()} if output.path.is_file() else {}
    elif output.kind == "folder":
        sizes = {name: size for name, size, _ in output.path.files()}
    else:
        sizes = {name: size for name, size, _ in (output.work / "pictures").files()}
    moved = held(output)

    def there(row: Row) -> bool:
        name = row["target"] if output.kind == "folder" else output.result_path(row["target"]).name
        # a larger one is somebody's own by now: not ours to replace
        size = sizes.get(name, -1)
        exact = output.kind not in ("folder", "picture")
        return (size == row["bytes"] if exact else size >= row["bytes"]) or tuple(identity(row)) in moved

    return there


def _only_ours(job: Job, ours: Iterable[str] | None) -> Job:
    """The job, where it replaces no files but `ours` (None: not known)."""
    refuse_foreign_results(job.output, (item.target for item in job.left), ours, job.fresh)
    return job


def with_other_networks(settings: Settings) -> Settings:
    """Fill in where other people's networks lie, as far as the settings need them; WeightsError."""
    detector = embedding = None
    if settings.faces or settings.check:
        # to draw faces it is needed, to check results it would be good to have
        detector = (find if settings.faces else find_optional)("detector", settings.detector)
    if settings.check:
        embedding = find_optional("embedding", settings.embedding)
    return replace(settings, detector=absolute(detector), embedding=absolute(embedding))


def _recorded(before: Settings, asked: Settings) -> Settings:
    """Settings of a run before; where only names of weights are on record, those that are asked for now."""
    if before.fidelity is not None and not os.path.isabs(before.fidelity):  # noqa: PTH117
        fidelity = None if asked.fidelity is None else Path(asked.fidelity)
        chosen = choose(fidelity, None, before.realism)
        before = replace(before, fidelity=absolute(chosen[0]), realism_model=absolute(chosen[1]))
        return with_other_networks(replace(before, detector=asked.detector, embedding=asked.embedding))
    return before


def _planned(job: Job, done: RowTable | None) -> Job:
    """Cut what is not done yet into units; rows of what is done are kept beside their parts."""
    if done is None or not len(done):
        return replace(job, units=units_of(job.items, job.parts), carried=None)
    there = _available(job.output)
    done = done.where([row["status"] != "ok" or there(row) for row in done])
    identities = zip(*map(done.column, ("name", "stamp", "target")), strict=True)
    known = {identity: index for index, identity in enumerate(identities)}
    carried = done.take([known[item.identity] for item in job.items if item.identity in known])
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
    if before.input_id != now.input_id and before.listing != now.listing:
        words.append(f"INPUT was {before.input}" + (" in another folder" if before.input == now.input else ""))
    return words


def _short(value: object) -> str:
    # of several checksums each: they may differ in the second
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1…", str(value))


def _changed(items: Sequence[Item], rows: RowTable) -> str:
    before = dict(zip(rows.column("name"), rows.column("stamp"), strict=True))
    new = sum(item.name not in before for item in items)
    other = sum(item.name in before and before[item.name] != item.stamp for item in items)
    gone = len(before.keys() - {item.name for item in items})
    return f"INPUT has changed since: {new} new or not done yet, {other} changed, {gone} gone; what is done is kept"


def _names(folder: StoragePath, recursive: bool = True) -> set[str]:
    return {name for name, _, _ in folder.files(recursive)}
