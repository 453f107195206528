"""DVC stage `evaluate`: faces, inputs and upscaled shards -> reports/metrics.json, dvc/, tables, sheets, report.html.

Run from the project's root: python -m stages.evaluate
"""

import shutil
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from pipeline.core.files import publish
from pipeline.evaluate.project import TRAINING, describe
from pipeline.evaluate.summary import count_failed, headline
from pipeline.evaluate.worker import measure_all
from pipeline.params.evaluate import Evaluate
from pipeline.report.dvc_metrics import write_figures
from pipeline.report.write import write
from pipeline.runtime.console import console
from pipeline.runtime.ray_session import prepare
from pipeline.runtime.stage import StageError, run_stage, work_folder


def main(settings: Evaluate) -> None:
    """Measure every method on every face, then write the reports."""
    # while Ray starts, the data are hashed
    with prepare(settings.address) if settings.on_ray else nullcontext():
        config, provenance = describe(settings)
        work = work_folder("evaluate", provenance["data, sha256"], asdict(config), settings.unit)
        measure_all(config, settings, work)
    summary = write(work, config, Path("reports"), provenance)
    shutil.rmtree(work / "dvc", ignore_errors=True)  # of a run that was killed
    write_figures(work / "dvc", summary, Path("data"), Path(TRAINING))
    publish(work / "dvc", Path("reports/dvc"))
    console.print(f"evaluate: {headline(summary)}; see reports/report.html or `facesr table`", markup=False)
    if count_failed(summary) > settings.max_failed:
        raise StageError(f"{count_failed(summary)} results could not be judged, max_failed: {settings.max_failed}")
    shutil.rmtree(work)


if __name__ == "__main__":
    run_stage(main, evaluate=Evaluate)
