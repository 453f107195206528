"""How chains of degradations are drawn: which pairs get one, how often which links, and how strong these are."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.core.chain import REDUCTIONS, Subsampling
from pipeline.core.limits import Blur, Limits, Noise, Quality, Share, Weight


@dataclass(frozen=True, kw_only=True)
class ChainRanges:
    """How often pairs get which links of a chain, and how strong these are: drawn evenly from each range."""

    share: Share = 0.7
    """Of the pairs that get a chain, though it may turn out empty."""
    share_of_use: Share | None = None
    """The same of those at the scale of use, where clean pairs teach little; None: as many."""
    blur_chance: Share = 0.4
    blur: tuple[Blur, Blur] = (0.2, 1.5)
    """Sigma, pixels of the input."""
    noise_chance: Share = 0.4
    noise: tuple[Noise, Noise] = (0.5, 10.0)
    """Sigma, grey levels."""
    grey_chance: Share = 0.5
    """Of noise that the channels have partly in common."""
    jpeg_chance: Share = 0.65
    jpeg: tuple[Quality, Quality] = (30, 95)
    subsampling: Annotated[dict[Subsampling, Weight], Limits(min_length=1)] = field(
        default_factory=lambda: {"4:2:0": 0.75, "4:2:2": 0.1, "4:4:4": 0.15}
    )
    """Relative chances."""
    tables_chance: Share = 0.15
    """Of other tables than the standard's."""
    twice_chance: Share = 0.15
    """Of an earlier compression, 10 to 30 better in quality or worse, with its blocks shifted in half of the cases."""
    reduction_chance: Share = 0.15
    """Of another reduction than bicubic; only where the ground truth is larger than the input."""

    @property
    def of_use(self) -> float:
        """Share of the pairs at the scale of use that get a chain."""
        return self.share if self.share_of_use is None else self.share_of_use

    def __post_init__(self) -> None:
        if not sum(self.subsampling.values()):
            raise ValueError("subsampling: at least one needs a chance above 0")
        for name in ("blur", "noise", "jpeg"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the range {low} to {high} is upside down")


DRAWS: Final = 15
"""Numbers that a chain is drawn from."""


def draw_chains(shares: NDArray[np.float64], ranges: ChainRanges, reduced: NDArray[np.bool_]) -> dict[str, list[Any]]:
    """Draw chains for many rows at once.

    Args:
        shares: (n, DRAWS), from 0 to 1.
        ranges: chances and strengths.
        reduced: (n,), rows whose input is reduced from a ground truth, which may be done otherwise than by bicubic;
            the others are at the scale of use.

    Returns:
        Columns of Chain by name, None where there is no such link.
    """
    u = iter(shares.T)
    damaged = next(u) < np.where(reduced, ranges.share, ranges.of_use)

    def happens(chance: float, among: NDArray[np.bool_] = damaged) -> NDArray[np.bool_]:
        return among & (next(u) < chance)

    def between(span: tuple[float, float], digits: int) -> NDArray[np.float64]:
        return np.round(span[0] + (span[1] - span[0]) * next(u), digits)

    def column(chosen: NDArray[np.bool_], values: Any, kind: Callable[[Any], Any] = float) -> list[Any]:
        return [kind(value) if there else None for there, value in zip(chosen, values, strict=True)]

    kinds, weights = zip(*sorted(ranges.subsampling.items()), strict=True)
    edges = np.cumsum(weights) / np.sum(weights)
    blurred, blur = happens(ranges.blur_chance), between(ranges.blur, 3)
    noisy, noise = happens(ranges.noise_chance), between(ranges.noise, 3)
    grey = happens(ranges.grey_chance, noisy)
    share = np.round(next(u), 3)
    saved, quality = happens(ranges.jpeg_chance), between(ranges.jpeg, 0)
    subsampled = np.array(kinds)[np.searchsorted(edges, next(u), side="right").clip(max=len(kinds) - 1)]
    flat = happens(ranges.tables_chance, saved)
    twice = happens(ranges.twice_chance, saved)
    before = next(u)
    first = np.clip(np.round(quality + 60 * (before - 0.5)), max(1, ranges.jpeg[0]), 100)
    shifted = next(u)
    shift = np.where(shifted < 0.5, 0, np.ceil((shifted - 0.5) * 30)).clip(max=15)
    otherwise = happens(ranges.reduction_chance, damaged & reduced)
    reduction = np.array(REDUCTIONS)[(before * len(REDUCTIONS)).astype(int).clip(max=len(REDUCTIONS) - 1)]
    return {
        "reduction": column(otherwise, reduction, str),
        "blur": column(blurred, blur),
        "noise": column(noisy, noise),
        "grey": column(grey, share),
        "first_jpeg": column(twice, first, int),
        "shift": column(twice, shift, int),
        "jpeg": column(saved, quality, int),
        "subsampling": column(saved, subsampled, str),
        "tables": column(flat, np.full(len(flat), "flat"), str),
    }
