"""DVC stage `baselines`: faces, inputs, manifest -> data/baselines/<method>/<scale>/, models/baselines/.

Run from the project's root: python -m stages.baselines
"""

import shutil
from pathlib import Path

from pipeline.baselines.methods import BaselineWorker, describe_methods, plan_baselines, write_methods
from pipeline.core.files import publish, publish_file
from pipeline.params.baselines import Baselines
from pipeline.params.train import Train
from pipeline.params.upscale import Upscale
from pipeline.runtime.console import console
from pipeline.runtime.signals import stop_requested
from pipeline.runtime.stage import StageError, run_stage, work_folder
from pipeline.runtime.units import do_units
from pipeline.upscale.measured_inputs import MeasuredInputs
from pipeline.upscale.stage import assemble

FACES, INPUTS, MANIFEST = Path("data/faces"), Path("data/inputs"), Path("data/pairs.parquet")


def main(settings: Baselines, train: Train, upscale: Upscale) -> None:
    """Train the twin, then enlarge faces with every method that params name."""
    how = {"workers", "cpus_per_worker", "gpus_per_worker", "address"}
    keys = [settings.model_dump(exclude=how), train.model_dump(), upscale.model_dump(exclude=how)]
    work = work_folder("baselines", FACES, INPUTS / "test", INPUTS / "train", MANIFEST, *settings.files, *keys)
    with stop_requested() as should_stop:
        methods = describe_methods(settings, train, upscale, FACES, MANIFEST, work, should_stop)
    if methods is None:
        raise SystemExit(143)
    units = list(plan_baselines(settings, upscale, methods, FACES, INPUTS, work))
    inputs = MeasuredInputs(str(INPUTS), str(FACES), upscale.seed)
    do_units("baselines", BaselineWorker, (inputs, methods), units, **settings.model_dump(include=how))
    failed = assemble(units, work)
    write_methods(work / "out", methods)
    if len(failed) > settings.max_failed:
        first = f"{failed[0]['method']}, {failed[0]['name']}: {failed[0]['error']}"
        raise StageError(f"{len(failed)} results failed, baselines.max_failed allows {settings.max_failed}; {first}")
    for name, method in methods.items():
        if method.reason is not None:
            console.print(f"baselines: no results of {name}: {method.reason}", style="yellow", markup=False)
    models = work / "models"
    models.mkdir(exist_ok=True)
    if "twin" in methods and methods["twin"].path is not None:
        # copied, not moved: a kill between here and the end must find everything again
        publish_file(Path(methods["twin"].path), models / "twin.safetensors")
    publish(models, Path("models/baselines"))
    publish(work / "out", Path("data/baselines"))
    shutil.rmtree(work)


if __name__ == "__main__":
    run_stage(main, baselines=Baselines, train=Train, upscale=Upscale)
