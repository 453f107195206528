"""DVC stage `upscale`: data/inputs and both generators -> data/upscaled/<method>/<scale>/<split>-NNNNN.parquet.

Run from the project's root: python -m stages.upscale
"""

import shutil
from dataclasses import asdict
from itertools import product
from pathlib import Path

from pipeline.core.files import publish
from pipeline.core.scales import METHODS
from pipeline.core.schema import UPSCALED
from pipeline.core.shards import join_parts, read_columns, row_ranges
from pipeline.params.pairs import Pairs
from pipeline.params.upscale import Upscale
from pipeline.runtime.stage import StageError, run_stage, work_folder
from pipeline.runtime.units import RowUnit, do_units
from pipeline.upscale.stage import UpscaleWorker

INPUTS = Path("data/inputs")


def main(settings: Upscale, pairs: Pairs) -> None:
    """Enlarge train and test faces with both generators, at both scales."""
    models = {method: Path("models") / f"{name}.safetensors" for method, name in METHODS.items()}
    options = {name: getattr(settings, name) for name in ("tile", "precision", "back_projection")}
    folders = [INPUTS / split for split in ("train", "test") if any((INPUTS / split).glob("*.parquet"))]
    augment, limits = pairs.degradation(), settings.limits()
    work = work_folder("upscale", *models.values(), *folders, options, settings.unit, asdict(augment), limits)
    units: list[RowUnit] = []
    for folder, method, (scale, faces) in product(folders, METHODS, limits.items()):
        for stem, start, stop in row_ranges(folder, "*.parquet", settings.unit, faces.get(folder.name)):
            part = work / "parts" / method / scale / f"{stem}-{start:07d}.parquet"
            units.append(RowUnit(str(part), start, stop, stem, folder.name, method, scale))
    do_units(
        "upscale",
        UpscaleWorker,
        (str(INPUTS), {method: str(path) for method, path in models.items()}, options, augment),
        units,
        **settings.model_dump(include={"workers", "cpus_per_worker", "gpus_per_worker", "address"}),
    )
    for method, scale, stem in dict.fromkeys((unit.method, unit.scale, unit.stem) for unit in units):
        target = work / "out" / method / scale / f"{stem}.parquet"
        join_parts(work / "parts" / method / scale, f"{stem}-*.parquet", target, UPSCALED)
    # counted in the finished shards, so that a resumed run judges the parts of earlier tries too
    rows = read_columns(work / "out", ["name", "status", "error"], "**/*.parquet")
    failed = [row for row in rows if row["status"] == "failed"]
    if len(failed) > settings.max_failed:
        first = f"{failed[0]['name']}: {failed[0]['error']}"
        raise StageError(f"{len(failed)} pictures failed, upscale.max_failed allows {settings.max_failed}; {first}")
    publish(work / "out", Path("data/upscaled"))
    shutil.rmtree(work)


if __name__ == "__main__":
    run_stage(main, upscale=Upscale, pairs=Pairs)
