"""Faces to training material: the inputs, the pairs manifest, and a report of what was drawn."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.core.chain import CHAIN_COLUMNS
from pipeline.core.files import (
    atomic,
    code_hash,
    content_hash,
    file_hash,
    publish_file,
    publish_shards,
    shard_files,
    write_json,
)
from pipeline.core.scales import SPLITS
from pipeline.core.schema import PAIRS
from pipeline.core.shards import join_parts, read_folder, row_ranges, write_batches
from pipeline.pairs.inputs import InputWorker, is_made_of, made_of
from pipeline.pairs.manifest import Image, PairsError, draw_manifest
from pipeline.pairs.report import write_report
from pipeline.pairs.statistics import PairsSummary, summarise
from pipeline.params.pairs import Pairs
from pipeline.runtime.console import slow
from pipeline.runtime.units import RowUnit, do_units

_UNIT = 64
"""Faces in a work unit."""


def make_pairs(faces: Path, out: Path, reports: Path, settings: Pairs, work: Path) -> PairsSummary:
    """Reduce every face to an input and draw the manifest of train and valid.

    Writes `out/inputs/<split>/` (shards named as those of the faces), `out/pairs.parquet`, the report's files below
    `reports`, and last `out/pairs.json`. Each appears whole; run again with the same `work`, it goes on where it was.
    Inputs that are there already and were made of the very shard of faces are kept.

    Args:
        faces: folder of shards `<split>-NNNNN.parquet`.
        out: folder to write to; the shards of inputs that it holds are replaced.
        reports: folder for tables and images of what was drawn.
        settings: seed, draws, augmentations, strengths, workers.
        work: folder for partial work on these very faces.

    Returns:
        What `pairs.json` holds.

    Raises:
        NoRoomError: no node is large enough for one worker.
        PairsError: no shards, one of an unknown split, or a face that is too small for any pair.
        StageError: a worker failed.
    """
    shards = shard_files(faces)
    if not shards:
        raise PairsError(f"{faces} holds no shards of faces (train-00000.parquet …)")
    unknown = next((shard for shard in shards if _split(shard) not in SPLITS), None)
    if unknown is not None:
        raise PairsError(f"{unknown} is of no known split: expected a name like train-00000.parquet")
    code = code_hash("core", "pairs")
    hashes = {shard.stem: content_hash(code, file_hash(shard)) for shard in shards}
    with slow("check the inputs of before"):
        there = {stem for stem in hashes if is_made_of(out / "inputs" / stem.rpartition("-")[0], stem, hashes[stem])}
    units = [
        RowUnit(str(work / "parts" / f"{stem}-{start:07d}.parquet"), start, stop, stem)
        for stem, start, stop in row_ranges(faces, "*.parquet", _UNIT)
        if stem not in there
    ]
    do_units("inputs", InputWorker, (str(faces),), units, workers=settings.workers)
    for split in SPLITS:
        folder = work / "out" / split
        folder.mkdir(parents=True, exist_ok=True)
        for shard in shards:
            if _split(shard) == split:
                if shard.stem in there:
                    with atomic(folder / shard.name) as temporary:
                        shutil.copyfile(out / "inputs" / split / shard.name, temporary)
                    continue
                schema = made_of(hashes[shard.stem])
                join_parts(work / "parts", f"{shard.stem}-*.parquet", folder / shard.name, schema, sealed=True)
        publish_shards(folder, out / "inputs" / split)
    degradations = settings.degradation()
    images = (image for image in _images(out / "inputs") if image[1] != "test")
    # beside the parts first, so that a kill leaves nothing half written in `out`
    write_batches(work / "pairs.parquet", draw_manifest(images, settings.draws, degradations, settings.of_use), PAIRS)
    publish_file(work / "pairs.parquet", out / "pairs.parquet")
    sides = [(split, side) for _, split, side in _images(out / "inputs")]
    columns = ["split", "scale", "augmentation", "strength", "seed"]
    manifest = pq.read_table(out / "pairs.parquet", columns=[*columns, *CHAIN_COLUMNS])
    summary = summarise(manifest, sides, degradations.chances, degradations.chain)
    write_report(reports, summary, manifest, out / "inputs", settings)
    write_json(out / "pairs.json", summary)
    return summary


def _split(shard: Path) -> str:
    return shard.stem.rpartition("-")[0]


def _images(inputs: Path) -> Iterator[Image]:
    """Id, split and side of every input, train first, in the order of the shards."""
    for split in SPLITS:
        for row in read_folder(inputs / split, ["id", "width", "height"]):
            yield row["id"], split, min(row["width"], row["height"])
