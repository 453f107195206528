"""DVC stage `upscale`: data/inputs and both generators -> data/upscaled/<method>/<scale>/<split>-NNNNN.parquet.

Inputs of the kind `thumbnail` are made of data/faces, which nothing else here reads.

Run from the project's root: python -m stages.upscale
"""

import shutil
from contextlib import nullcontext
from dataclasses import asdict
from itertools import product
from pathlib import Path

from pipeline.core.files import publish
from pipeline.core.scales import MEASURED_SPLITS, METHODS
from pipeline.params.pairs import Pairs
from pipeline.params.upscale import Upscale
from pipeline.runtime.ray_session import prepare
from pipeline.runtime.stage import StageError, run_stage, work_folder
from pipeline.runtime.units import do_units
from pipeline.upscale.measured_inputs import MeasuredInputs
from pipeline.upscale.stage import UpscaleWorker, assemble, plan_units

INPUTS, FACES = Path("data/inputs"), Path("data/faces")


def main(settings: Upscale, pairs: Pairs) -> None:
    """Enlarge train and test faces with both generators, at every scale that params ask for."""
    # while Ray starts, what the work depends on is read
    with prepare(settings.address) if settings.on_ray else nullcontext():
        models = {method: f"models/{name}.safetensors" for method, name in METHODS.items()}
        options = settings.model_dump(include={"tile", "precision", "back_projection"})
        splits = [split for split in MEASURED_SPLITS if any((INPUTS / split).glob("*.parquet"))]
        degradations, limits = pairs.degradation(), settings.limits()
        files = [*map(Path, models.values()), *(INPUTS / split for split in splits)]
        if settings.needs_originals:
            files.append(FACES)
        work = work_folder("upscale", *files, options, settings.unit, settings.seed, asdict(degradations), limits)
        units = [
            unit
            for split, method, (scale, faces) in product(splits, METHODS, limits.items())
            for unit in plan_units(work, INPUTS, split, method, scale, settings.unit, faces.get(split))
        ]
        how = settings.model_dump(include={"workers", "cpus_per_worker", "gpus_per_worker", "address"})
        inputs = MeasuredInputs(str(INPUTS), str(FACES), settings.seed, degradations)
        do_units("upscale", UpscaleWorker, (inputs, models, options), units, **how)
    failed = assemble(units, work)
    if len(failed) > settings.max_failed:
        first = f"{failed[0]['name']}: {failed[0]['error']}"
        raise StageError(f"{len(failed)} pictures failed, upscale.max_failed allows {settings.max_failed}; {first}")
    publish(work / "out", Path("data/upscaled"))
    shutil.rmtree(work)


if __name__ == "__main__":
    run_stage(main, upscale=Upscale, pairs=Pairs)
