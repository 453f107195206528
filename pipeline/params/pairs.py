"""The `pairs` section of params.yaml: seeds, chances and strengths of the training pairs."""

from typing import Literal, Self

from pydantic import model_validator

from pipeline.core.chain_draws import ChainRanges
from pipeline.core.degradation import Degradations
from pipeline.core.limits import Blur, Count, Noise, Positive, Quality, Weight
from pipeline.core.scales import AUGMENTATIONS, CHANCES
from pipeline.params.base import Section


class Pairs(Section):
    """Inputs of at most 256x256 and the manifest of multi-scale training pairs."""

    seed: Count
    draws: Positive = 4
    """Pairs drawn per training face and scale."""
    augmentations: dict[Literal[AUGMENTATIONS], Weight] = CHANCES  # type: ignore[valid-type]
    """Relative chance of each augmentation."""
    noise: tuple[Noise, Noise] = (1.0, 6.0)
    """Range of sigma, grey levels of 255."""
    blur: tuple[Blur, Blur] = (0.2, 0.6)
    """Range of sigma, pixels of the low-resolution side."""
    jpeg: tuple[Quality, Quality] = (75, 95)
    """Range of quality."""
    chain: ChainRanges | None = None
    """Degradations as real archives have them, beside the augmentation; null: the paper's "one of" alone."""
    of_use: Count = 0
    """Pairs drawn per training face at the scale of use: the degraded face itself, whose result is compared with the
    clean one after it was reduced 4 times."""
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

    def degradation(self) -> Degradations:
        """How pairs and augmented inputs are drawn."""
        return Degradations(self.seed, dict(self.augmentations), self.noise, self.blur, self.jpeg, self.chain)
