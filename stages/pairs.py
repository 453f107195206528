"""DVC stage `pairs`: data/faces -> data/inputs/<split> (256x256) and the manifest data/pairs.parquet.

Run from the project's root: python -m stages.pairs
"""

import shutil
from pathlib import Path

from pipeline.inputs import InputWorker
from pipeline.pairs import manifest_rows
from pipeline.params import Params
from pipeline.schema import FACES, PAIRS, SPLITS
from pipeline.shards import join_parts, publish, read_columns, row_ranges, write_rows
from pipeline.stage import run_stage, work_folder
from pipeline.units import do_units

FACES_FOLDER = Path("data/faces")


def main(params: Params) -> None:
    """Reduce every face, then draw the manifest of train and valid."""
    work = work_folder("pairs", FACES_FOLDER)
    units = [
        {"stem": stem, "start": start, "stop": stop, "part": str(work / "parts" / f"{stem}-{start:07d}.parquet")}
        for stem, start, stop in row_ranges(FACES_FOLDER, "*.parquet", 64)
    ]
    do_units(
        "inputs",
        InputWorker,
        (str(FACES_FOLDER),),
        units,
        images=lambda unit: unit["stop"] - unit["start"],
        workers=params.pairs.workers,
    )
    for split in SPLITS:
        folder = work / "out" / split
        folder.mkdir(parents=True, exist_ok=True)
        for shard in sorted(FACES_FOLDER.glob(f"{split}-*.parquet")):
            join_parts(work / "parts", f"{shard.stem}-*.parquet", folder / shard.name, FACES)
        publish(folder, Path("data/inputs") / split)
    faces = [
        (row["id"], split) for split in ("train", "valid") for row in read_columns(Path("data/inputs") / split, ["id"])
    ]
    drawing = params.pairs.model_dump(exclude={"workers", "augmentations"})
    rows = manifest_rows(faces, chances=dict(params.pairs.augmentations), **drawing)
    write_rows(Path("data/pairs.parquet"), rows, PAIRS)
    shutil.rmtree(work)


if __name__ == "__main__":
    run_stage(main)
