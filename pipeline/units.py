"""Do the work units of a stage that are not done yet, on Ray, with a progress bar."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.distributed import Unit, Worker, WorkerError, run_units
from pipeline.progress import progress
from pipeline.stage import StageError


def do_units(
    title: str,
    build: Callable[..., Worker],
    arguments: tuple[Any, ...],
    units: Sequence[Unit],
    *,
    images: Callable[[Unit], int],
    **options: Any,
) -> None:
    """Run the units whose part does not exist yet, with a progress bar.

    Args:
        title: shown beside the bar.
        build: worker class.
        arguments: of the worker class.
        units: each with `part`, the file it leaves.
        images: pictures in a unit.
        options: of `run_units`.

    Raises:
        StageError: a worker raised; bad pictures are rows and raise nothing.
    """
    missing = [unit for unit in units if not Path(unit["part"]).exists()]
    total, left = (sum(images(unit) for unit in some) for some in (units, missing))
    failed = 0
    with progress(title, total, total - left) as advance:
        try:
            for statistics in run_units(build, arguments, missing, **options):
                failed += statistics["failed"]
                advance(statistics["images"], f"{failed} failed" if failed else "")
        except WorkerError as error:
            raise StageError(f"{title}: {error}; what was finished is kept, run again to go on") from error
