"""Names of models: the released pairs, those of this checkout, and tagged versions of its artifacts."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import FacesrError
from pipeline.registry.artifacts import Artifact, Reference, fetch, list_artifacts
from pipeline.upscale.weights import NoModelError, choose, released

CHECKOUT = Path("models")
PARTNERS = {"fidelity": "realism"}
"""Artifact -> the one that `--realism` mixes it with."""


@dataclass(frozen=True)
class Listed:
    """A line of `facesr models list`."""

    name: str
    """As `--model` takes it."""
    kind: str
    """released, checkout, artifact or tagged."""
    file: str
    note: str = ""


def list_models(repo: str | None = None) -> list[Listed]:
    """List what `--model` can be given by name.

    Args:
        repo: another repository, whose artifacts alone are listed; None: here.

    Raises:
        RegistryError: the repository cannot be opened.
    """
    models = []
    if repo is None:
        for name, folder in released().items():
            pair = ", ".join(path.name for path in sorted(folder.glob("*.safetensors")))
            models.append(Listed(name, "released", pair, "ships with facesr"))
        for path in sorted(CHECKOUT.rglob("*.safetensors")):
            models.append(Listed(path.as_posix(), "checkout", path.as_posix(), "of this checkout"))
    for artifact in _artifacts(repo):
        start = f"{repo or ''}#{artifact.name}"
        note = "; ".join(filter(None, [artifact.description, ", ".join(artifact.labels)]))
        if not artifact.versions:
            models.append(Listed(start, "artifact", artifact.path, f"no version is tagged; {note}".strip("; ")))
        for version, commit in artifact.versions.items():
            stages = ", ".join(stage for stage, held in artifact.stages.items() if held == version)
            shown = "; ".join(filter(None, [stages, note]))
            models.append(Listed(f"{start}@{version}", "tagged", f"{artifact.path} at {commit[:7]}", shown))
    return models


def _artifacts(repo: str | None) -> list[Artifact]:
    try:
        return [artifact for artifact in list_artifacts(repo) if artifact.type in (None, "model")]
    except FacesrError:
        if repo is not None:
            raise
        return []  # not in a repository at all


def local(model: str | Path | None, realism: float = 0.0) -> str | None:
    """Bring a model that a repository holds onto this machine; any other name or file stays as it is.

    Args:
        model: a file, a name of `released()`, or REPO#ARTIFACT@VERSION.
        realism: above 0, the realism generator that goes with it is put beside it.

    Raises:
        RegistryError: no such repository, artifact or version.
    """
    reference = None if model is None else Reference.parse(str(model))
    if reference is None:
        return None if model is None else str(model)
    return str(fetch(reference, PARTNERS.get(reference.name) if realism else None))


def find(model: str, phase: str = "fidelity") -> Path:
    """The weights file that a name stands for.

    Args:
        model: as of `local`.
        phase: of a released pair, fidelity or realism; or sharp, where there is one.

    Raises:
        NoModelError, RegistryError: there is none.
    """
    path = Path(local(model) or model)
    if model in released():
        path = released()[model] / f"{phase}.safetensors"
    elif not path.is_file() and (CHECKOUT / f"{model}.safetensors").is_file():
        path = CHECKOUT / f"{model}.safetensors"
    if not path.is_file():
        choose(path, None, 0)  # says which names there are
        raise NoModelError(f"{path}: no such weights file")
    return path
