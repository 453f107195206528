"""Choose weights: the released generators, or those that a run names."""

from pathlib import Path

from pipeline.core.errors import FacesrError

FOLDER = Path(__file__).parent.parent / "released"


class NoModelError(FacesrError):
    """No weights to use; the message says what to do."""


def partner(fidelity: Path) -> Path:
    """Path of the realism generator of an adapted fidelity generator, whether or not it exists."""
    return fidelity.with_name(f"{fidelity.stem}-realism.safetensors")


def choose(model: str | Path | None, realism_model: str | Path | None, realism: float) -> tuple[Path, Path | None]:
    """Choose the weights files of the fidelity and (where `realism` is above 0) the realism generator.

    `model` stands in for the released fidelity generator; with `realism` above 0 it needs its own realism generator,
    `realism_model`, or beside it a `<name>-realism.safetensors` (as `facesr adapt` writes) or `realism.safetensors`,
    since generators of two trainings do not mix.

    Raises:
        NoModelError: a file is missing.
    """
    fidelity = Path(model or FOLDER / "fidelity.safetensors")
    crisp = None
    if realism:
        beside = partner(fidelity)
        crisp = Path(realism_model or (beside if beside.is_file() else fidelity.with_name("realism.safetensors")))
    for path in (fidelity, crisp):
        if path is not None and not path.is_file():
            hint = "" if model else "; train one with `make repro` and name it: --model models/fidelity.safetensors"
            raise NoModelError(f"{path}: no such weights file{hint}")
    return fidelity, crisp
