"""Find what a picture has suffered, for a generator that is told: a JPEG's quality, noise, hidden 8x8 blocks.

A JPEG file says its quality by its tables. Of all others only the pixels tell.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from pipeline.core.chain import standard_tables, told
from pipeline.core.images import Planes, decoder_errors, open_image
from pipeline.core.schema import Row
from pipeline.upscale.blocks import hidden_quality, in_blocks

LEAST_NOISE: Final = 0.8
"""Sigma, grey levels, below which noise is not told: texture of clean pictures looks like it."""
_SIDE: Final = 1024
"""Of the middle of a picture that is looked at, pixels."""
_BLOCK: Final = 8
"""Side of the blocks among which flat ones are chosen, coefficients."""
_FLAT: Final = 0.1
"""Share of the blocks that count as flat."""
_TEXTURED: Final = 0.2
"""Share of the blocks that count as textured."""
_SHARP: Final = 0.05
"""Power of the finest diagonal band, against the one twice as coarse, above which a picture is sharp. 60 photographs
reduced to 256 have .053 to .4; blurred by .5 pixels .03 to .19, by .6 .02 to .1, by 1 less than .015."""
_SUBSAMPLINGS: Final = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}


@dataclass(frozen=True)
class Found:
    """What a picture has suffered."""

    jpeg: float | None = None
    """Quality of a JPEG file, 1 to 100, that of other tables than the standard's by their mean step."""
    subsampling: str | None = None
    """Of its chroma: 4:4:4, 4:2:2 or 4:2:0; None where it is another, or no JPEG."""
    noise: float = 0.0
    """Sigma, grey levels, mean of the channels; 0 where the picture is compressed, which reshapes noise."""
    blocks: float | None = None
    """Quality of a JPEG compression that the pixels still show, where the file is no JPEG."""
    sharp: bool = False
    """Neither compressed nor noisy, and its finest texture is as strong, against what is coarser, as reduction leaves
    it: a blur of half a pixel takes most of it away."""

    @property
    def compressed(self) -> bool:
        """True if it is a JPEG, or was one."""
        return self.jpeg is not None or self.blocks is not None

    @property
    def told(self) -> tuple[float, float]:
        """Values of `core.chain.TOLD`'s planes; noise below `LEAST_NOISE` counts as none."""
        return told(self.blocks if self.jpeg is None else self.jpeg, self.noise if self.noise >= LEAST_NOISE else None)


def columns_of(found: Found) -> Row:
    """Make the columns `jpeg_quality`, `noise` and `blocks` of `core.schema.UPSCALE_MANIFEST`."""
    values = {"jpeg_quality": found.jpeg, "noise": None if found.compressed else found.noise, "blocks": found.blocks}
    return {name: None if value is None else round(value, 2) for name, value in values.items()}


def find_degradation(pixels: Planes, data: bytes | None) -> Found:
    """Find what a picture has suffered.

    Args:
        pixels: uint8 or uint16 (h, w, 1 to 4).
        data: the file that they were decoded from; None where there is none.
    """
    if data is not None and data.startswith(b"\xff\xd8"):
        with decoder_errors():
            image = open_image(data, None)
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            return Found(jpeg_quality(image), _SUBSAMPLINGS.get(JpegImagePlugin.get_sampling(image)))
    middle = _middle(pixels)
    blocks = hidden_quality(middle)
    if blocks is not None:
        return Found(blocks=blocks)
    noise, sharpness = _noise_and_sharpness(middle)
    return Found(noise=noise, sharp=noise < LEAST_NOISE and sharpness > _SHARP)


def jpeg_quality(image: Image.Image) -> float | None:
    """Quality of an opened JPEG by its luma table, so that `table_factor` of it is mean step / mean standard step."""
    tables: dict[int, list[int]] = getattr(image, "quantization", {})
    if not tables:
        return None
    factor = float(np.mean(tables[min(tables)]) / np.mean(standard_tables()[0]))
    return float(np.clip(100 - 50 * factor if factor < 1 else 50 / factor, 1, 100))


def _noise_and_sharpness(planes: NDArray[Any]) -> tuple[float, float]:
    """Estimate noise from a picture's flattest blocks, where texture hides it least, and sharpness from textured ones.

    Args:
        planes: float (h, w, c), grey levels.

    Returns:
        Sigma, grey levels, root of the channels' mean square, and the power of the finest band over that of the one
        twice as coarse, where there is most of it; 0 where a picture is too small.
    """
    if min(planes.shape[:2]) < 5 * _BLOCK:
        return 0.0, 0.0
    channels = [_bands(planes[..., channel].astype(np.float32)) for channel in range(planes.shape[2])]
    sigma = float(np.sqrt(np.mean([_channel_sigma(*bands) ** 2 for bands in channels])))
    powers = np.sum([_texture(fine, coarse) for fine, coarse, _, _ in channels], axis=0)
    return sigma, float(powers[0] / max(powers[1], 1e-6))


_DETAIL: Final = np.array([0.1294095226, 0.2241438680, -0.8365163037, 0.4829629131], np.float32)
_SMOOTH: Final = _DETAIL[::-1] * np.array([1, -1, 1, -1], np.float32)
"""Filters of Daubechies' wavelet with two vanishing moments, which sees neither slopes nor noise of other bands."""
_TEXTURE: Final = 0.25
"""Variance of clean pictures' texture in the finest diagonal band, against the one twice as coarse."""
_FEWEST: Final = 8


def _bands(channel: NDArray[np.float32]) -> list[NDArray[Any]]:
    """Blocks of one channel (h, w): its finest diagonal band, the one twice as coarse, slopes, and levels."""
    fine = _both(channel, _DETAIL)
    wide = np.zeros(7, np.float32)
    wide[::2] = _DETAIL
    coarse = _both(_both(channel, _SMOOTH / np.float32(np.sqrt(2))), wide) * np.float32(2)
    mean = _both(channel, np.full(5, 0.2, np.float32))
    slope = np.abs(mean[4:, 2:-2] - mean[:-4, 2:-2]) + np.abs(mean[2:-2, 4:] - mean[2:-2, :-4])
    height, width = coarse.shape[0] - 1, coarse.shape[1] - 1
    return [in_blocks(plane[:height, :width]) for plane in (fine[3:, 3:], coarse, slope, channel[4:, 4:])]


def _channel_sigma(fine: NDArray[Any], coarse: NDArray[Any], slope: NDArray[Any], levels: NDArray[Any]) -> float:
    """Noise of one channel: median of the finest diagonal band in flat blocks, less what is texture."""
    # noise is cut off at black and white
    inside = (levels.min(axis=(1, 2)) > 8) & (levels.max(axis=(1, 2)) < 247)
    if inside.sum() >= _FEWEST:
        fine, coarse, slope = fine[inside], coarse[inside], slope[inside]
    flat = np.argsort(slope.mean(axis=(1, 2)), kind="stable")[: max(_FEWEST, round(_FLAT * len(slope)))]
    sigma, texture = (float(np.median(np.abs(band[flat]))) / 0.6745 for band in (fine, coarse))
    return float(np.sqrt(max(0.0, sigma**2 - _TEXTURE * texture**2) / (1 - _TEXTURE)))


def _texture(fine: NDArray[Any], coarse: NDArray[Any]) -> tuple[float, float]:
    """Power of both bands of a channel in the blocks where the coarse one is strongest."""
    powers = np.square(coarse).mean(axis=(1, 2))
    most = np.argsort(-powers, kind="stable")[: max(_FEWEST, round(_TEXTURED * len(powers)))]
    return float(np.square(fine[most]).sum()), float(np.square(coarse[most]).sum())


def _both(plane: NDArray[Any], taps: NDArray[np.float32]) -> NDArray[Any]:
    """Filter rows and columns, valid area."""
    for axis in (0, 1):
        count = plane.shape[axis] - len(taps) + 1
        # slices, which are not copied
        slices = [plane[at : at + count] if axis == 0 else plane[:, at : at + count] for at in range(len(taps))]
        total = slices[0] * taps[0]
        product = np.empty_like(total)
        for tap, moved in zip(taps[1:], slices[1:], strict=True):
            if tap:
                total += np.multiply(moved, tap, out=product)
        plane = total
    return plane


def _middle(pixels: Planes) -> NDArray[Any]:
    """Colours of the middle, at most `_SIDE` pixels a side, as float32 grey levels (h, w, 1 or 3)."""
    height, width, channels = pixels.shape
    top, left = max(0, height - _SIDE) // 2, max(0, width - _SIDE) // 2
    cut: NDArray[Any] = pixels[top : top + _SIDE, left : left + _SIDE, : 3 if channels > 2 else 1]
    return cut.astype(np.float32) / np.float32(257 if pixels.dtype == np.uint16 else 1)
