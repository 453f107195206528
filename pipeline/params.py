"""Typed, validated view of params.yaml: one class per stage, units in the field docs, unknown keys refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from pipeline.params_base import Count, Positive, Quality, Range, Section, Weight
from pipeline.params_baselines import Baselines
from pipeline.params_ingest import Ingest
from pipeline.params_train import Train
from pipeline.schema import AUGMENTATIONS, AUGMENTED, UPSCALED_SCALES

Kind = TypeVar("Kind", bound=Section)


class ParamsError(ValueError):
    """params.yaml cannot be used; the message names file and key."""


class Pairs(Section):
    """Inputs of at most 256x256 and the manifest of multi-scale training pairs."""

    seed: Count
    draws: Positive = 4
    """Pairs drawn per training face and scale."""
    augmentations: dict[Literal[AUGMENTATIONS], Weight] = {  # type: ignore[valid-type]
        "none": 0.55,
        "rot90": 0.1,
        "rot180": 0.1,
        "rot270": 0.1,
        "noise": 0.05,
        "blur": 0.05,
        "jpeg": 0.05,
    }
    """Relative chance of each augmentation."""
    noise: Range = (1.0, 6.0)
    """Range of sigma, grey levels of 255."""
    blur: Range = (0.2, 0.6)
    """Range of sigma, pixels of the low-resolution side."""
    jpeg: Annotated[tuple[Quality, Quality], Field(strict=False)] = (75, 95)
    """Range of quality."""
    workers: Positive | None = None
    """Ray workers; null: one per core. 1 runs without Ray."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if not sum(self.augmentations.values()):
            raise ValueError("augmentations: at least one needs a chance above 0")
        for name in ("noise", "blur", "jpeg"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the range {low} to {high} is upside down")
        return self

    def degradation(self) -> dict[str, Any]:
        """What `pairs.draw_degradation` draws an augmented input by: its keyword arguments."""
        ranges = {"noise": self.noise, "blur": self.blur, "jpeg": self.jpeg}
        return {"seed": self.seed, "chances": dict(self.augmentations), **ranges}


class Upscale(Section):
    """Ray-distributed enlargement of the train and test faces."""

    faces: dict[str, Positive] = {}
    """Only the first so many faces of a split are enlarged and measured; all where a split is not named."""
    augmented: dict[str, Count] = {}
    """So many faces of a split are enlarged and measured once more, apart, from inputs that have noise, blur or JPEG
    loss added, drawn as `pairs` draws them; none where a split is not named."""
    tile: Annotated[int, Field(ge=64)] = 512
    """Side of the pieces that larger inputs are cut into, pixels."""
    back_projection: Count = 0
    """Iterations; more than 0 makes the fidelity generator's results agree with their inputs, which are clean here. The
    realism generator's are left as they are: agreement takes some of its texture away."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    unit: Annotated[int, Field(ge=1, le=64)] = 16
    """Faces in a work unit: what a killed worker loses at most."""
    workers: Positive | None = None
    """Ray workers; null: as many as there is room for."""
    cpus_per_worker: Positive = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] | None = None
    """Share of a GPU for each worker; null: a whole one where there are any."""
    address: str | None = None
    """Ray cluster; null: a local one."""
    max_failed: Count = 0

    @model_validator(mode="after")
    def _known_splits(self) -> Self:
        for name in ("faces", "augmented"):
            unknown = set(getattr(self, name)) - {"train", "test"}
            if unknown:
                raise ValueError(f"{name}: {', '.join(sorted(unknown))}: only train and test are enlarged")
        return self

    def limits(self) -> dict[str, dict[str, int]]:
        """Faces at most, by scale and split; a split that is not named has no limit."""
        augmented = {"train": 0, "test": 0} | self.augmented
        clean = {scale: dict(self.faces) for scale in UPSCALED_SCALES}
        return clean | {f"{scale}{AUGMENTED}": augmented for scale in UPSCALED_SCALES}


class Evaluate(Section):
    """Metrics against the baselines, plots, sheets and the report."""

    inception: str | None = None
    """Inception weights for FID, KID, precision and recall; null, as with those below: where `facesr weights list`
    shows. A metric whose network is in neither place is null, with the reason."""
    alexnet: str | None = None
    """Trunk of LPIPS."""
    vgg16: str | None = None
    """Trunk of LPIPS with VGG, and of DISTS."""
    embedding: str | None = None
    """Face embedding, ONNX, for identity."""
    detector: str | None = None
    """Face detector, ONNX, for identity and for the crops on sheets."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where these networks run; the last two always run on the CPU."""
    sheet_faces: Positive = 4
    """Faces on a comparison sheet."""
    unit: Annotated[int, Field(ge=1, le=64)] = 8
    """Faces in a work unit."""
    workers: Positive | None = None
    cpus_per_worker: Positive = 1
    address: str | None = None
    max_failed: Count = 0
    """Faces that could not be judged with which the stage still succeeds."""


class Params(Section):
    """A whole params file."""

    ingest: Ingest
    pairs: Pairs
    train: Train
    upscale: Upscale
    baselines: Baselines
    evaluate: Evaluate


def load_params(path: Path = Path("params.yaml"), changes: Sequence[str] = ()) -> Params:
    """Read and validate a params file.

    Args:
        path: of the file.
        changes: `section.key=value` each, the value in YAML; they replace what the file says.

    Raises:
        ParamsError: missing, not YAML, an unknown or mistyped key, a value out of range: names file and key.
    """
    try:
        values: Any = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ParamsError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not valid YAML: {error}") from error
    for change in changes:
        _change(values, change)
    return validated(Params, values, str(path))


def validated(kind: type[Kind], values: Any, where: str) -> Kind:
    """Values as a section, or as all of them.

    Args:
        kind: of the section.
        values: as read from YAML.
        where: the values come from, for messages.

    Raises:
        ParamsError: an unknown or mistyped key, a value out of range: a line for each.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = [f"{where}: {_key(problem['loc'])}: {_say(problem)}" for problem in error.errors()]
        raise ParamsError("\n".join(problems)) from error


def _change(values: Any, change: str) -> None:
    """Apply one `section.key=value` to the values of a file, in place."""
    name, sign, value = change.partition("=")
    *parents, last = name.strip().split(".")
    for parent in parents:
        values = values.setdefault(parent, {}) if isinstance(values, dict) else None
    if not sign or not isinstance(values, dict):
        raise ParamsError(f"{change!r}: expected section.key=value")
    try:
        values[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ParamsError(f"{change!r}: the value is not valid YAML") from error


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "the whole file"


def _say(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "unknown key"
    if problem["type"] == "missing":
        return "missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return message if isinstance(problem["input"], dict) else f"{message} (got {problem['input']!r})"
