"""DVC stage `ingest`: sources named in params.yaml -> data/faces, data/rejected.parquet, data/ingest.json.

Run from the project's root: python -m stages.ingest
"""

from pathlib import Path

from pipeline.ingest.run import ingest, summary_text
from pipeline.params.ingest import Ingest
from pipeline.runtime.console import console
from pipeline.runtime.stage import WORK, run_stage


def main(settings: Ingest) -> None:
    """Decode and check in parallel, split, write shards."""
    counts = ingest(settings, Path("data"), WORK / "ingest")
    console.print(summary_text(counts), markup=False)


if __name__ == "__main__":
    run_stage(main, ingest=Ingest)
