"""Shared by every DVC stage: exit codes, signals, partial work, provenance.

Partial work lies in `work/<stage>/<key>/`, ignored by git and DVC, because DVC deletes a stage's outs before it runs;
the key is the hash of all that the work depends on. Finished work moves into the outs.
"""

import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from pipeline.core.errors import FacesrError
from pipeline.core.files import content_hash
from pipeline.core.imports import spare_pandas
from pipeline.params.base import Section
from pipeline.params.read import ParamsError, read_sections
from pipeline.runtime.console import console
from pipeline.runtime.signals import end_with, exit_on_sigterm
from pipeline.version import __version__

WORK = Path("work")
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Of NVIDIA, AMD and WSL: without one of them there is no GPU that torch could use."""


class StageError(FacesrError):
    """A stage cannot complete; the message says why and what to do."""


def run_stage(main: Callable[..., None], **sections: type[Section]) -> NoReturn:
    """Read a stage's sections of params.yaml, run `main` with them and exit.

    Exit codes: 0 complete, 1 not complete, 2 params unusable, 143 after SIGTERM. A bug keeps its traceback.

    Args:
        main: of the stage; gets the sections in their order.
        sections: class of each section that the stage depends on, by its name.
    """
    if main.__module__ == "__main__":  # the process has nothing else to do
        end_with(_run, main, sections)
    _run(main, sections)


def _run(main: Callable[..., None], sections: Mapping[str, type[Section]]) -> NoReturn:
    exit_on_sigterm()
    spare_pandas()
    try:
        main(*read_sections(sections).values())
    except ParamsError as error:
        console.print(str(error), style="red", markup=False)
        sys.exit(2)
    except (FacesrError, OSError) as error:
        console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        sys.exit(1)
    sys.exit(0)


def work_folder(stage: str, *depends_on: Path | Any, root: Path = WORK) -> Path:
    """Make the folder of this very work; remove those of other inputs or params of the stage."""
    folder = root / stage / content_hash(__version__, *depends_on)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other)
    return folder


def environment() -> dict[str, str]:
    """Collect versions and hardware, for provenance."""
    names = ("torch", "numpy", "pillow", "pyarrow", "ray", "opencv-python-headless")
    versions = {name: version(name) for name in names}
    here = {"facesr": __version__, "python": platform.python_version(), "machine": platform.machine()}
    return here | versions | _gpu()


def _gpu() -> dict[str, str]:
    """Name of the first GPU; torch, which takes two seconds to import, is asked only where there may be one."""
    if "torch" not in sys.modules and not any(Path(device).exists() for device in _GPU_DEVICES):
        return {}
    import torch

    return {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
