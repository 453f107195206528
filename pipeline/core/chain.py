"""What happens to pictures in archives, as a chain: reduction, blur, noise, and JPEG compression once or twice.

A chain is a part of the pairs manifest's row: with the row's seed it determines what an input suffers bit for bit.
`pipeline.core.chain_draws` draws them. The paper's "one of noise, blur or JPEG" is `pipeline.core.degradation`'s.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.images import Pixels, decode, resize, rounded
from pipeline.core.scales import FACTOR

Reduction = Literal["box", "lanczos", "bilinear", "aliased", "halves"]
"""How a picture was made smaller, where not by bicubic: `aliased` is bilinear without antialiasing, as OpenCV and old
browsers do it; `halves` twice by the mean of 2x2 pixels, as phones do it."""
Subsampling = Literal["4:2:0", "4:2:2", "4:4:4"]
Tables = Literal["flat"]
"""Quantisation tables other than the JPEG standard's: `flat` spares high frequencies, as cameras' and editors' do."""

TOLD: Final = ("jpeg", "noise")
"""What a generator can be told of its input, one plane each: 0 is clean."""
TOLD_NOISE: Final = 10.0
"""Sigma, grey levels, whose plane is 1."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """What one input suffers, in this order; None where it does not."""

    reduction: Reduction | None = None
    """How it was reduced from the ground truth; None: by bicubic."""
    blur: float | None = None
    """Sigma of a Gaussian, pixels of the input."""
    noise: float | None = None
    """Sigma, grey levels."""
    grey: float | None = None
    """Share of the noise's variance that the three channels have in common, 0 to 1."""
    first_jpeg: int | None = None
    """Quality of an earlier JPEG compression, 4:2:0."""
    shift: int | None = None
    """By how many pixels its blocks were shifted against those of the later one, 0 to 15."""
    jpeg: int | None = None
    """Quality of the JPEG compression, 1 to 100."""
    subsampling: Subsampling | None = None
    """Of its chroma."""
    tables: Tables | None = None
    """None: the standard's."""

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "Chain":
        """Chain of a manifest's row; manifests of before have no such columns."""
        return cls(**{name: row.get(name) for name in CHAIN_COLUMNS})

    def to_dict(self) -> dict[str, Any]:
        """Links that are there, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def told(self) -> tuple[float, float]:
        """Values of TOLD's planes. Noise under a compression is not told: the compression has reshaped it."""
        return told(self.jpeg, self.noise if self.jpeg is None else None)


CHAIN_COLUMNS: Final = tuple(link.name for link in fields(Chain))


def told(jpeg: float | None, noise: float | None) -> tuple[float, float]:
    """Make the values of TOLD's planes.

    Args:
        jpeg: quality, 1 to 100: the plane is the square root of the factor by which it scales the standard tables, so
            1 at quality 50, .71 at 75, .32 at 95.
        noise: sigma, grey levels.
    """
    return 0.0 if jpeg is None else table_factor(jpeg) ** 0.5, (noise or 0.0) / TOLD_NOISE


def table_factor(quality: float) -> float:
    """Factor by which libjpeg scales the standard's quantisation tables at a quality from 1 to 100."""
    return (5000 / quality if quality < 50 else 200 - 2 * quality) / 100


def reduce_by(image: Pixels, reduction: str | None) -> Pixels:
    """Reduce 4 times: uint8 (h, w, 3) -> uint8 (h/4, w/4, 3)."""
    height, width = image.shape[0] // FACTOR, image.shape[1] // FACTOR
    image = np.ascontiguousarray(image)
    if reduction is None:
        return resize(image, height, width)
    return _REDUCERS[reduction](image, width, height)


def _resized(kernel: Image.Resampling) -> Callable[[Pixels, int, int], Pixels]:
    return lambda image, width, height: np.asarray(Image.fromarray(image).resize((width, height), kernel))


def _aliased(image: Pixels, width: int, height: int) -> Pixels:
    """Bilinear at the middle of each 4x4 pixels, which are the inner four; the others are never looked at."""
    inner = image[: FACTOR * height, : FACTOR * width].reshape(height, FACTOR, width, FACTOR, 3)[:, 1:3, :, 1:3]
    return rounded(inner.mean(axis=(1, 3), dtype=np.float32))


def _halves(image: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(Image.fromarray(image).reduce(2).reduce(2).crop((0, 0, width, height)))


_REDUCERS: Final[dict[str, Callable[[Pixels, int, int], Pixels]]] = {
    "box": _resized(Image.Resampling.BOX),
    "lanczos": _resized(Image.Resampling.LANCZOS),
    "bilinear": _resized(Image.Resampling.BILINEAR),
    "aliased": _aliased,
    "halves": _halves,
}
REDUCTIONS: Final = tuple(_REDUCERS)
"""Ways other than bicubic."""


def degrade_by(image: Pixels, chain: Chain, seed: int) -> Pixels:
    """Apply all of a chain but its reduction to an input.

    Args:
        image: uint8 (h, w, 3).
        chain: what it suffers.
        seed: of the noise.
    """
    image, file = degrade_to_file(image, chain, seed)
    return image if file is None else decode(file)


def degrade_to_file(image: Pixels, chain: Chain, seed: int) -> tuple[Pixels, bytes | None]:
    """As `degrade_by`, with the last compression as a file beside what went into it; None where there is none."""
    image = _before_jpeg(image, chain, seed)
    if not chain.jpeg:
        return image, None
    return image, _to_jpeg(image, chain.jpeg, chain.subsampling or "4:2:0", chain.tables)


def _before_jpeg(image: Pixels, chain: Chain, seed: int) -> Pixels:
    if chain.blur:
        image = rounded(gaussian(image, chain.blur))
    if chain.noise:
        random = np.random.Generator(np.random.PCG64(seed))
        grey = chain.grey or 0.0
        noise = (1 - grey) ** 0.5 * random.standard_normal(image.shape, dtype=np.float32)
        if grey:
            noise += grey**0.5 * random.standard_normal((*image.shape[:2], 1), dtype=np.float32)
        image = rounded(image + chain.noise * noise)
    if chain.first_jpeg:
        shift = chain.shift or 0
        moved = np.pad(image, ((shift, 0), (shift, 0), (0, 0)), mode="edge")
        image = compress(moved, chain.first_jpeg, "4:2:0")[shift:, shift:]
    return image


def gaussian(image: Pixels, sigma: float) -> NDArray[np.float32]:
    """Blur by a Gaussian of `sigma` pixels, edges reflected: (h, w, 3) -> float32 (h, w, 3), neither rounded nor cut.

    Pillow's filter is three boxes, each rounded to whole grey levels: that noise is what deblurring would learn.
    """
    reach = min(max(1, round(4 * sigma)), min(image.shape[:2]) - 1)
    taps = np.exp(-((np.arange(-reach, reach + 1) / sigma) ** 2) / 2).astype(np.float32)
    taps /= taps.sum()
    result = image.astype(np.float32)
    for axis in (0, 1):
        padding = [(reach, reach) if axis == side else (0, 0) for side in range(3)]
        padded = np.pad(result, padding, mode="reflect")
        length = result.shape[axis]
        result = np.zeros_like(result)
        for offset, tap in enumerate(taps):
            result += tap * padded.take(range(offset, offset + length), axis=axis)
    return result


def compress(image: Pixels, quality: int, subsampling: str, tables: str | None = None) -> Pixels:
    """Save as JPEG and read again: uint8 (h, w, 3) -> the same shape."""
    return decode(_to_jpeg(image, quality, subsampling, tables))


def _to_jpeg(image: Pixels, quality: int, subsampling: str, tables: str | None) -> bytes:
    how: dict[str, Any] = {"quality": quality} if tables is None else {"qtables": _flat_tables(quality)}
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", subsampling=subsampling, **how)
    return buffer.getvalue()


@cache
def standard_tables() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Luma's and chroma's quantisation tables of the JPEG standard, those of quality 50, in Pillow's order."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=50)
    tables: dict[int, list[int]] = Image.open(buffer).quantization  # type: ignore[attr-defined]
    return tuple(tables[0]), tuple(tables[1])


def _flat_tables(quality: int) -> list[list[int]]:
    """Tables whose steps grow half as fast (in logarithms) with frequency as the standard's, equally coarse in all."""
    made = []
    for table in standard_tables():
        steps = np.sqrt(table)
        steps *= table_factor(quality) * np.mean(table) / np.mean(steps)
        made.append(np.clip(np.rint(steps), 1, 255).astype(int).tolist())
    return made
