"""DVC stage `ingest`: sources named in params.yaml -> data/faces, data/rejected.parquet, data/ingest.json.

Run from the project's root: python -m stages.ingest
"""

import shutil
from pathlib import Path

from pipeline.ingest import IngestWorker, assemble, plan
from pipeline.params import Params
from pipeline.progress import console
from pipeline.shards import publish
from pipeline.stage import WORK, StageError, run_stage, work_folder
from pipeline.units import do_units


def main(params: Params) -> None:
    """Decode and check in parallel, then split."""
    config = params.ingest.model_dump(exclude={"workers", "max_failed"})
    scratch = WORK / "unpacked"
    units = plan(config["sources"], scratch)
    work = work_folder("ingest", config, [unit["entries"] for unit in units])
    for index, unit in enumerate(units):
        unit["part"] = str(work / "parts" / f"{index:06d}.parquet")
    do_units(
        "ingest",
        IngestWorker,
        (config, str(scratch)),
        units,
        images=lambda unit: len(unit["entries"]),
        workers=params.ingest.workers,
    )
    counts = assemble(work / "parts", config, work / "out")
    console.print(f"ingest: {counts['splits']}, {counts['rejected']} rejected {counts['reasons'] or ''}")
    if counts["rejected"] > params.ingest.max_failed:
        report = WORK / "rejected.parquet"
        shutil.copyfile(work / "out" / "rejected.parquet", report)
        allowed = params.ingest.max_failed
        raise StageError(f"{counts['rejected']} pictures rejected, ingest.max_failed allows {allowed}; see {report}")
    publish(work / "out" / "faces", Path("data/faces"))
    for name in ("rejected.parquet", "ingest.json"):
        (work / "out" / name).replace(Path("data") / name)
    shutil.rmtree(work)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    run_stage(main)
