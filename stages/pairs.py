"""DVC stage `pairs`: data/faces -> data/inputs/<split>, data/pairs.parquet, data/pairs.json, reports/pairs.

Run from the project's root: python -m stages.pairs
"""

import shutil
from pathlib import Path

from pipeline.pairs.run import make_pairs
from pipeline.params.pairs import Pairs
from pipeline.runtime.stage import run_stage, work_folder

FACES = Path("data/faces")


def main(settings: Pairs) -> None:
    """Reduce every face, then draw the manifest of train and valid."""
    work = work_folder("pairs", FACES)
    make_pairs(FACES, Path("data"), Path("reports/pairs"), settings, work)
    shutil.rmtree(work)


if __name__ == "__main__":
    run_stage(main, pairs=Pairs)
