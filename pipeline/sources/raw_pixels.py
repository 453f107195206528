"""Raw pixels as the bytes of a picture: what containers that hold no encoded files hand over."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.images import encode_png
from pipeline.sources.base import SourceError


def png_of(planes: NDArray[Any]) -> bytes:
    """uint8 (1 or 3, height, width), 0-255 -> a PNG that keeps every pixel; one channel stays grey.

    Raises:
        SourceError: another type or shape.
    """
    if planes.dtype != np.uint8 or planes.ndim != 3 or planes.shape[0] not in (1, 3) or 0 in planes.shape:
        raise SourceError(
            f"not pixels of a picture ({planes.dtype} of shape {planes.shape}, not uint8 of 1 or 3 planes)"
        )
    if planes.shape[0] == 3:
        return encode_png(np.ascontiguousarray(planes.transpose(1, 2, 0)))
    buffer = io.BytesIO()
    Image.fromarray(planes[0]).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
