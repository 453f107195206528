"""The `train` section of params.yaml: networks, losses and the two phases."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.core.scales import SCALES
from pipeline.params.base import Count, Positive, Section, Share, Weight
from pipeline.pretrained.vgg19 import layer_indices


class GeneratorParams(Section):
    """See `pipeline.models.networks.GeneratorConfig`."""

    widths: Annotated[list[Positive], Field(min_length=1, max_length=4)]
    """Channels at input size, half, a quarter …"""
    blocks: Count
    bottleneck: Positive
    norm: Literal["none", "instance"] = "none"
    tail: Literal["shuffle", "resize"] = "shuffle"
    even: Count = 0
    """Odd window over which a grid of period 4 is taken out of the result, input pixels; 0: off."""


class DiscriminatorParams(Section):
    """See `pipeline.models.networks.DiscriminatorConfig`."""

    widths: Annotated[list[Positive], Field(min_length=1)]
    scales: Positive = 2
    spectral_norm: bool = False


class Perceptual(Section):
    """The VGG-19 of the perceptual term."""

    network: Literal["random", "imagenet"]
    """`random`: fixed seed, needs no download; `imagenet`: torchvision's weights. Never silently one for the other."""
    layers: Annotated[list[str], Field(min_length=1)]
    file: str | None = None
    """Weights for `imagenet`; null: the places that `facesr weights list` shows."""

    @model_validator(mode="after")
    def _known_layers(self) -> Self:
        unknown = sorted(set(self.layers) - set(layer_indices()))
        if unknown:
            raise ValueError(f"layers: VGG-19 has no {', '.join(unknown)}; it has {', '.join(layer_indices())}")
        return self


class Phase(Section):
    """One training: `fidelity` from scratch, then `realism` from its result."""

    steps: Positive
    learning_rate: Annotated[float, Field(gt=0, le=0.1)]
    pixel: Weight = 1.0
    """Weight of L1."""
    adversarial: Weight = 0.0
    """Weight of the least-squares adversarial term."""
    perceptual: Weight = 0.0
    """Weight of the VGG-19 term."""
    consistency: Weight = 0.0
    """Weight of L1 after both sides were reduced 4x: keeps what is drawn from changing the average."""
    r1: Weight = 0.0
    """Weight gamma of the discriminator's R1 gradient penalty; it costs the discriminator a third pass."""
    patience: Count = 0
    """Validations without a better PSNR after which this phase ends with its best weights; 0: it never does."""
    smoother: Share = 0.0
    """Share of ground truths enlarged by bicubic first: as smooth as faces are at 1024. It helps fidelity there, and
    would teach the discriminator to be content with less detail."""


class Train(Section):
    """Both generators."""

    seed: Count
    generator: GeneratorParams
    discriminator: DiscriminatorParams
    perceptual: Perceptual
    fidelity: Phase
    realism: Phase
    batch: Positive
    crop: Annotated[int, Field(ge=32, le=256, multiple_of=16)]
    """Side of ground-truth crops, pixels."""
    scales: dict[Literal[SCALES], Weight]  # type: ignore[valid-type]
    """Relative chance that a step trains on each scale."""
    warmup: Count = 50
    """Steps."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    accumulate: Positive = 1
    """Parts that a batch is cut into to save memory. Like `workers`, it does not change what is learned."""
    workers: Positive = 1
    """Processes that share each batch, one per GPU or one per `cpus_per_worker`; more than 1 run under Ray Train."""
    cpus_per_worker: Positive = 1
    address: str | None = None
    """Ray cluster of those processes; null: a local one."""
    compile: bool = False
    """`torch.compile`: slower to start, faster after it on a GPU; needs a C++ compiler."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    validate_every: Positive = 100
    """Steps."""
    valid_faces: Positive = 16
    """Validation faces used, at most."""
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 5.0
    keep: Positive = 2
    """Training states kept."""

    @model_validator(mode="after")
    def _some_scale(self) -> Self:
        if not sum(self.scales.values()):
            raise ValueError("scales: at least one needs a chance above 0")
        if self.batch % (self.workers * self.accumulate):
            raise ValueError(f"batch: {self.batch} is no multiple of workers x accumulate")
        if self.fidelity.adversarial:
            raise ValueError("fidelity.adversarial: the fidelity generator is trained without an adversarial term")
        return self
