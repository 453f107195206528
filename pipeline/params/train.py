"""The `train` section of params.yaml: networks, losses and the two phases."""

from typing import Annotated, Literal, Self

from pydantic import model_validator

from pipeline.core.limits import Limits, Positive
from pipeline.params.base import Section
from pipeline.pretrained.vgg19 import layer_indices
from pipeline.train.engine.config import Common, Phase


class Perceptual(Section):
    """The VGG-19 of the perceptual term."""

    network: Literal["random", "imagenet"]
    """`random`: fixed seed, needs no download; `imagenet`: torchvision's weights. Never silently one for the other."""
    layers: Annotated[list[str], Limits(min_length=1)]
    file: str | None = None
    """Weights for `imagenet`; null: the places that `facesr weights list` shows."""

    @model_validator(mode="after")
    def _known_layers(self) -> Self:
        unknown = sorted(set(self.layers) - set(layer_indices()))
        if unknown:
            raise ValueError(f"layers: VGG-19 has no {', '.join(unknown)}; it has {', '.join(layer_indices())}")
        return self


class Train(Section, Common):  # type: ignore[misc]  # it is frozen, as a Section
    """Both generators."""

    perceptual: Perceptual
    fidelity: Phase
    realism: Phase
    workers: Positive = 1
    """Processes that share each batch, one per GPU or one per `cpus_per_worker`; more than 1 run under Ray Train."""
    cpus_per_worker: Positive = 1
    address: str | None = None
    """Ray cluster of those processes; null: a local one."""
    valid_faces: Positive = 16
    """Validation faces used, at most."""

    @model_validator(mode="after")
    def _some_scale(self) -> Self:
        if not sum(self.scales.values()):
            raise ValueError("scales: at least one needs a chance above 0")
        if self.batch % (self.workers * self.accumulate):
            raise ValueError(f"batch: {self.batch} is no multiple of workers x accumulate")
        if self.fidelity.adversarial:
            raise ValueError("fidelity.adversarial: the fidelity generator is trained without an adversarial term")
        return self
