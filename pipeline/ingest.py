"""Ingestion: sources to shards of checked faces, no picture in two splits, the same bytes however the work was cut.

Three steps. Workers decode, check and hash units of entries into parts, in any order; the driver, who sees all that
was found but no picture, chooses splits; workers then write the shards. Parts and shards that exist are not made again.
"""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import __version__
from pipeline.acceptance import Aligner, accept
from pipeline.distributed import Statistics, Unit, prepare
from pipeline.images import ImageError
from pipeline.membership import columns as asked_columns
from pipeline.progress import progress
from pipeline.schema import FACES, IMAGE, REJECTED, SPLITS
from pipeline.shards import (
    content_hash,
    publish,
    read_columns,
    row_groups,
    shard_files,
    write_json,
    write_row_groups,
    write_rows,
    write_table,
)
from pipeline.sources import Source, SourceError, open_source
from pipeline.splitting import Assignment, assign
from pipeline.storage import Place
from pipeline.units import do_units

UNIT = 32
"""Entries in a work unit: what a kill costs at most."""

CANDIDATES = pa.schema(
    [
        ("hash", pa.string()),  # of the pixels; null where nothing could be decoded
        ("image", IMAGE),
        ("name", pa.string()),
        ("source", pa.int32()),  # number of the source in params
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("conversion", pa.string()),
        ("transform", pa.string()),
        ("fingerprint", pa.binary()),
        ("labels", pa.string()),  # JSON: what columns of the source say of it
        ("bytes", pa.int64()),  # of the encoded picture
        ("reason", pa.string()),  # empty where accepted
    ]
)
_LIGHT = [name for name in CANDIDATES.names if name != "image"]

ASSIGNED = pa.schema(
    [
        ("shard", pa.string()),
        ("part", pa.string()),
        ("row", pa.int32()),  # in the part
        ("id", pa.string()),
        ("person", pa.string()),
        ("bytes", pa.int64()),
    ]
)


class IngestError(ValueError):
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
        mine = _work_on(work, content_hash(__version__, config, [unit["entries"] for unit in units])[:16], scratch)
        parts, done = mine / "parts", mine / "out"
        for index, unit in enumerate(units):
            unit["part"] = str(parts / f"{index:06d}.parquet")
        options: dict[str, Any] = {"workers": workers, "address": address}
        read = (_anywhere(config), str(scratch))
        do_units("ingest", IngestWorker, read, units, images=lambda unit: len(unit["entries"]), **options)
        counts, shards = _assign(_candidates(parts), config, done, mine)
        counts["files"] = sum(len(unit["entries"]) for unit in units)
        if max_failed is not None and counts["rejected"] > max_failed:
            report = work / "rejected.parquet"
            shutil.copyfile(done / "rejected.parquet", report)
            raise IngestError(
                f"{counts['rejected']} pictures rejected, max_failed allows {max_failed}; {report} says which and why"
            )
        write = (str(mine), _labels(config))
        do_units("shards", ShardWorker, write, shards, images=lambda unit: unit["faces"], **options)
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


def _enough(config: Mapping[str, Any], units: Sequence[Unit]) -> None:
    """Refuse to look at an archive for hours that cannot hold what is asked for."""
    if config["align"]["several"] == "each" and config["align"]["recipe"] != "none":
        return
    for number, description in enumerate(config["sources"]):
        asked = sum(count for split in SPLITS if isinstance(count := description["splits"].get(split), int))
        found = sum(len(unit["entries"]) for unit in units if unit["source"] == number)
        if asked > found:
            raise IngestError(f"{_label(description)}: {asked} faces asked for, {found} files found")


def plan(sources: Sequence[Mapping[str, Any]], scratch: Path) -> list[Unit]:
    """List the sources and cut them into units, in order.

    Raises:
        SourceError: a source is missing or unreadable.
        IngestError: a source holds no pictures.
    """
    units: list[Unit] = []
    for number, description in enumerate(sources):
        source = open_source(_described(description), scratch)
        entries = [[e.name, e.key, e.problem, e.stamp, e.labels] for e in source.entries()]
        if not entries:
            raise IngestError(f"{_label(description)}: no pictures in it")
        units += [{"source": number, "entries": entries[i : i + UNIT]} for i in range(0, len(entries), UNIT)]
    return units


class IngestWorker:
    """Columns in: entries of a source. Columns out: CANDIDATES, a row per face found, and per entry without one."""

    def __init__(self, config: Mapping[str, Any], scratch: str):
        self.config, self.scratch = config, Path(scratch)
        self.sources: dict[int, Source] = {}
        self.aligner = _aligner(config)

    def __call__(self, unit: Unit) -> Statistics:
        """Write the unit's part; an entry that cannot be used becomes a row with its reason."""
        number = unit["source"]
        if number not in self.sources:
            self.sources[number] = open_source(_described(self.config["sources"][number]), self.scratch)
        rows = [row for entry in unit["entries"] for row in self._rows(number, *entry)]
        write_rows(Path(unit["part"]), rows, CANDIDATES)
        failed = {row["name"] for row in rows if row["reason"]}
        return {"images": len(unit["entries"]), "failed": len(failed)}

    def _rows(
        self, number: int, name: str, key: Any, problem: str, stamp: Any, labels: dict[str, str]
    ) -> list[dict[str, Any]]:
        row: dict[str, Any] = dict.fromkeys(CANDIDATES.names) | {"name": name, "source": number, "reason": problem}
        row |= {"width": 0, "height": 0, "bytes": 0, "conversion": "", "labels": json.dumps(labels, sort_keys=True)}
        if problem:
            return [row]
        try:
            faces = accept(self.sources[number].read(key), self.config, self.aligner)
        except (SourceError, ImageError) as error:
            return [row | {"reason": str(error)}]
        rows = []
        for place, face in enumerate(faces):
            own = name if len(faces) == 1 else f"{name}#{place + 1}"
            height, width = face.pixels.shape[:2]
            facts = {"hash": face.hash, "fingerprint": face.fingerprint, "width": width, "height": height, "name": own}
            picture = {"image": {"bytes": face.data, "path": own}, "bytes": len(face.data)}
            rows.append(row | facts | picture | {"conversion": face.conversion, "transform": face.transform})
        return rows


class ShardWorker:
    """Columns in: CANDIDATES and ASSIGNED. Columns out: FACES, the faces of one shard in source order."""

    def __init__(self, work: str, labels: list[str]):
        self.work, self.labels = Path(work), labels

    def __call__(self, unit: Unit) -> Statistics:
        """Write the unit's shard."""
        table = pq.read_table(self.work / "assigned.parquet", filters=[("shard", "==", unit["shard"])])
        sizes = table["bytes"].to_pylist()
        write_row_groups(Path(unit["part"]), FACES, row_groups(sizes), self._tables(table, unit["split"]))
        return {"images": table.num_rows, "failed": 0}

    def _tables(self, assigned: pa.Table, split: str) -> Any:
        """The rows of each part that go into the shard, as FACES."""
        by_part: dict[str, list[dict[str, Any]]] = {}
        for row in assigned.to_pylist():
            by_part.setdefault(row["part"], []).append(row)
        kept = ["image", "name", "source", "conversion", "transform", "width", "height"]
        for part, rows in by_part.items():
            # not read_table, which reads ahead
            with pq.ParquetFile(self.work / "parts" / part) as file:
                table = file.read(kept, use_threads=False).take([row["row"] for row in rows])
            columns = {name: table[name] for name in kept}
            columns["source"] = pa.array([self.labels[number] for number in table["source"].to_pylist()])
            columns["id"] = pa.array([row["id"] for row in rows], pa.string())
            columns["person"] = pa.array([row["person"] for row in rows], pa.string())
            columns["split"] = pa.array([split] * len(rows), pa.string())
            yield pa.table([columns[name] for name in FACES.names], schema=FACES)


def _candidates(parts: Path) -> list[dict[str, Any]]:
    """All that was found, without the pictures, each with its part and its row in it."""
    found = []
    for part in shard_files(parts, "0*.parquet"):
        for index, row in enumerate(read_columns(parts, _LIGHT, part.name)):
            found.append(row | {"part": part.name, "row": index, "labels": json.loads(row["labels"])})
    return found


def _assign(
    found: list[dict[str, Any]], config: Mapping[str, Any], out: Path, work: Path
) -> tuple[dict[str, Any], list[Unit]]:
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
            label=_label,
            advance=lambda count: advance(count),
        )
    for row, reason in zip(usable, answer.refusals, strict=True):
        row["reason"] = reason
    labels = _labels(config)
    rejected = [
        {
            "id": row.get("id") or row["hash"],
            "name": row["name"],
            "source": labels[row["source"]],
            "reason": row["reason"],
        }
        for row in found
        if row["reason"]
    ]
    write_rows(out / "rejected.parquet", rejected, REJECTED)
    shards = _shards(usable, answer, config["shard_mb"] << 20)
    assigned = pa.Table.from_pylist([row for shard in shards.values() for row in shard], schema=ASSIGNED)
    plan_of_shards = work / "assigned.parquet"
    if plan_of_shards.exists() and not pq.read_table(plan_of_shards).equals(assigned):
        # a list of splits has changed since: what was written by the old one does not count
        shutil.rmtree(out / "faces", ignore_errors=True)
    write_table(plan_of_shards, assigned)
    units = [
        {"shard": name, "split": name.rpartition("-")[0], "faces": len(rows), "part": str(out / "faces" / name)}
        for name, rows in shards.items()
    ]
    return _counts(usable, rejected, answer, config), units


def _shards(usable: list[dict[str, Any]], answer: Assignment, limit: int) -> dict[str, list[dict[str, Any]]]:
    """Name of each shard -> its rows, as ASSIGNED; a shard is closed where the next picture would not fit."""
    shards: dict[str, list[dict[str, Any]]] = {}
    number, size = dict.fromkeys(SPLITS, 0), dict.fromkeys(SPLITS, 0)
    for row, split, person in zip(usable, answer.splits, answer.persons, strict=True):
        if not split:
            continue
        if size[split] and size[split] + row["bytes"] > limit:
            number[split], size[split] = number[split] + 1, 0
        size[split] += row["bytes"]
        name = f"{split}-{number[split]:05d}.parquet"
        place = {"shard": name, "part": row["part"], "row": row["row"], "bytes": row["bytes"]}
        shards.setdefault(name, []).append(place | {"id": row["id"], "person": person})
    return shards


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
        "sources": _labels(config),
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


def _aligner(config: Mapping[str, Any]) -> Aligner | None:
    return None


def _anywhere(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with absolute paths: workers on other nodes run in other folders."""
    sources = [
        {**source, "path": Place.of(source["path"]).uri} if source["kind"] == "archive" else source
        for source in config["sources"]
    ]
    return {**config, "sources": sources}


def _described(source: Mapping[str, Any]) -> dict[str, Any]:
    """A source as `open_source` takes it."""
    return {**source, "columns": asked_columns(source)}


def _labels(config: Mapping[str, Any]) -> list[str]:
    return [_label(description) for description in config["sources"]]


def _label(description: Mapping[str, Any]) -> str:
    if description["kind"] == "synthetic":
        return f"synthetic (seed {description['seed']})"
    return str(description["path"])


def _kind(reason: str) -> str:
    """The part of a reason that is the same for all pictures with that problem."""
    return reason.split(" (")[0]
