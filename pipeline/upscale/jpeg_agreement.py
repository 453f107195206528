"""Make a result agree with what its JPEG file stores: reduced again, its coefficients lie near the stored ones.

A stored coefficient tells of the one before compression only in which interval it lay, one step wide. What a generator
has changed within an interval stays as it is; what has left it is brought back. Luma only: chroma, which most files
store at half the size, adds less than 0.01 dB.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import JpegImagePlugin
from torch import Tensor

from pipeline.core.errors import FacesrError
from pipeline.core.images import decoder_errors, open_image
from pipeline.core.scales import FACTOR
from pipeline.upscale.blocks import LUMA, SIDE, cosines

WIDTH: Final = 0.3
"""Of the intervals that are agreed with, steps: most coefficients lie nearer to the stored value than half a step. 0.5
has 0.01 to 0.03 dB more under strong compression, 0.3 keeps more of who it is, in every kind of input."""


@dataclass(frozen=True)
class Stored:
    """What a JPEG file stores of luma."""

    luma: NDArray[np.uint8]
    """(h, w), as it was before colours were made of it."""
    steps: NDArray[np.float32]
    """Of quantisation, (8, 8)."""


def read_stored(data: bytes) -> Stored | None:
    """Read what a JPEG file stores of luma.

    Args:
        data: a complete file.

    Returns:
        None where it is no JPEG of grey or of luma and chroma, or cannot be decoded.
    """
    try:
        with decoder_errors():
            return _read(data)
    except FacesrError:
        return None


def _read(data: bytes) -> Stored | None:
    image: Any = open_image(data, None)
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode not in ("L", "RGB"):
        return None
    layers: list[tuple[Any, ...]] = image.layer
    # a file may store red, green and blue: Adobe's mark says so, or the names of its components
    if len(layers) == 3 and (image.info.get("adobe_transform") == 0 or layers[0][0] == ord("R")):
        return None
    steps = np.reshape(image.quantization[layers[0][3]], (SIDE, SIDE)).astype(np.float32)
    if image.mode == "RGB":
        image.draft("YCbCr", image.size)
        if image.mode != "YCbCr":
            return None
    planes = np.asarray(image)
    return Stored(planes if planes.ndim == 2 else planes[..., 0], steps)


def agreed(result: Tensor, stored: Stored, steps: int, top: int = 0, left: int = 0) -> Tensor:
    """Bring a result to agree with a file, in so many steps.

    Args:
        result: (1, 3, 4h, 4w) in 0..1, all of the picture or a piece of it. Blocks that the piece cuts stay as they
            are, as do those that the picture's edge cuts.
        stored: of the whole picture.
        steps: of reducing, comparing, enlarging the difference and adding it.
        top: row of the input at which the piece begins.
        left: column.
    """
    size = (result.shape[2] // FACTOR, result.shape[3] // FACTOR)
    y, x = -top % SIDE, -left % SIDE
    part = stored.luma[top + y : top + size[0], left + x : left + size[1]]
    part = part[: len(part) // SIDE * SIDE, : part.shape[1] // SIDE * SIDE]
    if not part.size:
        return result
    rows, columns = slice(y, y + part.shape[0]), slice(x, x + part.shape[1])
    step = torch.from_numpy(stored.steps).to(result)
    weights = torch.from_numpy(LUMA).to(result)[:, None, None]
    matrix = torch.from_numpy(cosines()).to(result)
    # what was decoded was rounded to whole grey levels: the multiple that it came from is the nearest
    middle = (
        torch.round(_coefficients(torch.from_numpy(part.astype(np.float32)).to(result) - 128, matrix) / step) * step
    )
    reach = step * WIDTH / 2
    for _ in range(steps):
        reduced = F.interpolate(result, size=size, mode="bicubic", antialias=True)[0]
        found = _coefficients(255 * (reduced * weights).sum(0)[rows, columns] - 128, matrix)
        near = torch.minimum(torch.maximum(found, middle - reach), middle + reach)
        lacking = torch.zeros(size, dtype=result.dtype, device=result.device)
        blocks = matrix.T @ (near - found) @ matrix / 255
        lacking[rows, columns] = blocks.transpose(1, 2).reshape(part.shape)
        # of luma alone: the same for all three colours
        result = result + F.interpolate(lacking[None, None], size=result.shape[-2:], mode="bicubic", antialias=True)
    return result


def _coefficients(plane: Tensor, matrix: Tensor) -> Tensor:
    """(8 rows, 8 columns) -> (rows, columns, 8, 8)."""
    blocks = plane.reshape(plane.shape[0] // SIDE, SIDE, plane.shape[1] // SIDE, SIDE).transpose(1, 2)
    return matrix @ blocks @ matrix.T
