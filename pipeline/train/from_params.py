"""The train section of params.yaml as the training loop's dataclasses."""

from pathlib import Path
from typing import Any

from pipeline.core.files import file_hash
from pipeline.models.networks import DiscriminatorConfig, GeneratorConfig
from pipeline.params.train import Phase, Train
from pipeline.pretrained import registry as weights
from pipeline.train.engine.batches import BatchConfig
from pipeline.train.engine.config import TrainConfig


def phase_config(params: Train, phase: Phase, provenance: dict[str, Any]) -> TrainConfig:
    """Config of one training, `fidelity` or `realism`.

    Raises:
        WeightsError: ImageNet's VGG-19 is asked for and neither found nor reachable.
    """
    return TrainConfig(
        generator=GeneratorConfig.from_dict(params.generator.model_dump()),
        discriminator=DiscriminatorConfig(**params.discriminator.model_dump()),
        batches=BatchConfig(
            seed=params.seed,
            batch=params.batch,
            crop=params.crop,
            scale_chances=dict(params.scales),
            smoother=phase.smoother,
        ),
        steps=phase.steps,
        learning_rate=phase.learning_rate,
        warmup=min(params.warmup, phase.steps // 4),
        pixel=phase.pixel,
        adversarial=phase.adversarial,
        perceptual=phase.perceptual,
        consistency=phase.consistency,
        r1=phase.r1,
        layers=tuple(params.perceptual.layers),
        vgg=vgg_file(params) if phase.perceptual else None,
        ema=params.ema,
        accumulate=params.accumulate,
        compile=params.compile,
        precision=params.precision,
        patience=phase.patience,
        validate_every=params.validate_every,
        checkpoint_seconds=60 * params.checkpoint_minutes,
        keep=params.keep,
        provenance=provenance,
    )


def describe_vgg(params: Train) -> str:
    """The VGG-19 of the perceptual term, for provenance: `unused`, `random`, or `imagenet` and its file's sha256."""
    if not params.fidelity.perceptual and not params.realism.perceptual:
        return "unused"
    file = vgg_file(params)
    return "random" if file is None else f"imagenet {file_hash(file)}"


def vgg_file(params: Train) -> Path | None:
    """VGG-19's weights as params ask: None is the random network, never a stand-in for a missing file."""
    if params.perceptual.network == "random":
        return None
    return weights.find_or_fetch("vgg19", params.perceptual.file)
