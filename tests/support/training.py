"""Training data and a training of milliseconds."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.chain_draws import ChainRanges
from pipeline.core.degradation import Degradations
from pipeline.core.images import Pixels, encode_png, pixel_hash
from pipeline.core.schema import FACES, PAIRS
from pipeline.core.shards import write_batches, write_rows
from pipeline.models.config import DiscriminatorConfig, GeneratorConfig
from pipeline.pairs.manifest import draw_manifest
from pipeline.train.engine.batches import PairData
from pipeline.train.engine.config import TrainConfig
from support.pictures import face
from support.stages import write_params

CHANCES = {"none": 1.0, "rot90": 1.0, "rot180": 1.0, "rot270": 1.0, "noise": 1.0, "blur": 1.0, "jpeg": 1.0}


STRENGTHS = {"noise": (1.0, 6.0), "blur": (0.2, 0.6), "jpeg": (75, 95)}


def write_inputs(folder: Path, pictures: Sequence[Pixels], split: str) -> list[tuple[str, str, int]]:
    """One shard of inputs; returns (id, split, side) of each, as the manifest wants them."""
    rows = [
        {
            "id": f"{pixel_hash(pixels)}-0",
            "image": {"bytes": encode_png(pixels), "path": f"{index}.png"},
            "name": f"{index}.png",
            "source": "test",
            "split": split,
            "width": pixels.shape[1],
            "height": pixels.shape[0],
        }
        for index, pixels in enumerate(pictures)
    ]
    write_rows(folder / f"{split}-00000.parquet", rows, FACES)
    return [(row["id"], split, row["width"]) for row in rows]


def write_manifest(
    path: Path,
    images: Iterable[tuple[str, str, int]],
    chances: Mapping[str, float] | None = None,
    draws: int = 2,
    chain: ChainRanges | None = None,
    of_use: int = 0,
) -> None:
    degradations = Degradations(seed=1, chances=chances or {"none": 1.0}, chain=chain, **STRENGTHS)
    write_batches(path, draw_manifest(images, draws, degradations, of_use), PAIRS)


def pair_data(folder: Path, pictures: Sequence[Pixels], **options: Any) -> PairData:
    """Training data of these pictures, written to `folder` as `train/` and `pairs.parquet`; options as above."""
    write_manifest(folder / "pairs.parquet", write_inputs(folder / "train", pictures, "train"), **options)
    return PairData(folder / "train", folder / "pairs.parquet", "train")


def tiny_config(**changes: Any) -> TrainConfig:
    """A training that takes milliseconds a step: 64-pixel ground truths, a generator of some 2,000 parameters."""
    values: dict[str, Any] = {
        "generator": GeneratorConfig((8,), blocks=0, bottleneck=1),
        "discriminator": DiscriminatorConfig((4, 8), scales=2),
        "seed": 3,
        "batch": 2,
        "crop": 64,
        "scales": {"16to64": 1.0},
        "steps": 4,
        "learning_rate": 2e-3,
        "warmup": 1,
        "precision": "fp32",
        "checkpoint_minutes": 0.0,
    }
    return TrainConfig(**values | changes)


TINY_TRAIN: dict[str, Any] = {
    "generator": {"widths": [8], "blocks": 0, "bottleneck": 1},
    "discriminator": {"widths": [4, 8], "scales": 1},
    "perceptual": {"network": "random", "layers": ["relu1_1"]},
    "fidelity": {"steps": 20, "learning_rate": 0.002},
    "realism": {"steps": 12, "learning_rate": 0.001, "perceptual": 0.05, "adversarial": 0.05},
    "batch": 2,
    "crop": 64,
    "scales": {"16to64": 1.0},
    "validate_every": 10,
    "valid_faces": 1,
    "precision": "fp32",
}
"""The section `train` of params: both phases in seconds."""


def train_project(folder: Path, **changes: Any) -> Path:
    """Inputs, manifest and params as the stages before `train` leave them; `changes` are of the section `train`."""
    images = write_inputs(folder / "data/inputs/train", [face(index, 256) for index in range(3)], "train")
    images += write_inputs(folder / "data/inputs/valid", [face(9, 256)], "valid")
    write_manifest(folder / "data/pairs.parquet", images)
    write_params(folder, train=TINY_TRAIN | changes)
    return folder
