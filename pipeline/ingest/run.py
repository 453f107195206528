"""Ingestion: sources to shards of checked faces, no picture in two splits, the same bytes however the work was cut.

Three steps. Workers decode, check and hash units of entries into parts, in any order; the driver, who sees all that
was found but no picture, chooses splits; workers then write the shards. Parts and shards that exist are not made again.
"""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import FacesrError
from pipeline.core.files import content_hash, publish, write_json
from pipeline.core.scales import SPLITS
from pipeline.core.schema import REJECTED
from pipeline.core.shards import write_rows, write_table
from pipeline.ingest.shard_writer import ASSIGNED, PLAN, ShardUnit, ShardWorker, plan_shards
from pipeline.ingest.split import Assignment, assign
from pipeline.ingest.worker import EntryUnit, IngestWorker, candidates, described, label, labels
from pipeline.runtime.console import progress
from pipeline.runtime.ray_session import prepare
from pipeline.runtime.units import do_units
from pipeline.sources.open import open_source
from pipeline.storage.path import StoragePath
from pipeline.version import __version__

UNIT = 32
"""Entries in a work unit: what a kill costs at most."""


class IngestError(FacesrError):
    """The sources cannot give what params ask for."""


def ingest(
    config: Mapping[str, Any],
    out: Path,
    work: Path,
    *,
    max_failed: int | None = None,
    workers: int | None = None,
    address: str | None = None,
) -> dict[str, Any]:
    """Write `faces/{split}-NNNNN.parquet`, `rejected.parquet` and `ingest.json` into `out`, replacing what is there.

    Args:
        config: the ingest params: all that the result depends on beside the sources.
        out: folder for the results, which appear in it when all are complete.
        work: folder for partial work, emptied in the end; where there is a cluster, on a disk that all its nodes see.
        max_failed: rejected pictures with which it still succeeds; None: any number.
        workers: of Ray, one per core by default; 1 runs without Ray.
        address: of a Ray cluster; None starts a local Ray.

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
    with ExitStack() as stack:
        # while Ray starts, the archive is listed
        stack.enter_context(prepare(address) if workers != 1 or address else nullcontext())
        units = plan(config["sources"], scratch)
        _enough(config, units)
        read = (_anywhere(config), str(scratch))
        mine = _work_on(work, content_hash(__version__, config, [unit.entries for unit in units])[:16], scratch)
        parts, done = mine / "parts", mine / "out"
        units = [replace(unit, part=str(parts / f"{index:06d}.parquet")) for index, unit in enumerate(units)]
        options: dict[str, Any] = {"workers": workers, "address": address}
        do_units("ingest", IngestWorker, read, units, **options)
        counts, shards = _assign(candidates(parts), config, done, mine)
        counts["files"] = sum(unit.images for unit in units)
        if max_failed is not None and counts["rejected"] > max_failed:
            report = work / "rejected.parquet"
            shutil.copyfile(done / "rejected.parquet", report)
            raise IngestError(
                f"{counts['rejected']} pictures rejected, max_failed allows {max_failed}; {report} says which and why"
            )
        write = (str(mine), labels(config))
        do_units("shards", ShardWorker, write, shards, **options)
    write_json(done / "ingest.json", counts)
    for left in (done / "faces").glob(".*.tmp"):
        left.unlink()  # by a kill
    publish(done / "faces", out / "faces")
    for name in ("rejected.parquet", "ingest.json"):
        (done / name).replace(out / name)
    shutil.rmtree(work)
    return counts


def _work_on(work: Path, key: str, scratch: Path) -> Path:
    """The folder of this very work; those of other sources or params are removed."""
    mine = work / key
    mine.mkdir(parents=True, exist_ok=True)
    for other in work.iterdir():
        if other.is_dir() and other not in (mine, scratch):
            shutil.rmtree(other)
    return mine


def _enough(config: Mapping[str, Any], units: Sequence[EntryUnit]) -> None:
    """Refuse to look at an archive for hours that cannot hold what is asked for."""
    if config["align"]["several"] == "each" and config["align"]["recipe"] != "none":
        return
    for number, description in enumerate(config["sources"]):
        asked = sum(count for split in SPLITS if isinstance(count := description["splits"].get(split), int))
        found = sum(unit.images for unit in units if unit.source == number)
        if asked > found:
            raise IngestError(f"{label(description)}: {asked} faces asked for, {found} files found")


def plan(sources: Sequence[Mapping[str, Any]], scratch: Path) -> list[EntryUnit]:
    """List the sources and cut them into units, in order.

    Raises:
        SourceError: a source is missing or unreadable.
        IngestError: a source holds no pictures.
    """
    units: list[EntryUnit] = []
    for number, description in enumerate(sources):
        source = open_source(described(description), scratch)
        entries = [[e.name, e.key, e.problem, e.stamp, e.labels] for e in source.entries()]
        if not entries:
            raise IngestError(f"{label(description)}: no pictures in it")
        units += [EntryUnit("", number, entries[i : i + UNIT]) for i in range(0, len(entries), UNIT)]
    return units


def _assign(
    found: list[dict[str, Any]], config: Mapping[str, Any], out: Path, work: Path
) -> tuple[dict[str, Any], list[ShardUnit]]:
    """Choose splits, write `rejected.parquet` and the plan of the shards; the counts, and a unit for each shard."""
    usable = [row for row in found if not row["reason"]]
    if not usable:
        reasons = "; ".join(f"{row['name']}: {row['reason']}" for row in found[:3])
        raise IngestError(f"no usable face among {len(found)} files ({reasons})")
    copies: Counter[str] = Counter()
    for row in usable:
        row["id"] = f"{row['hash']}-{copies[row['hash']]}"
        copies[row["hash"]] += 1
    near = config["near_duplicates"]
    with progress("compare", len(usable)) as advance:
        answer = assign(
            usable,
            config["sources"],
            seed=config["seed"],
            near=near,
            label=label,
            advance=lambda count: advance(count),
        )
    for row, reason in zip(usable, answer.refusals, strict=True):
        row["reason"] = reason
    if not any(answer.splits):
        raise IngestError(f"none of {len(usable)} usable faces belongs to a split: what params say of splits fits none")
    names = labels(config)
    rejected = [
        {
            "id": row.get("id") or row["hash"],
            "name": row["name"],
            "source": names[row["source"]],
            "reason": row["reason"],
        }
        for row in found
        if row["reason"]
    ]
    write_rows(out / "rejected.parquet", rejected, REJECTED)
    shards = plan_shards(usable, answer, config["shard_mb"] << 20)
    assigned = pa.Table.from_pylist([row for shard in shards.values() for row in shard], schema=ASSIGNED)
    plan_of_shards = work / PLAN
    if plan_of_shards.exists() and not pq.read_table(plan_of_shards).equals(assigned):
        # a list of splits has changed since: what was written by the old one does not count
        shutil.rmtree(out / "faces", ignore_errors=True)
    write_table(plan_of_shards, assigned)
    units = [ShardUnit(str(out / "faces" / name), name.rpartition("-")[0], len(rows)) for name, rows in shards.items()]
    return _counts(usable, rejected, answer, config), units


def _counts(
    usable: list[dict[str, Any]],
    rejected: list[dict[str, Any]],
    answer: Assignment,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """What ingest.json says."""
    drawn = Counter(answer.splits)
    with_original = sum(row["width"] == row["height"] == config["size"] for row in usable)
    converted = Counter(word for row in usable for word in row["conversion"].split(", ") if word)
    return {
        "sources": labels(config),
        "synthetic": all(description["kind"] == "synthetic" for description in config["sources"]),
        "usable": len(usable),
        "rejected": len(rejected),
        "not_drawn": drawn[""] - sum(map(bool, answer.refusals)),
        "with_original": with_original,
        "input_only": len(usable) - with_original,
        "splits": {split: drawn[split] for split in SPLITS},
        "reasons": dict(sorted(Counter(_kind(row["reason"]) for row in rejected).items())),
        "converted": dict(sorted(converted.items())),
        "sides": {str(side): count for side, count in sorted(Counter(row["width"] for row in usable).items())[:100]},
        "pixels_sha256": content_hash(sorted(row["hash"] for row in usable)),
        **answer.counts,
    }


def told(counts: Mapping[str, Any]) -> str:
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


def _anywhere(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with absolute paths: workers on other nodes run in other folders.

    Raises:
        WeightsError: faces are to be found, and the detector is not at hand.
    """
    align = dict(config["align"])
    if align["recipe"] != "none":
        from pipeline.pretrained.registry import find

        align["detector"] = str(find("detector", align["detector"]).absolute())
    sources = [
        {**source, "path": StoragePath.of(source["path"]).uri} if source["kind"] == "archive" else source
        for source in config["sources"]
    ]
    return {**config, "sources": sources, "align": align}


def _kind(reason: str) -> str:
    """The part of a reason that is the same for all pictures with that problem."""
    return reason.split(" (")[0]
