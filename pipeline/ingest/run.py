"""Ingestion: sources to shards of checked faces, no picture in two splits, the same bytes however the work was cut.

Three steps. Workers decode, check and hash units of entries into parts, in any order; the driver, who sees all that
was found but no picture, chooses splits; workers then write the shards. Parts and shards that exist are not made again.
"""

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import FacesrError
from pipeline.core.files import content_hash, publish_shards, write_json
from pipeline.core.scales import SPLITS
from pipeline.core.schema import REJECTED, Row
from pipeline.core.shards import write_rows, write_table
from pipeline.ingest.known import (
    FORGOTTEN,
    KNOWN,
    Known,
    decoding_hash,
    entry_key,
    read_forgotten,
    read_known,
    write_known,
)
from pipeline.ingest.shard_writer import ASSIGNED, PLAN, ShardUnit, ShardWorker, plan_shards
from pipeline.ingest.split import Assignment, assign
from pipeline.ingest.worker import FORGOTTEN as FORGOTTEN_REASON
from pipeline.ingest.worker import EntryUnit, IngestWorker, candidates, in_order, open_source
from pipeline.runtime.console import progress, slow
from pipeline.runtime.ray_session import prepare
from pipeline.runtime.units import do_units
from pipeline.storage.path import StoragePath
from pipeline.version import __version__

if TYPE_CHECKING:
    from pipeline.params import ingest as params

UNIT = 32
"""Entries in a work unit: what a kill costs at most."""
RUNNING = {"workers", "address", "max_failed"}
"""Params on which no face depends."""

Counts = dict[str, Any]
"""What ingest.json holds."""


class IngestError(FacesrError):
    """The sources cannot give what params ask for."""


def ingest(settings: "params.Ingest", out: Path, work: Path) -> Counts:
    """Write `faces/{split}-NNNNN.parquet`, `rejected.parquet` and `ingest.json` into `out`, in place of those there.

    `out/known.parquet` remembers what was done. Run again with more in the sources, faces keep their splits and shards,
    and only what is new is decoded and written. What is in `out/forgotten.txt` is left out.

    Args:
        settings: the ingest params: all that the result depends on beside the sources, and how to run.
        out: folder for the results, which appear in it when all are complete.
        work: folder for partial work, emptied in the end; where there is a cluster, on a disk that all its nodes see.

    Returns:
        The counts, as written to ingest.json.

    Raises:
        SourceError: a source is missing or unreadable.
        IngestError: a source holds no pictures, none that can be used, or too many that cannot.
        WeightsError: faces are to be found, and the detector is not at hand.
        SplitError, ListError: the splits that are asked for cannot be had.
        StageError: a worker raised; what was finished is kept.
    """
    out, work = out.absolute(), work.absolute()
    scratch = work / "unpacked"
    workers, address = settings.workers, settings.address
    # while Ray starts, the archive is listed
    with prepare(address) if workers != 1 or address else nullcontext():
        forgotten = read_forgotten(out / FORGOTTEN)
        decoding = decoding_hash(settings)
        with slow("check the faces of before"):
            known = read_known(out, settings.seed, settings.shard_mb, decoding, forgotten)
        listed = plan_units(settings.sources, scratch)
        _check_counts(settings, listed, len(forgotten))
        units, earlier = _new(listed, settings, known)
        worker = (_with_absolute_paths(settings), scratch, frozenset(forgotten))
        what = [unit.entries for unit in listed], len(units), sorted(forgotten), sorted(known.splits.items())
        key = content_hash(__version__, settings.model_dump(exclude=RUNNING), *what)[:16]
        own = _work_folder(work, key, scratch)
        units = [replace(unit, part=str(own / f"parts/{index:06d}.parquet")) for index, unit in enumerate(units)]
        do_units("ingest", IngestWorker, worker, units, workers=workers, address=address)
        found = in_order(listed, [*candidates(own / "parts"), *earlier])
        counts, shards = _assign(found, settings, own, known, len(forgotten))
        done = own / "out"
        counts["files"] = sum(unit.images for unit in listed)
        if settings.max_failed is not None and counts["rejected"] > settings.max_failed:
            report = work / "rejected.parquet"
            shutil.copyfile(done / "rejected.parquet", report)
            raise IngestError(
                f"{counts['rejected']} pictures rejected, max_failed allows {settings.max_failed}; "
                f"{report} says which and why"
            )
        do_units("shards", ShardWorker, (own, counts["sources"]), shards, workers=workers, address=address)
    write_json(done / "ingest.json", counts)
    for left in (done / "faces").glob(".*.tmp"):
        left.unlink()  # by a kill
    publish_shards(done / "faces", out / "faces")
    for name in ("rejected.parquet", "ingest.json", KNOWN):
        (done / name).replace(out / name)
    shutil.rmtree(work)
    return counts


def _work_folder(work: Path, key: str, scratch: Path) -> Path:
    """The folder of this very work; those of other sources or params are removed."""
    own = work / key
    own.mkdir(parents=True, exist_ok=True)
    for folder in work.iterdir():
        if folder.is_dir() and folder not in (own, scratch):
            shutil.rmtree(folder)
    return own


def _new(units: Sequence[EntryUnit], settings: "params.Ingest", known: Known) -> tuple[list[EntryUnit], list[Row]]:
    """Units of what must be decoded, and the rows of what lies in an earlier shard already."""
    left: dict[int, list[list[Any]]] = {}
    earlier: list[Row] = []
    for unit in units:
        label = settings.sources[unit.source].label
        for entry in unit.entries:
            name, _, problem, stamp, labels = entry
            rows = None if problem else known.rows.get((label, entry_key(name, stamp) or ""))
            if rows is None:
                left.setdefault(unit.source, []).append(entry)
            else:
                earlier += (row | {"source": unit.source, "labels": labels} for row in rows)
    starts = [(number, i) for number, entries in left.items() for i in range(0, len(entries), UNIT)]
    return [EntryUnit("", number, left[number][i : i + UNIT]) for number, i in starts], earlier


def _check_counts(settings: "params.Ingest", units: Sequence[EntryUnit], missing: int) -> None:
    """Refuse to look at an archive for hours that cannot hold what is asked for."""
    if settings.align.several == "each" and settings.align.recipe != "none":
        return
    for number, source in enumerate(settings.sources):
        counts = source.splits.counts.values() if source.splits.by == "seed" else ()
        asked = sum(count for count in counts if count != "rest")
        found = sum(unit.images for unit in units if unit.source == number)
        if asked > found + missing:
            raise IngestError(f"{source.label}: {asked} faces asked for, {found} files found")


def plan_units(sources: Sequence["params.Source"], scratch: Path) -> list[EntryUnit]:
    """List the sources and cut them into units, in order.

    Raises:
        SourceError: a source is missing or unreadable.
        IngestError: a source holds no pictures.
    """
    units: list[EntryUnit] = []
    for number, source in enumerate(sources):
        with slow(f"list {source.label}"):
            entries = [[e.name, e.key, e.problem, e.stamp, e.labels] for e in open_source(source, scratch).entries()]
        if not entries:
            raise IngestError(f"{source.label}: no pictures in it")
        units += [EntryUnit("", number, entries[i : i + UNIT]) for i in range(0, len(entries), UNIT)]
    return units


def _assign(
    found: list[Row], settings: "params.Ingest", work: Path, known: Known, missing: int
) -> tuple[Counts, list[ShardUnit]]:
    """Choose splits, write `rejected.parquet` and the plan of the shards; the counts, and a unit for each shard."""
    gone = sum(row["reason"] == FORGOTTEN_REASON for row in found)
    found = [row for row in found if row["reason"] != FORGOTTEN_REASON]
    usable = [row for row in found if not row["reason"]]
    if not usable:
        reasons = "; ".join(f"{row['name']}: {row['reason']}" for row in found[:3])
        raise IngestError(f"no usable face among {len(found)} files ({reasons})")
    copies: Counter[str] = Counter()
    for row in usable:
        row["id"] = f"{row['hash']}-{copies[row['hash']]}"
        copies[row["hash"]] += 1
    with progress("compare", len(usable)) as advance:
        assignment = assign(
            usable,
            settings.sources,
            seed=settings.seed,
            near=settings.near_duplicates,
            known=known.splits,
            missing=missing,
            advance=advance,
        )
    for row, reason in zip(usable, assignment.rejections, strict=True):
        row["reason"] = reason
    if not any(assignment.splits):
        raise IngestError(f"none of {len(usable)} usable faces belongs to a split: what params say of splits fits none")
    labels = [source.label for source in settings.sources]
    rejected = [
        {"id": row.get("id") or row["hash"], "source": labels[row["source"]]} | {k: row[k] for k in ("name", "reason")}
        for row in found
        if row["reason"]
    ]
    faces = work / "out" / "faces"
    write_rows(work / "out" / "rejected.parquet", rejected, REJECTED)
    shards = plan_shards(usable, assignment, settings.shard_mb << 20, known.shards)
    assigned = pa.Table.from_pylist([row for shard in shards.values() for row in shard], schema=ASSIGNED)
    plan = work / PLAN
    if plan.exists() and not pq.read_table(plan).equals(assigned):
        # a list of splits has changed since: what was written by the old one does not count
        shutil.rmtree(faces, ignore_errors=True)
    write_table(plan, assigned)
    units = []
    for name, rows in shards.items():
        held = tuple((row["id"], row["person"]) for row in rows)
        units.append(ShardUnit(str(faces / name), name.rpartition("-")[0], len(rows), known.same(name, held)))
    write_known(
        work / "out" / KNOWN,
        usable,
        shards,
        labels,
        known,
        seed=settings.seed,
        shard_mb=settings.shard_mb,
        decoding=decoding_hash(settings),
    )
    return _counts(usable, rejected, assignment, settings) | ({"forgotten": gone} if gone else {}), units


def _counts(usable: list[Row], rejected: list[Row], assignment: Assignment, settings: "params.Ingest") -> Counts:
    """What ingest.json says."""
    drawn = Counter(assignment.splits)
    with_original = sum(row["width"] == row["height"] == settings.size for row in usable)
    converted = Counter(word for row in usable for word in row["conversion"].split(", ") if word)
    return {
        "sources": [source.label for source in settings.sources],
        "synthetic": all(source.kind == "synthetic" for source in settings.sources),
        "usable": len(usable),
        "rejected": len(rejected),
        "not_drawn": drawn[None] - sum(map(bool, assignment.rejections)),
        "with_original": with_original,
        "input_only": len(usable) - with_original,
        "splits": {split: drawn[split] for split in SPLITS},
        # what stands before the bracket is the same for all pictures with that problem
        "reasons": dict(sorted(Counter(row["reason"].split(" (")[0] for row in rejected).items())),
        "converted": dict(sorted(converted.items())),
        "sides": {str(side): count for side, count in sorted(Counter(row["width"] for row in usable).items())[:100]},
        "pixels_sha256": content_hash(sorted(row["hash"] for row in usable)),
        **assignment.counts,
    }


def summary_text(counts: Counts) -> str:
    """The counts in a few lines, as a person wants to read them."""
    splits = ", ".join(f"{count} {split}" for split, count in counts["splits"].items() if count)
    lines = [f"ingest: {counts['files']} files, {counts['usable']} usable faces: {splits or 'none drawn'}"]
    if counts["not_drawn"]:
        lines[0] += f", {counts['not_drawn']} not drawn"
    if counts["rejected"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts["reasons"].items())
        lines.append(f"rejected: {counts['rejected']} ({reasons}); rejected.parquet names them")
    copies = [f"{counts[key]} {key.replace('_', '-')}" for key in ("identical", "near_duplicates") if counts[key]]
    if copies:
        lines.append(f"{' and '.join(copies)}, each in one split with the picture that it repeats")
    if counts["listed_but_not_there"]:
        lines.append(f"{counts['listed_but_not_there']} ids of the lists belong to no usable face")
    if counts["input_only"]:
        lines.append(
            f"{counts['input_only']} of {counts['usable']} faces have no original at full size: they are inputs only, "
            "and can be judged at 64 to 256 alone"
        )
    return "\n".join(lines)


def _with_absolute_paths(settings: "params.Ingest") -> "params.Ingest":
    """The settings for workers, which on other nodes run in other folders.

    Raises:
        WeightsError: faces are to be found, and the detector is not at hand.
    """
    align = settings.align
    if align.recipe != "none":
        from pipeline.pretrained.registry import find  # only here: it brings torch

        align = align.model_copy(update={"detector": str(find("detector", align.detector).absolute())})
    sources = [
        source.model_copy(update={"path": StoragePath.of(source.path).uri}) if source.kind == "archive" else source
        for source in settings.sources
    ]
    return settings.model_copy(update={"sources": sources, "align": align})
