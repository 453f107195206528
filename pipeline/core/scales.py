"""Factor, sides, scales, splits and methods: the numbers and names that every stage shares."""

from typing import Final

FACTOR: Final = 4
"""A result's side is this many times its input's."""

SIDE: Final = 256
"""Largest side of an input of the pipeline, pixels."""

SPLITS: Final = ("train", "valid", "test")

MEASURED_SPLITS: Final = ("train", "test")
"""Splits that are enlarged and measured; `valid` only chooses between checkpoints."""

SCALES: Final = ("16to64", "32to128", "64to256")
"""Scales of the training pairs: input to ground truth, pixels."""

SCALE_OF_USE: Final = "256to1024"
"""Scale of pairs whose input is the degraded face itself and whose ground truth is the clean one: there is none at
1024, so a result is compared after it was reduced 4 times. Smaller faces have such pairs too."""

TRAINED_SCALES: Final = (*SCALES, SCALE_OF_USE)
"""Scales of the manifest's rows."""

GROUND_TRUTH_SIDE: Final = {"16to64": 64, "32to128": 128, "64to256": 256}
"""Side of the ground truth at each scale, pixels."""

UPSCALED_SCALES: Final = ("64to256", "256to1024")
"""Scales at which the splits are enlarged: input to result, pixels."""

AUGMENTED: Final = "-augmented"
"""Behind the name of a scale whose inputs have noise, blur or JPEG loss added."""

CHANCES: Final = {"none": 0.55, "rot90": 0.1, "rot180": 0.1, "rot270": 0.1, "noise": 0.05, "blur": 0.05, "jpeg": 0.05}
"""How often training pairs get each augmentation, unless params say otherwise."""

AUGMENTATIONS: Final = tuple(CHANCES)

QUARTER_TURNS: Final = {"rot90": 1, "rot180": 2, "rot270": 3}
"""Counter-clockwise."""

METHODS: Final = {"facesr": "fidelity", "facesr-realism": "realism"}
"""Method as named in reports -> its generator."""

BASELINE: Final = "bicubic"
"""What gains are measured against."""

BASELINES: Final = (BASELINE, "lanczos")
"""Baselines that need no shards: they are computed where they are measured."""


def base_of(scale: str) -> str:
    """Scale without what its inputs suffer: 256to1024-jpeg75 → 256to1024."""
    return scale.partition("-")[0]


def inputs_of(scale: str) -> str:
    """What the inputs of a measured scale suffer: 256to1024-jpeg75 → jpeg75; empty for clean ones."""
    return scale.partition("-")[2]
