"""Pages that are one file each and need no network: their templates, and pictures embedded within a budget."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from pipeline.core.images import Pixels, encode_jpeg


def environment(package: str) -> Environment:
    """Templates of a package's own `templates/` folder, with those that all pages share (`slider.html.j2`)."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("pipeline.html")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


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
