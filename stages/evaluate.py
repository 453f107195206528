"""DVC stage `evaluate`: faces, inputs and upscaled shards -> reports/metrics.json, tables, sheets, report.html.

Run from the project's root: python -m stages.evaluate
"""

import json
import shutil
from pathlib import Path

from pipeline import weights
from pipeline.cases import EvaluationConfig
from pipeline.checkpoint import load_generator
from pipeline.evaluation import EvaluationWorker, count_failed, finish, headline, plan_units
from pipeline.params import Params
from pipeline.progress import console
from pipeline.schema import METHODS
from pipeline.shards import content_hash
from pipeline.stage import StageError, environment, run_stage, work_folder
from pipeline.units import do_units

FACES, INPUTS, UPSCALED = "data/faces", "data/inputs", "data/upscaled"


def main(params: Params) -> None:
    """Measure every method on every face, then write the reports."""
    settings = params.evaluate
    inception = weights.find_optional("inception", settings.inception)
    models = {name: load_generator(Path("models") / f"{name}.safetensors")[1] for name in METHODS.values()}
    config: EvaluationConfig = {
        "faces": FACES,
        "inputs": INPUTS,
        "upscaled": UPSCALED,
        "methods": list(METHODS),
        "inception": str(inception) if inception else None,
        "sheet_faces": settings.sheet_faces,
        "synthetic": json.loads(Path("data/ingest.json").read_text())["synthetic"],
        "random_vgg": any(facts["provenance"]["vgg19"] == "random" for facts in models.values()),
    }
    data = {folder: content_hash(Path(folder)) for folder in (FACES, INPUTS, UPSCALED)}
    work = work_folder("evaluate", data, config["inception"], settings.unit)
    do_units(
        "evaluate",
        EvaluationWorker,
        (config,),
        plan_units(config, work, settings.unit),
        images=lambda unit: unit["stop"] - unit["start"],
        **settings.model_dump(include={"workers", "cpus_per_worker", "address"}),
    )
    trained = {f"{name} {key}": value for name, facts in models.items() for key, value in facts["provenance"].items()}
    hashes = {f"{name} sha256": facts["sha256"] for name, facts in models.items()}
    provenance = {"data, sha256": data, "generators": hashes | trained, "environment": environment()}
    summary = finish(work, config, Path("reports"), provenance)
    console.print(f"evaluate: {headline(summary)}; see reports/report.html or `facesr table`", markup=False)
    if count_failed(summary) > settings.max_failed:
        raise StageError(f"{count_failed(summary)} results could not be judged, max_failed: {settings.max_failed}")
    shutil.rmtree(work)


if __name__ == "__main__":
    run_stage(main)
