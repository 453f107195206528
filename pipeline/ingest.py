"""Ingestion: sources to shards of checked faces, split by seed so that no picture is in two splits.

Two passes. Workers decode, check and hash units of entries into parts (resumable, in any order); then the parts are
streamed once, in source order, into the shards of their splits.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.distributed import Statistics, Unit
from pipeline.images import ImageError, Pixels, decode, encode_png, pixel_hash, resize
from pipeline.schema import FACES, IMAGE, REJECTED, SPLITS
from pipeline.shards import ShardWriter, content_hash, read_columns, read_rows, shard_files, write_json, write_rows
from pipeline.sources import Source, SourceError, open_source

UNIT = 32
"""Entries in a work unit."""

CANDIDATES = pa.schema(
    [
        ("hash", pa.string()),  # of the pixels; null where nothing could be decoded
        ("image", IMAGE),
        ("name", pa.string()),
        ("source", pa.int32()),  # number of the source in params
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("reason", pa.string()),  # empty where accepted
    ]
)


class IngestError(ValueError):
    """The sources cannot give what params ask for."""


def plan(sources: Sequence[Mapping[str, Any]], scratch: Path) -> list[Unit]:
    """List the sources and cut them into units, in order.

    Raises:
        SourceError: a source is missing or unreadable.
        IngestError: a source holds no pictures.
    """
    units: list[Unit] = []
    for number, description in enumerate(sources):
        entries = [[e.name, e.key, e.problem, e.stamp] for e in open_source(description, scratch).entries()]
        if not entries:
            raise IngestError(f"{_label(description)}: no pictures in it")
        units += [{"source": number, "entries": entries[i : i + UNIT]} for i in range(0, len(entries), UNIT)]
    return units


class IngestWorker:
    """Columns in: entries of a source. Columns out: CANDIDATES, one row per entry, good or bad."""

    def __init__(self, config: Mapping[str, Any], scratch: str):
        self.config, self.scratch = config, Path(scratch)
        self.sources: dict[int, Source] = {}

    def __call__(self, unit: Unit) -> Statistics:
        """Write the unit's part; an entry that cannot be used becomes a row with its reason."""
        number = unit["source"]
        if number not in self.sources:
            self.sources[number] = open_source(self.config["sources"][number], self.scratch)
        rows = [self._row(number, *entry) for entry in unit["entries"]]
        write_rows(Path(unit["part"]), rows, CANDIDATES)
        return {"images": len(rows), "failed": sum(bool(row["reason"]) for row in rows)}

    def _row(self, number: int, name: str, key: Any, problem: str, stamp: Any) -> dict[str, Any]:
        row: dict[str, Any] = {"hash": None, "image": None, "name": name, "source": number, "width": 0, "height": 0}
        if problem:
            return row | {"reason": problem}
        try:
            data = self.sources[number].read(key)
            pixels = decode(data, self.config["max_pixels"])
            row |= {"hash": pixel_hash(pixels), "width": pixels.shape[1], "height": pixels.shape[0]}
            accepted = check(pixels, self.config)
        except (SourceError, ImageError) as error:
            return row | {"reason": str(error)}
        if accepted is not pixels or _needs_conversion(data, pixels):
            data = encode_png(accepted)
            row |= {"hash": pixel_hash(accepted), "width": accepted.shape[1], "height": accepted.shape[0]}
        return row | {"image": {"bytes": data, "path": name}, "reason": ""}


def check(pixels: Pixels, config: Mapping[str, Any]) -> Pixels:
    """Accept a face, cropped or reduced where params say so; the same array where it is taken as it is.

    Args:
        pixels: uint8 (h, w, 3).
        config: `not_square`, `min_size`, `size` of the ingest params.

    Raises:
        ImageError: too small, or not square and not to be cropped.
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    if height != width:
        if config["not_square"] == "reject":
            raise ImageError(f"not square ({width}x{height}); not_square: crop would take the centre")
        top, left = (height - side) // 2, (width - side) // 2
        pixels = pixels[top : top + side, left : left + side]
    if side < config["min_size"]:
        raise ImageError(f"too small ({width}x{height}, at least {config['min_size']} are needed)")
    return resize(pixels, config["size"], config["size"]) if side > config["size"] else pixels


def _needs_conversion(data: bytes, pixels: Pixels) -> bool:
    """Whether a plain decoder would see other pixels than ours (EXIF turn, greyscale, alpha, 16 bit, palette …)."""
    import io

    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        try:
            return image.mode != "RGB" or image.size != (pixels.shape[1], pixels.shape[0]) or 274 in image.getexif()
        except Exception:  # unreadable EXIF (Pillow raises SyntaxError, struct.error …): better not passed on
            return True


def assemble(parts: Path, config: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Stream finished parts into `out`: `faces/{split}-NNNNN.parquet`, `rejected.parquet`, `ingest.json`.

    Returns:
        The counts, as written to ingest.json.

    Raises:
        IngestError: fewer usable faces than the splits ask for (both counts are said).
    """
    light = read_columns(parts, ["hash", "name", "source", "width", "height", "reason"])
    usable = [row for row in light if not row["reason"]]
    if not usable:
        reasons = "; ".join(f"{row['name']}: {row['reason']}" for row in light[:3])
        raise IngestError(f"no usable face among {len(light)} files ({reasons})")
    splits = assign_splits([(row["hash"], row["source"]) for row in usable], config["sources"], config["seed"])
    labels = [_label(description) for description in config["sources"]]
    copies: Counter[str] = Counter()
    rejected: list[dict[str, Any]] = []
    limit = config["shard_mb"] << 20
    writers = {
        split: ShardWriter(out / "faces", lambda index, split=split: f"{split}-{index:05d}.parquet", FACES, limit)  # type: ignore[misc]
        for split in sorted({split for split in splits if split in SPLITS})
    }
    answers = iter(splits)
    with ExitStack() as stack:
        for writer in writers.values():
            stack.enter_context(writer)
        for part in shard_files(parts):
            for row in read_rows(part):
                facts = {"name": row["name"], "source": labels[row["source"]]}
                if row["reason"]:
                    rejected.append({"id": row["hash"], "reason": row["reason"], **facts})
                    continue
                ordinal = copies[row["hash"]]
                copies[row["hash"]] += 1
                identity = f"{row['hash']}-{ordinal}"
                split = next(answers)
                if split in writers:
                    size = {"width": row["width"], "height": row["height"]}
                    writers[split].add({"id": identity, "image": row["image"], "split": split, **size, **facts})
                elif split:
                    rejected.append({"id": identity, "reason": split, **facts})
    write_rows(out / "rejected.parquet", rejected, REJECTED)
    counts = {
        "sources": labels,
        "synthetic": all(description["kind"] == "synthetic" for description in config["sources"]),
        "files": len(light),
        "usable": len(usable),
        "rejected": len(rejected),
        "not_drawn": splits.count(""),
        "identical": sum(count - 1 for count in copies.values()),
        "with_original": sum(row["width"] == row["height"] == config["size"] for row in usable),
        "splits": {split: splits.count(split) for split in SPLITS},
        "reasons": dict(Counter(_kind(row["reason"]) for row in rejected)),
        "pixels_sha256": content_hash(sorted(row["hash"] for row in usable)),
    }
    write_json(out / "ingest.json", counts)
    return counts


def assign_splits(faces: Sequence[tuple[str, int]], sources: Sequence[Mapping[str, Any]], seed: int) -> list[str]:
    """The split of each face; identical pictures always share one.

    Within a source the order is that of sha256(seed, pixel hash): it depends neither on names nor on the order of
    files. A group of identical pictures goes to the first split that still has room for all of it.

    Args:
        faces: (pixel hash, number of the source).
        sources: with `splits`: {split: count or "rest"}.
        seed: of the order.

    Returns:
        For each face a split, "" where no split asked for it, or the reason why it must not be used.

    Raises:
        IngestError: a source has fewer faces than its splits ask for.
    """
    placed: dict[str, str] = {}
    answers = [""] * len(faces)
    for number, description in enumerate(sources):
        groups: dict[str, list[int]] = {}
        for index, (digest, source) in enumerate(faces):
            if source == number:
                groups.setdefault(digest, []).append(index)
        wanted = {split: count for split, count in description["splits"].items() if count}
        room = {split: count for split, count in wanted.items() if count != "rest"}
        rest = next((split for split, count in wanted.items() if count == "rest"), "")
        # larger groups first: single faces fit anywhere
        drawn = sorted(groups, key=lambda value: hashlib.sha256(f"{seed}:{value}".encode()).digest())
        for digest in sorted(drawn, key=lambda value: -len(groups[value])):
            indices = groups[digest]
            if digest in placed:
                # already decided by an earlier source: the same split or none
                same = placed[digest] if placed[digest] in wanted else ""
                reason = f"identical to a picture of split {placed[digest]}, which this source does not feed"
                for index in indices:
                    answers[index] = same or reason
                continue
            split = next((name for name in room if room[name] >= len(indices)), rest)
            if split:
                placed[digest] = split
                if split in room:
                    room[split] -= len(indices)
            for index in indices:
                answers[index] = split
        short = {split: count for split, count in room.items() if count}
        if short:
            asked = sum(count for count in wanted.values() if count != "rest")
            found = sum(len(indices) for indices in groups.values())
            raise IngestError(
                f"{_label(description)}: {asked} faces asked for, {found} usable ones found; short by {short}"
            )
    return answers


def _label(description: Mapping[str, Any]) -> str:
    if description["kind"] == "synthetic":
        return f"synthetic (seed {description['seed']})"
    return str(description["path"])


def _kind(reason: str) -> str:
    """The part of a reason that is the same for all pictures with that problem."""
    return reason.split(" (")[0]
