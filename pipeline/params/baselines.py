"""The baselines section of params.yaml: what else is measured beside bicubic, Lanczos and our own generators."""

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import model_validator

from pipeline.core.limits import Count, LearningRate, Limits, Positive, Precision
from pipeline.core.scales import FACTOR, METHODS
from pipeline.params.base import GpuWorkers, Section, Unit

RESERVED = {"bicubic", "lanczos", "zssr", "twin", *METHODS}
"""Names that a peer cannot have."""


@dataclass(frozen=True)
class ZssrOptions:
    """How each picture's network is trained and used. See `pipeline.baselines.zssr`."""

    scales: Annotated[tuple[Annotated[float, Limits(gt=1, le=4)], ...], Limits(min_length=1, max_length=8)] = (4.0,)
    """Factors of gradual enlargement, one training for each; the last is 4. [2.0, 4.0]: docs/baselines.md."""
    steps: Positive = 1000
    """Updates for each factor, at most; training ends before where the learning rate has fallen to its end."""
    layers: Positive = 8
    """Hidden layers."""
    channels: Positive = 64
    crop: Annotated[int, Limits(ge=16)] = 128
    """Side of the crops, pixels; smaller where a picture's smallest father is."""
    learning_rate: LearningRate = 1e-3
    ensemble: bool = True
    """Median of the results for all 8 turns and reflections."""
    back_projection: Count = 4
    """Iterations on each of them, and on their median."""
    at_once: Positive = 4
    """Pictures whose networks are trained side by side: it changes speed and memory alone."""
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.scales[-1] != FACTOR or any(low >= high for low, high in pairwise(self.scales)):
            raise ValueError(f"scales: factors must rise, and the last must be {FACTOR}")


@dataclass(frozen=True)
class Zssr(ZssrOptions):
    """Zero-shot super-resolution: a network for each picture, trained on it alone."""

    faces: dict[Literal["train", "test"], Positive] = field(default_factory=dict)
    """Instead of `baselines.faces`, since each face costs a training."""


class Twin(Section):
    """The supervised twin: generator, batch and crops of the train section, pairs of originals."""

    faces: Positive | None = None
    """Originals of the train split that it learns from, at most; 3 MB of disk each while it trains. null: all."""
    steps: Positive | None = None
    """null: as many as train.fidelity."""
    valid_faces: Positive = 8
    """Originals of the valid split used, at most."""
    validate_every: Positive | None = None
    """Steps; null: as train."""


class Baselines(GpuWorkers):
    """Further methods, measured through the same path as ours."""

    methods: list[Literal["zssr", "twin"]] = []
    weights: dict[str, str] = {}
    """Peers by name: a weights file that spandrel loads (Real-ESRGAN, SwinIR …), 4x."""
    results: dict[str, str] = {}
    """Results made elsewhere, by name: a folder with `64to256/` and `256to1024/`, pictures named like the faces."""
    faces: dict[Literal["train", "test"], Positive] = {}
    """Only the first so many faces of a split; all where a split is not named."""
    splits: Annotated[list[Literal["train", "test"]], Limits(min_length=1)] = ["test"]
    seed: Count = 1
    zssr: Zssr = Zssr()
    twin: Twin = Twin()
    unit: Unit = 8
    max_failed: Count = 0

    @property
    def files(self) -> list[Path]:
        """All that comes from elsewhere."""
        return [Path(path) for path in (*self.weights.values(), *self.results.values())]

    @model_validator(mode="after")
    def _names(self) -> Self:
        for name in [*self.weights, *self.results]:
            if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,40}", name) or name in RESERVED:
                taken = ", ".join(sorted(RESERVED))
                raise ValueError(f"{name!r}: a method's name is lower case a-z, 0-9, . _ - and none of {taken}")
        if both := self.weights.keys() & self.results.keys():
            raise ValueError(f"{', '.join(sorted(both))}: named as weights and as results")
        return self
