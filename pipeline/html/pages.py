"""Pages that are one file each and need no network: their templates, and pictures embedded within a budget."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from pipeline.core.errors import only_names
from pipeline.core.images import Pixels, encode_jpeg, resize
from pipeline.core.scales import FACTOR

_MARGIN = 4
"""Input pixels around a detail that is enlarged, so that bicubic sees what lies beyond its border; it reaches 2."""


def environment(package: str) -> Environment:
    """Templates of a package's own `templates/` folder, with those that all pages share (`slider.html.j2`)."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("pipeline.html")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def shareable(value: Any) -> Any:
    """JSON values as a page may show them, which is passed on: of absolute paths and URIs only the names."""
    if isinstance(value, dict):
        return {str(name): shareable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shareable(inner) for inner in value]
    return only_names(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class EmbeddedImage:
    """A picture as JPEG in a data: URI."""

    uri: str
    width: int
    height: int


def embed(attempts: Iterable[tuple[Mapping[str, Pixels], int]], budget: int) -> dict[str, EmbeddedImage]:
    """Encode pictures by the first of several attempts that fits; the last one is taken whatever it takes.

    Args:
        attempts: pictures by name and JPEG quality, the best first.
        budget: characters that all URIs may take together.
    """
    embedded: dict[str, EmbeddedImage] = {}
    for images, quality in attempts:
        embedded = {name: _jpeg_uri(pixels, quality) for name, pixels in images.items()}
        if sum(len(image.uri) for image in embedded.values()) <= budget:
            break
    return embedded


def _jpeg_uri(pixels: Pixels, quality: int) -> EmbeddedImage:
    text = base64.b64encode(encode_jpeg(pixels, quality)).decode()
    return EmbeddedImage(f"data:image/jpeg;base64,{text}", pixels.shape[1], pixels.shape[0])


def details(high: Pixels, low: Pixels, side: int) -> dict[str, Pixels]:
    """The middle of a result at its own size, `side` pixels at most, and of its input, enlarged by bicubic."""
    lows, highs, inner = [], [], []
    for length, full in zip(low.shape[:2], high.shape[:2], strict=True):
        count = max(1, min(side // FACTOR, length))
        start = (length - count) // 2
        first, last = max(0, start - _MARGIN), min(length, start + count + _MARGIN)
        lows.append(slice(first, last))
        highs.append(slice(FACTOR * start, min(FACTOR * (start + count), full)))
        inner.append(slice(FACTOR * (start - first), FACTOR * (start - first) + highs[-1].stop - highs[-1].start))
    piece = np.ascontiguousarray(low[lows[0], lows[1]])
    enlarged = resize(piece, FACTOR * piece.shape[0], FACTOR * piece.shape[1])
    return {"detail-before": enlarged[inner[0], inner[1]], "detail-after": high[highs[0], highs[1]]}
