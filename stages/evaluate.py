"""DVC stage `evaluate`: faces, inputs and upscaled shards -> reports/metrics.json, tables, sheets, report.html.

Run from the project's root: python -m stages.evaluate
"""

import json
import shutil
from pathlib import Path

from pipeline import weights
from pipeline.cases import EvaluationConfig
from pipeline.checkpoint import load_generator
from pipeline.evaluation import EvaluationWorker, finish, plan_units
from pipeline.params import Params
from pipeline.schema import METHODS
from pipeline.shards import content_hash
from pipeline.stage import StageError, environment, run_stage, work_folder
from pipeline.table import print_table
from pipeline.units import do_units

FOLDERS = {"faces": "data/faces", "inputs": "data/inputs", "upscaled": "data/upscaled"}
REPORTS = Path("reports")


def main(params: Params) -> None:
    """Measure every method on every face, then write the reports."""
    settings = params.evaluate
    try:
        inception = str(weights.find("inception", settings.inception))
    except weights.WeightsError:
        if settings.inception is not None:
            raise
        inception = None
    models = {name: load_generator(Path("models") / f"{name}.safetensors")[1] for name in METHODS.values()}
    config: EvaluationConfig = {
        "faces": FOLDERS["faces"],
        "inputs": FOLDERS["inputs"],
        "upscaled": FOLDERS["upscaled"],
        "methods": list(METHODS),
        "inception": inception,
        "device": "cpu",
        "sheet_faces": settings.sheet_faces,
        "synthetic": json.loads(Path("data/ingest.json").read_text())["synthetic"],
        "random_vgg": any(facts["provenance"]["vgg19"] == "random" for facts in models.values()),
    }
    work = work_folder("evaluate", *map(Path, FOLDERS.values()), inception, settings.unit)
    do_units(
        "evaluate",
        EvaluationWorker,
        (config,),
        plan_units(config, work, settings.unit),
        images=lambda unit: unit["stop"] - unit["start"],
        workers=settings.workers,
        cpus_per_worker=settings.cpus_per_worker,
        address=settings.address,
    )
    provenance = {
        "data": {name: content_hash(Path(folder)) for name, folder in FOLDERS.items()},
        "models": {name: facts["sha256"] for name, facts in models.items()},
        "training": {
            f"{name} {key}": value for name, facts in models.items() for key, value in facts["provenance"].items()
        },
        "environment": environment(),
    }
    summary = finish(work, config, REPORTS, provenance)
    print_table(summary)
    scores = [score for scales in summary.values() for methods in scales.values() for score in methods.values()]
    failed = sum(score["failed"] for score in scores)
    if failed > settings.max_failed:
        raise StageError(f"{failed} pictures could not be judged, evaluate.max_failed allows {settings.max_failed}")
    shutil.rmtree(work)


if __name__ == "__main__":
    run_stage(main)
