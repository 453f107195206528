"""Training configuration: networks, batches, losses, schedule. Plain dataclasses, which params.yaml is read into."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pipeline.core.limits import Count, LearningRate, Limits, Positive, Precision, Share, Weight
from pipeline.core.scales import TRAINED_SCALES
from pipeline.models.config import DiscriminatorConfig, GeneratorConfig
from pipeline.models.weights_file import Provenance


@dataclass(frozen=True)
class BatchConfig:
    """How a step draws its batch."""

    seed: int
    batch: int
    """Pairs in a batch; all of one scale, so that they stack."""
    crop: int
    """Largest side of a ground-truth crop, pixels; a multiple of 4."""
    scale_chances: dict[str, float]
    """Relative chance of each scale, if all had equally many pairs: one with fewer comes as much less often, one that
    the manifest lacks never."""
    smoother: float = 0.0
    """Share of ground truths that are a part of the input enlarged by bicubic: as smooth as faces are at 1024."""
    results: float = 0.0
    """Share of steps, of those not at the scale of use, whose ground truths are made of results, see `Batch.truth`."""
    drawn: float = 0.0
    """Share of ground truths, of those not at the scale of use, that things are drawn on."""


Optimizer = Literal["adam", "muon"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What sets one training apart: `fidelity` from scratch, or `realism` from its result."""

    steps: Positive
    learning_rate: LearningRate
    optimizer: Optimizer = "adam"
    """Of the generator; `muon` updates the convolutions between features by orthogonalised momentum, at the same rates.
    The discriminator goes by Adam."""
    pixel: Weight = 1.0
    """Weight of the L1 term."""
    adversarial: Weight = 0.0
    """Weight of the least-squares adversarial term; 0 trains without a discriminator."""
    perceptual: Weight = 0.0
    """Weight of the VGG-19 term; 0 does not build it."""
    consistency: Weight = 0.0
    """Weight of the L1 term between result and ground truth reduced 4x: what is drawn must not change the average."""
    isotropy: Weight = 0.0
    """Weight of the term against directions in fine structure at the scale of use, where no ground truth keeps a result
    from having a lattice. It looks at all pictures that a process has in memory together."""
    r1: Weight = 0.0
    """Weight gamma of the discriminator's R1 gradient penalty on real images; it costs the discriminator a third pass.
    0 leaves it out."""
    patience: Count = 0
    """Validations without a better PSNR after which the run ends early with the best weights; 0: never."""
    crop_side: Annotated[int, Limits(ge=0, le=256, multiple_of=16)] = 0
    """Side of this phase's ground-truth crops, pixels; 0: the section's `crop`."""
    smoother: Share = 0.0
    """Share of ground truths enlarged by bicubic first: as smooth as faces are at 1024. It helps fidelity there, and
    would teach the discriminator to be content with less detail."""
    results: Share = 0.0
    """Share of steps, of those not at the scale of use, whose ground truths are what the averaged weights make of clean
    inputs, reduced 1.4 to 3 times: edges in them are as long and as straight as at 1024, which no input at 256 has."""
    drawn: Share = 0.0
    """Share of ground truths, of those not at the scale of use, that hair, beads, cloth and letters are drawn on:
    structures of a few pixels, as faces of 1024 have. For fidelity: a discriminator would take them for real."""


@dataclass(frozen=True, kw_only=True)
class Common:
    """What the trainings of a `train` section have in common."""

    seed: Count
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    batch: Positive
    crop: Annotated[int, Limits(ge=32, le=256, multiple_of=16)]
    """Side of ground-truth crops, pixels."""
    scales: dict[Literal[TRAINED_SCALES], Weight]  # type: ignore[valid-type]
    """Relative chance that a step trains on each scale; 256to1024 is the scale of use."""
    warmup: Count = 50
    """Steps over which the learning rate rises from 0; after that it falls by a half cosine to a hundredth."""
    ema: Annotated[float, Limits(ge=0, lt=1)] = 0.999
    """Decay of the moving average of the weights, which is what is kept as the result."""
    accumulate: Positive = 1
    """Parts that a batch is cut into, one after another, to save memory. Like `workers`, it does not change what is
    learned, but for `isotropy`, which then sees fewer pictures at a time."""
    compile: bool = False
    """`torch.compile`: slower to start, faster after it on a GPU; needs a C++ compiler."""
    precision: Precision = "auto"
    validate_every: Positive = 100
    """Steps."""
    checkpoint_minutes: Annotated[float, Limits(gt=0)] = 5.0
    keep: Positive = 2
    """Training states kept."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Common, Phase):
    """Everything that a run depends on besides its data."""

    layers: tuple[str, ...] = ()
    """VGG-19 layers of the perceptual term."""
    vgg: Path | None = None
    """File of VGG-19 weights; None: random ones of a fixed seed."""
    clip: float = 1.0
    """Largest norm of each network's gradient."""
    log_every: int = 10
    provenance: Provenance = field(default_factory=dict)
    """Copied into the weights file."""

    @property
    def batches(self) -> BatchConfig:
        """How a step draws its batch."""
        return BatchConfig(
            self.seed,
            self.batch,
            self.crop_side or self.crop,
            self.scales,
            self.smoother,
            self.results,
            self.drawn,
        )


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of the peak at the last step."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
