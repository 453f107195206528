"""Decide what a generator is told of a picture: what was found, what was asked for, or that it is clean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from pipeline.core.chain import TOLD, told
from pipeline.core.chain_draws import ChainRanges
from pipeline.core.errors import FacesrError
from pipeline.upscale.estimate import Found


class Told(NamedTuple):
    """Values of the planes `core.chain.TOLD`."""

    jpeg: float = 0.0
    noise: float = 0.0


class Sharp(Told):
    """What is told of a picture that is clean and as sharp as reduced ones are: as `CLEAN`, and a case for weights that
    were trained on nothing else, where there are any.
    """


CLEAN: Final = Told()
SHARP: Final = Sharp()
Degradation = str | Mapping[str, float]
"""`auto`, `none`, or `{"jpeg": quality, "noise": sigma}`, either or both, also as text: `jpeg=60,noise=4`."""
_RANGES: Final = ChainRanges()
_STRONGEST: Final = told(_RANGES.jpeg[0], _RANGES.noise[1])
_HIGHEST: Final = {"jpeg": 100.0, "noise": 255.0}


class DegradationError(FacesrError):
    """A degradation that cannot be told."""


@dataclass(frozen=True)
class Telling:
    """How it is decided what a generator is told.

    Raises:
        DegradationError: there is no such degradation, or a share lies outside 0 to 1.
    """

    degradation: str = "auto"
    """In the form that `as_text` gives."""
    denoise: float = 1.0
    """Share of the noise that is told, 0 to 1: 0 keeps all of it."""
    deblock: float = 1.0
    """Share of the compression's strength that is told, 0 to 1."""

    def __post_init__(self) -> None:
        _values(self.degradation)
        for name in ("denoise", "deblock"):
            if not 0 <= getattr(self, name) <= 1:
                raise DegradationError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")

    @property
    def looks(self) -> bool:
        """True if pictures are looked at."""
        return self.degradation == "auto"

    def of(self, found: Found) -> Told:
        """What is told of a picture, no more than the strongest degradation that generators are trained on.

        As in training noise is not told of a compressed picture.

        Args:
            found: in the picture; counts only with `auto`.
        """
        if self.looks:
            jpeg, noise = found.told
        else:
            values = _values(self.degradation)
            jpeg, noise = told(values.get("jpeg"), None if "jpeg" in values else values.get("noise"))
        return Told(self.deblock * min(jpeg, _STRONGEST[0]), self.denoise * min(noise, _STRONGEST[1]))


def as_text(degradation: Degradation) -> str:
    """A degradation as one line, the same for the same: `auto`, `none` or `jpeg=60,noise=4`.

    Raises:
        DegradationError: there is no such degradation.
    """
    values = _values(degradation)
    if not values:
        return str(degradation)
    return ",".join(f"{name}={values[name]:g}" for name in TOLD if name in values)


def _values(degradation: Degradation) -> dict[str, float]:
    """Quality and sigma by name; empty for `auto` and `none`."""
    if degradation in ("auto", "none"):
        return {}
    try:
        if isinstance(degradation, str):
            pairs = [part.split("=") for part in degradation.split(",")]
            values = {name.strip(): float(value) for name, value in pairs}
        else:
            values = {name: float(value) for name, value in degradation.items()}
    except (TypeError, ValueError, AttributeError):
        values = {}
    lowest = {"jpeg": 1.0, "noise": 0.0}
    if not values or not all(name in TOLD and lowest[name] <= values[name] <= _HIGHEST[name] for name in values):
        raise DegradationError(
            f"degradation {degradation!s}: auto, none, or jpeg=1..100 (quality) and noise=0..255 (sigma, grey levels)"
        )
    return values
