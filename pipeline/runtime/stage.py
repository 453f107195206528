"""What every DVC stage shares: exit codes, signals, partial work, provenance.

Partial work lies in `work/<stage>/<key>/`, ignored by git and DVC, because DVC deletes a stage's outs before it runs;
the key is the hash of all that the work depends on. Finished work moves into the outs.
"""

import platform
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from pipeline.core.files import content_hash
from pipeline.params.base import Section
from pipeline.params.read import ParamsError, read_sections
from pipeline.runtime.console import console
from pipeline.version import __version__

WORK = Path("work")


class StageError(Exception):
    """A stage cannot complete; the message says why and what to do."""


def run_stage(main: Callable[..., None], **sections: type[Section]) -> NoReturn:
    """Read a stage's sections of params.yaml, run `main` with them and exit.

    Exit codes: 0 complete, 1 not complete, 2 params unusable, 143 after SIGTERM.

    Args:
        main: of the stage; gets the sections in their order.
        sections: class of each section that the stage depends on, by its name.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        main(*read_sections(sections).values())
    except ParamsError as error:
        console.print(str(error), style="red", markup=False)
        sys.exit(2)
    except (StageError, ValueError, OSError, ArithmeticError) as error:
        console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        sys.exit(1)
    sys.exit(0)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Finished units are on disk already; leaving through an exception lets Ray shut down."""
    sys.exit(128 + number)


def work_folder(stage: str, *depends_on: Path | Any, root: Path = WORK) -> Path:
    """The folder of this very work; those of other inputs or params of the stage are removed."""
    folder = root / stage / content_hash(__version__, *depends_on)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other)
    return folder


def environment() -> dict[str, str]:
    """Versions and hardware, for provenance."""
    import torch

    names = ("torch", "numpy", "pillow", "pyarrow", "ray", "opencv-python-headless")
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    versions = {name: version(name) for name in names}
    return {
        "facesr": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        **versions,
        **gpu,
    }


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Yield a question that SIGTERM turns to true: for work that saves its state itself before it ends."""
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGTERM, before)
