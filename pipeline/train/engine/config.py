"""What a training run is told: networks, batches, losses, schedule. Plain dataclasses, no params file."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.models.networks import DiscriminatorConfig, GeneratorConfig
from pipeline.train.engine.batches import BatchConfig


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a run depends on besides its data."""

    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    batches: BatchConfig
    steps: int
    learning_rate: float = 5e-4
    warmup: int = 50
    """Steps over which the learning rate rises from 0; after that it falls by a half cosine to a hundredth."""
    pixel: float = 1.0
    """Weight of the L1 term."""
    adversarial: float = 0.0
    """Weight of the least-squares adversarial term; 0 trains without a discriminator."""
    perceptual: float = 0.0
    """Weight of the VGG-19 term; 0 does not build it."""
    consistency: float = 0.0
    """Weight of the L1 term between result and ground truth reduced 4x: what is drawn must not change the average."""
    r1: float = 0.0
    """Weight gamma of the R1 gradient penalty on real images; 0 leaves it out."""
    layers: tuple[str, ...] = ()
    """VGG-19 layers of the perceptual term."""
    vgg: Path | None = None
    """File of VGG-19 weights; None: random ones of a fixed seed."""
    ema: float = 0.999
    """Decay of the moving average of the weights, which is what is kept as the result."""
    clip: float = 1.0
    """Largest norm of each network's gradient."""
    accumulate: int = 1
    """Parts that a batch is cut into, one after another, to save memory; the result is that of the whole batch."""
    compile: bool = False
    """Run the networks through `torch.compile`."""
    precision: str = "auto"
    """`auto`, `bf16` or `fp32`."""
    patience: int = 0
    """Validations without a better PSNR after which the run ends early with the best weights; 0: never."""
    log_every: int = 10
    validate_every: int = 100
    checkpoint_seconds: float = 120.0
    keep: int = 2
    """Training states kept."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Copied into the weights file."""


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of the peak at the last step."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
