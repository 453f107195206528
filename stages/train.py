"""DVC stage `train`: 256x256 inputs and the manifest -> models/fidelity.safetensors, models/realism.safetensors.

Run from the project's root: python -m stages.train
"""

import shutil
from pathlib import Path

from pipeline.core.files import publish_file
from pipeline.params.train import Train
from pipeline.runtime.ray_session import WorkerError
from pipeline.runtime.signals import stop_requested
from pipeline.runtime.stage import StageError, run_stage, work_folder
from pipeline.train.engine.memory import OutOfMemoryError
from pipeline.train.phases import TrainRun, dependencies, train_phases

INPUTS, MANIFEST = Path("data/inputs"), Path("data/pairs.parquet")


def main(settings: Train) -> None:
    """Train the fidelity generator, then the realism generator from it."""
    provenance = dependencies(settings, INPUTS, MANIFEST)
    work = work_folder("train", provenance)
    train = train_phases
    if settings.workers > 1 or settings.address is not None:
        from pipeline.train.ray_train import train_on_ray  # one process needs no Ray

        train = train_on_ray
    try:
        with stop_requested() as should_stop:
            results = train(TrainRun(settings, INPUTS, MANIFEST, work, provenance), should_stop)
    except (OutOfMemoryError, WorkerError) as error:
        raise StageError(f"{error}; run again to go on from the last state") from error
    if results is None:
        raise SystemExit(143)
    for name, result in results.items():
        # copied, not moved: a kill between here and the end must find everything again
        for log, target in (("log", "train"), ("speed", "speed")):
            shutil.rmtree(Path("reports") / target / name, ignore_errors=True)
            shutil.copytree(result.parent / log, Path("reports") / target / name)
        publish_file(result, Path("models") / f"{name}.safetensors")
    shutil.rmtree(work)


if __name__ == "__main__":
    run_stage(main, train=Train)
