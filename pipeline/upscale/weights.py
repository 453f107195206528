"""Choose weights: a released pair by its name, or the files that a run names."""

from pathlib import Path

from pipeline.core.errors import FacesrError

FOLDER = Path(__file__).parent.parent / "released"
"""The newest pair, and older ones in folders named by their number."""
RELEASED = "released"
FOR_SHARP = "sharp"
PHASES = ("fidelity", "realism", FOR_SHARP)
"""Names of weights files that belong together; of the last there need be none."""
SUFFIX = ".safetensors"


class NoModelError(FacesrError):
    """No weights to use; the message says what to do."""


def released() -> dict[str, Path]:
    """Name of each released pair -> its folder with `fidelity.safetensors` and `realism.safetensors`.

    The newest is `released`; the pair in `released/1/` is `released-1`.
    """
    older = sorted(path for path in FOLDER.iterdir() if path.is_dir()) if FOLDER.is_dir() else []
    named = {RELEASED: FOLDER} | {f"{RELEASED}-{path.name}": path for path in older}
    return {name: folder for name, folder in named.items() if (folder / "fidelity.safetensors").is_file()}


def partner(fidelity: Path, phase: str = "realism") -> Path:
    """Path of what `facesr adapt` puts beside an adapted fidelity generator, whether or not it exists."""
    return fidelity.with_name(f"{fidelity.stem}-{phase}{fidelity.suffix or SUFFIX}")


def for_sharp(fidelity: Path, realism: float = 0.0) -> Path | None:
    """Weights that go with those of a fidelity generator, trained on clean sharp pictures alone; None: there are none.

    They lie beside it: `<name>-sharp`, and beside a file called `fidelity` also `sharp`, of the same ending. They serve
    where there is no realism: another training's weights do not mix with it.
    """
    if realism:
        return None
    files = [partner(fidelity, FOR_SHARP)]
    if fidelity.stem == PHASES[0]:
        files.append(fidelity.with_name(f"{FOR_SHARP}{fidelity.suffix or SUFFIX}"))
    return next((path for path in files if path.is_file()), None)


def choose(model: str | Path | None, realism_model: str | Path | None, realism: float) -> tuple[Path, Path | None]:
    """Choose the weights files of the fidelity and (where `realism` is above 0) the realism generator.

    `model` stands in for the released fidelity generator: a name of `released()`, or a file. With `realism` above 0 a
    file needs its own realism generator, `realism_model`, or beside it a `<name>-realism` of the same ending (as
    `facesr adapt` writes) or `realism.safetensors`, since generators of two trainings do not mix.

    Raises:
        NoModelError: a file is missing.
    """
    fidelity = _file(model or RELEASED, "fidelity")
    crisp = None
    if realism:
        beside = partner(fidelity)
        other = fidelity.with_name(f"realism{fidelity.suffix or SUFFIX}")
        crisp = _file(realism_model, "realism") if realism_model else beside if beside.is_file() else other
    for path in (fidelity, crisp):
        if path is not None and not path.is_file():
            hint = "" if model else "; train one with `make repro` and name it: --model models/fidelity.safetensors"
            if model and not path.suffix:
                hint = f", and no released pair has that name: {', '.join(released()) or 'there are none'}"
            raise NoModelError(f"{path}: no such weights file{hint}")
    return fidelity, crisp


def _file(name: str | Path, phase: str) -> Path:
    """A file as it is named; of a released pair the generator of `phase`. A file that is there goes before a name."""
    path = Path(name)
    if path.is_file() or str(name) not in (pairs := released()):
        return FOLDER / f"{phase}.safetensors" if str(name) == RELEASED and not path.is_file() else path
    return pairs[str(name)] / f"{phase}.safetensors"
