"""DVC stage `train`: 256x256 inputs and the manifest -> models/fidelity.safetensors, models/realism.safetensors.

Run from the project's root: python -m stages.train
"""

import shutil
from contextlib import suppress
from pathlib import Path

from pipeline.batches import PairData
from pipeline.checkpoint import load_generator
from pipeline.live import LiveLog
from pipeline.params import Params
from pipeline.shards import content_hash
from pipeline.stage import run_stage, stop_requested, work_folder
from pipeline.training import Stopped, Training
from pipeline.training_config import describe_vgg, phase_config

INPUTS, MANIFEST = Path("data/inputs"), Path("data/pairs.parquet")


def main(params: Params) -> None:
    """Train the fidelity generator, then the realism generator from it."""
    settings = params.train
    depends_on = {
        "data_sha256": content_hash(INPUTS / "train", INPUTS / "valid", MANIFEST),
        "params_sha256": content_hash(settings.model_dump()),
        "vgg19": describe_vgg(settings),
    }
    work = work_folder("train", depends_on)
    data = PairData(INPUTS / "train", MANIFEST, "train")
    has_valid = any((INPUTS / "valid").glob("*.parquet"))
    valid = PairData(INPUTS / "valid", MANIFEST, "valid").pairs("64to256", settings.valid_faces) if has_valid else []
    start = None
    results = {}
    for name, phase in (("fidelity", settings.fidelity), ("realism", settings.realism)):
        folder = work / name
        results[name] = folder / "generator.safetensors"
        if not results[name].exists():
            training = Training(
                phase_config(settings, phase, {**depends_on, "phase": name}), data, valid, folder, start
            )
            with stop_requested() as asked, LiveLog(folder / "log", name, phase.steps) as log:
                with suppress(Stopped):
                    training.run(log.values, log.sample, asked)
                if asked():
                    raise SystemExit(143)
        start, _ = load_generator(results[name])
    for name, result in results.items():
        # copied, not moved: a kill between here and the end must find everything again
        shutil.rmtree(Path("reports/train") / name, ignore_errors=True)
        shutil.copytree(result.parent / "log", Path("reports/train") / name)
        target = Path("models") / f"{name}.safetensors"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(result, target)
    shutil.rmtree(work)


if __name__ == "__main__":
    run_stage(main)
