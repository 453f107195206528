"""`facesr profile`: validate params.yaml, or put a profile in its place."""

import shutil
import subprocess
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli._shared import fail, fail_on
from pipeline.runtime.console import console


def profile(
    use: Annotated[str, typer.Option(help="Make profiles/NAME.yaml the params.yaml of this run")] = "",
) -> None:
    """Validate params.yaml, or put another profile in its place (what was there is kept as params.yaml.before)."""
    from pipeline.params.all_sections import load_params
    from pipeline.params.read import ParamsError

    params = Path("params.yaml")
    with fail_on(ParamsError):
        if use:
            chosen = Path("profiles") / f"{use}.yaml"
            if not chosen.is_file():
                known = ", ".join(sorted(path.stem for path in Path("profiles").glob("*.yaml")))
                raise fail(f"no profile {use!r}; there are {known}")
            load_params(chosen)
            if params.read_bytes() != chosen.read_bytes():
                kept = _keep(params)
                shutil.copyfile(chosen, params)
                console.print(f"params.yaml is now {chosen}; what it was is in {kept}")
        load_params(params)
    _warn_of_unused_gpu()


def _keep(params: Path) -> Path:
    """Copy params.yaml to where no params of the user's own are kept yet, and say where."""
    known = {path.read_bytes() for path in [params, *Path("profiles").glob("*.yaml")]}
    names = (Path(f"{params}.before" + (f"-{number}" if number > 1 else "")) for number in count(1))
    kept = next(path for path in names if not path.exists() or (path.is_file() and path.read_bytes() in known))
    shutil.copyfile(params, kept)
    return kept


def _warn_of_unused_gpu() -> None:
    """Say so when the machine has an NVIDIA card that torch cannot use: a run would take 50 times as long."""
    if shutil.which("nvidia-smi") is None:
        return
    import torch  # a second and a half, for nothing where there is no card

    cards = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S607
    if cards and not torch.cuda.is_available():
        console.print(
            f"warning: this machine has {cards.splitlines()[0]}, but torch {torch.__version__} cannot use it: install "
            "a torch build that fits the driver",
            style="yellow",
        )
