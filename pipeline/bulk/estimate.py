"""Time and space of a run, before it starts: measured on a few pictures of the archive itself."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.bulk.plan import Item
from pipeline.bulk.settings import Settings
from pipeline.codecs.reader import Picture, read_picture
from pipeline.codecs.writer import encode_picture, loss_note
from pipeline.core.errors import FacesrError
from pipeline.core.images import eight_bit_rgb, resize
from pipeline.core.scales import FACTOR
from pipeline.core.shards import evenly_spaced
from pipeline.sources.base import Source
from pipeline.upscale.upscaler import Upscaler

SAMPLES = 6
LARGEST_SAMPLE = 1024 * 1024
"""Pixels of a sample's input above which only a part of it is encoded."""
SIDE = 96
"""Of the picture that the network is timed on."""


@dataclass(frozen=True)
class Estimate:
    """Time and space of a whole run."""

    bytes: int
    """Of all results together."""
    seconds: float | None
    """Of one worker for all of them; None where the network was not timed."""


def estimate(source: Source, items: Sequence[Item], settings: Settings, upscaler: Upscaler | None) -> Estimate:
    """Decode, enlarge by repetition and encode a few pictures; time the network, if given, on a small one.

    Returns:
        Sums for all `items`; pictures that cannot be read count for nothing.
    """
    readable = [item for item in items if not item.problem]
    samples = []
    for index in evenly_spaced(len(readable), SAMPLES):
        start = time.perf_counter()
        try:
            picture = read_picture(source.read(readable[index].key))
            part, encoded = _encoded(picture, settings, readable[index].target)
        except (FacesrError, OSError):
            continue
        count = picture.pixels.shape[0] * picture.pixels.shape[1]
        samples.append(((time.perf_counter() - start) * count / part, count, encoded * count / part))
    if not samples:
        return Estimate(0, 0.0)
    seconds, pixels, size = len(readable) * np.mean(samples, axis=0)
    return Estimate(int(size), None if upscaler is None else float(seconds + pixels * _network(upscaler)))


def _encoded(picture: Picture, settings: Settings, target: str) -> tuple[int, int]:
    """Pixels of the input, or of the part of it that was tried, and the bytes of its result."""
    low = picture.pixels
    while low.shape[0] * low.shape[1] > LARGEST_SAMPLE:
        low = low[: -(-low.shape[0] // 2), : -(-low.shape[1] // 2)]
    kind = settings.format_of(target)
    loss_note(kind, FACTOR * low.shape[1], FACTOR * low.shape[0], low.shape[2], 8 * low.itemsize)
    # smooth as a result is: repeated pixels would compress far too well
    high = resize(eight_bit_rgb(low), FACTOR * low.shape[0], FACTOR * low.shape[1])
    data = encode_picture(high, picture.metadata, kind, settings.quality, settings.provenance_tag)
    more = low.itemsize * low.shape[2] / 3 if kind == "png" else 1
    return low.shape[0] * low.shape[1], round(more * len(data))


def _network(upscaler: Upscaler) -> float:
    """Seconds for an input pixel."""
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    upscaler.batch([picture])
    start = time.perf_counter()
    upscaler.batch([picture])
    return (time.perf_counter() - start) / SIDE**2
