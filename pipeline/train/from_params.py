"""The train section of params.yaml as the configuration of one training."""

from dataclasses import fields
from pathlib import Path

from pipeline.core.files import file_hash
from pipeline.models.weights_file import Provenance
from pipeline.params.train import Train
from pipeline.pretrained.registry import find_or_fetch
from pipeline.train.engine.config import Common, Phase, TrainConfig


def phase_config(settings: Train, phase: Phase, provenance: Provenance) -> TrainConfig:
    """Config of one training, `fidelity` or `realism`.

    Raises:
        WeightsError: ImageNet's VGG-19 is asked for and neither found nor reachable.
    """
    common = {field.name: getattr(settings, field.name) for field in fields(Common)}
    return TrainConfig(
        **vars(phase),
        **common | {"warmup": min(settings.warmup, phase.steps // 4)},
        layers=tuple(settings.perceptual.layers),
        vgg=vgg_file(settings) if phase.perceptual else None,
        provenance=provenance,
    )


def describe_vgg(settings: Train) -> str:
    """The VGG-19 of the perceptual term, for provenance: `unused`, `random`, or `imagenet` and its file's sha256."""
    if not settings.fidelity.perceptual and not settings.realism.perceptual:
        return "unused"
    file = vgg_file(settings)
    return "random" if file is None else f"imagenet {file_hash(file)}"


def vgg_file(settings: Train) -> Path | None:
    """VGG-19's weights as params ask: None is the random network, never a stand-in for a missing file."""
    if settings.perceptual.network == "random":
        return None
    return find_or_fetch("vgg19", settings.perceptual.file)
