"""Enlarge any archive of pictures: plan, worker, and the output as a folder, zip, tar or Parquet file.

The plan fixes names and units up front; workers write results atomically; the manifest names every file's fate. Run
again after a kill, finished units are kept and the rest is done.
"""

import io
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from pipeline.distributed import Statistics, Unit
from pipeline.images import ImageError, decode, encode_png, lossless, pixel_hash
from pipeline.schema import IMAGE, PICTURES, UPSCALE_MANIFEST
from pipeline.shards import atomic, read_rows, shard_files, write_bytes, write_rows
from pipeline.sources import Entry, Source, SourceError, open_archive
from pipeline.upscaling import Upscaler

LARGEST_UNIT = 32
"""Pictures in a work unit, at most: what a killed worker loses. Small archives are cut finer, so that all workers have
work; the size follows from the count alone, so that a resumed job cuts as before."""

CLEAN_STEPS = 2
"""Steps of back-projection on a clean picture. The first brings nearly all of it, a third nothing. Realism has none:
agreement takes some of its texture away, and it agrees well enough."""

PART = pa.schema([*UPSCALE_MANIFEST, ("target", pa.string()), ("image", IMAGE)])


def plan(entries: Sequence[Entry], parts: Path, only_name: str | None = None) -> list[Unit]:
    """Give every entry its output name and cut the list into units.

    `a.jpg` becomes `a.png`; where two would get one name, all of them keep their suffix: `a.jpg.png`, `a.webp.png`.
    `only_name` is the name that the only picture gets instead.
    """
    stems = [PurePosixPath(entry.name).with_suffix("").as_posix() for entry in entries]
    shared = Counter(stems)
    used: set[str] = set()
    items = []
    for entry, stem in zip(entries, stems, strict=True):
        base = stem if shared[stem] == 1 else entry.name
        target, ordinal = f"{base}.png", 1
        while target in used:  # an archive may hold one name twice
            ordinal += 1
            target = f"{base}-{ordinal}.png"
        used.add(target)
        items.append([entry.name, entry.key, entry.problem, target])
    if only_name is not None:
        items[0][3] = only_name
    size = max(1, min(LARGEST_UNIT, len(items) // 16))
    starts = range(0, len(items), size)
    return [{"items": items[i : i + size], "part": str(parts / f"{i // size:06d}.parquet")} for i in starts]


class BulkWorker:
    """Columns in: entries of a source. Columns out: PART, one row per entry, good or bad.

    Args:
        source: path of the archive.
        scratch: where a compressed tar was unpacked.
        folder: output folder to write pictures into; None keeps them in the part.
        models: `fidelity`, `realism`, `share` of `Upscaler.load`.
        options: of `Upscaler`; `back_projection` None: `CLEAN_STEPS`, less with more realism, for losslessly
            stored pictures and none for others.
    """

    def __init__(
        self, source: str, scratch: str, folder: str | None, models: Mapping[str, Any], options: Mapping[str, Any]
    ):
        self.source: Source = open_archive(source, Path(scratch))
        self.folder = None if folder is None else Path(folder)
        realism = models["realism"]
        options = dict(options)
        self.back_projection = options.pop("back_projection", None)
        self.clean_steps = round(CLEAN_STEPS * (1 - models["share"]))
        self.upscaler = Upscaler.load(Path(models["fidelity"]), realism and Path(realism), models["share"], **options)

    def __call__(self, unit: Unit) -> Statistics:
        """Write the unit's pictures and its part."""
        rows = [self._row(*item) for item in unit["items"]]
        # last: the part is the mark that all of its pictures are there
        write_rows(Path(unit["part"]), rows, PART)
        return {"images": len(rows), "failed": sum(row["status"] == "failed" for row in rows)}

    def _row(self, name: str, key: Any, problem: str, target: str) -> dict[str, Any]:
        start = time.perf_counter()
        row: dict[str, Any] = {"id": None, "name": name, "status": "failed", "error": problem, "width": 0, "height": 0}
        row |= {"seconds": 0.0, "model": self.upscaler.metadata["sha256"], "target": target, "image": None}
        if problem:
            return row
        try:
            read = self.source.read(key)
            pixels = decode(read)
            # a lossy picture is no clean one: agreeing with it would draw its compression at four times the size
            steps = self.clean_steps * lossless(read) if self.back_projection is None else self.back_projection
            result = self.upscaler([pixels], steps)[0]
            data = encode_png(result)
            if self.folder is None:
                row["image"] = {"bytes": data, "path": target}
            else:
                write_bytes(self.folder / target, data)
        except (SourceError, ImageError, RuntimeError) as error:
            return row | {"error": str(error).splitlines()[0], "seconds": time.perf_counter() - start}
        size = {"width": result.shape[1], "height": result.shape[0]}
        return row | size | {"id": pixel_hash(pixels), "status": "ok", "seconds": time.perf_counter() - start}


def finish(parts: Path, output: Path, manifest: Path) -> Counter[str]:
    """Assemble the parts into `output` (nothing to do for a folder) and write the manifest; counts by status."""
    suffix = output.suffix.lower()
    if suffix in _ARCHIVES:
        with atomic(output) as temporary:
            _ARCHIVES[suffix](temporary, _pictures(parts))
    rows = [row for part in shard_files(parts) for row in read_rows(part, UPSCALE_MANIFEST.names)]
    write_rows(manifest, rows, UPSCALE_MANIFEST)
    return Counter(row["status"] for row in rows)


def is_archive(output: Path) -> bool:
    """Whether results go into one file rather than a folder."""
    return output.suffix.lower() in _ARCHIVES


def _pictures(parts: Path) -> Iterator[dict[str, Any]]:
    for part in shard_files(parts):
        yield from (row for row in read_rows(part) if row["status"] == "ok")


def _write_zip(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    # PNG is compressed already; a fixed date makes the same results the same bytes
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for row in rows:
            archive.writestr(zipfile.ZipInfo(row["target"]), row["image"]["bytes"])


def _write_tar(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with tarfile.open(path, "w") as archive:
        for row in rows:
            info = tarfile.TarInfo(row["target"])
            info.size = len(row["image"]["bytes"])
            archive.addfile(info, io.BytesIO(row["image"]["bytes"]))


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    write_rows(path, ({name: row[name] for name in PICTURES.names} for row in rows), PICTURES)


_ARCHIVES: dict[str, Callable[[Path, Iterator[dict[str, Any]]], None]] = {
    ".zip": _write_zip,
    ".tar": _write_tar,
    ".parquet": _write_parquet,
}
