"""What rebuilds generator and discriminator, without torch, so that params are read and validated without it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args

from pipeline.core.chain import TOLD
from pipeline.core.limits import Count, Limits, Positive

Norm = Literal["none", "instance"]
Residual = Literal["scaled", "zero"]
Tail = Literal["shuffle", "resize"]


@dataclass(frozen=True)
class GeneratorConfig:
    """All that is needed to rebuild a generator."""

    widths: Annotated[tuple[Positive, ...], Limits(min_length=1, max_length=4)] = (64,)
    """Channels at input size, at half of it, at a quarter …: one entry is a plain network without encoder."""
    blocks: Count = 2
    """Residual blocks on each encoder and each decoder level."""
    bottleneck: Positive = 8
    """Residual blocks at the smallest size."""
    norm: Norm = "none"
    residual: Residual = "scaled"
    """`scaled`: both branches of a block start at full strength and their sum is divided by sqrt(2), as in StarGAN v2.
    `zero`: a plain sum whose residual branch starts at zero, so that an untrained chain of blocks changes nothing."""
    tail: Tail = "shuffle"
    """`shuffle`: one convolution and a pixel shuffle. `resize`: nearest up and a convolution, twice: it costs a fifth
    more and hardly draws a grid on smooth skin, as a pixel shuffle trained with a discriminator does."""
    even: Count = 0
    """Side of a window, input pixels, odd: over it the 16 sub-pixel positions of what is drawn get equal means, so that
    no grid of period 4 is left. 0: off."""
    told: tuple[str, ...] = ()
    """What it is told of its input, of `core.chain.TOLD` and in that order, one plane each: () is a blind network."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(int(width) for width in self.widths))
        object.__setattr__(self, "told", tuple(self.told))
        if not 1 <= len(self.widths) <= 4 or min(self.widths) < 1:
            # with more than 3 halvings a 16x16 input would shrink to less than 2x2
            raise ValueError(f"widths must be 1 to 4 positive channel counts, not {self.widths}")
        for name, kind in (("norm", Norm), ("residual", Residual), ("tail", Tail)):
            if getattr(self, name) not in (known := get_args(kind)):
                raise ValueError(f"{name} must be one of {known}, not {getattr(self, name)!r}")
        if self.told not in ((), TOLD):
            raise ValueError(f"told must be empty or {list(TOLD)}, not {list(self.told)}")
        if self.even < 0 or (self.even and self.even % 2 == 0):
            raise ValueError(f"even must be 0 or an odd number of pixels, not {self.even}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "GeneratorConfig":
        """Rebuild from what `asdict` gave.

        Raises:
            ValueError: a key that this version does not know.
        """
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown generator setting {sorted(unknown)}: written by a newer facesr?")
        return cls(**values)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """All that is needed to rebuild a discriminator."""

    widths: Annotated[tuple[Positive, ...], Limits(min_length=1)] = (32, 64, 128)
    """Channels before each halving and after the last."""
    scales: Positive = 2
    """Sizes at which it looks at an image: full, half, …"""
    spectral_norm: bool = False
    """Normalise every convolution's spectral norm (Miyato et al., ICLR 2018)."""
