"""Near-duplicate detection: a perceptual hash, and the groups that must not be torn apart.

Identical pixels are found by their hash. Copies that were saved again, resized or brightened a little are found by a
perceptual hash of 256 bits. Everything here is whole numbers, so that every machine finds the same groups.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pipeline.core.images import Pixels

Indices = NDArray[np.int64]

BITS = 256
"""Of a perceptual hash."""

_SIDE, _KEPT, _THUMB = 64, 16, 8
_SCALE = 1 << 12
_COSINES = np.rint(_SCALE * np.cos(np.pi / _SIDE * np.outer(np.arange(1, _KEPT + 1), np.arange(_SIDE) + 0.5))).astype(
    np.int64
)
"""Rows 1 to 16 of the discrete cosine transform: the mean, row 0, says nothing about what is shown."""
_FLAT = 2.0
"""Standard deviation, grey levels, below which a picture shows nothing that could be told from noise."""
_COLOUR = 24
"""Mean difference of 8x8 thumbnails, grey levels, above which pictures of one pattern are different ones."""
_PRODUCTS = 1 << 22
"""Pairs compared at once: 16 MB of products."""
_CHECKED = 1 << 15
"""Pairs whose colours are compared at once."""


def fingerprint(pixels: Pixels) -> bytes:
    """What `near_duplicates` compares: 32 bytes of perceptual hash and an 8x8 RGB thumbnail; empty for a flat picture.

    The hash is the one described as pHash (Zauner, *Implementation and Benchmarking of Perceptual Image Hash
    Functions*, 2010), larger: of the grey picture reduced to 64x64, the signs of the 16x16 lowest frequencies of its
    cosine transform against their median.

    Args:
        pixels: uint8 (h, w, 3).
    """
    small = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=1.0)
    grey = np.asarray(small.convert("L"), np.int64)
    if grey.std() < _FLAT:
        return b""
    spectrum = _COSINES @ grey @ _COSINES.T
    bits = np.packbits((spectrum > np.median(spectrum)).ravel())
    return bits.tobytes() + small.resize((_THUMB, _THUMB), Image.Resampling.BOX).tobytes()


def near_duplicates(
    fingerprints: Sequence[bytes], distance: int, advance: Callable[[int], None] = lambda count: None
) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of pictures whose hashes differ in at most `distance` of 256 bits: indices of the ones, and of the others.

    Every picture is compared with every other, about 50 million pairs a second on a core. Pairs come in portions, since
    of an archive that repeats itself there are millions.

    Args:
        fingerprints: of `fingerprint`.
        distance: most bits that differ.
        advance: told how many pictures are done.
    """
    filled = np.flatnonzero([bool(value) for value in fingerprints])
    if len(filled) < 2:
        return
    table = np.frombuffer(b"".join(filter(None, fingerprints)), np.uint8).reshape(len(filled), -1)
    # as -1 and 1, so that a product of matrices counts the bits that agree: whole numbers, exact also in float32
    signs = np.unpackbits(table[:, : BITS // 8], axis=1).astype(np.float32) * 2 - 1
    thumbs = table[:, BITS // 8 :].astype(np.int16)
    rows = max(1, _PRODUCTS // len(filled))
    for start in range(0, len(filled), rows):
        block = signs[start : start + rows]
        first, second = np.nonzero(block @ signs[start:].T >= BITS - 2 * distance)
        later = second > first
        first, second = first[later] + start, second[later] + start
        for low in range(0, len(first), _CHECKED):
            left, right = first[low : low + _CHECKED], second[low : low + _CHECKED]
            alike = np.abs(thumbs[left] - thumbs[right]).mean(axis=1) <= _COLOUR
            if alike.any():
                yield filled[left[alike]], filled[right[alike]]
        advance(len(block))


def joined(groups: Indices, first: Indices, second: Indices) -> Indices:
    """Groups after links between things.

    Args:
        groups: the group of each thing: the lowest index in it.
        first: indices of linked things.
        second: what each of them is linked with.

    Returns:
        The same for the groups that links join, directly or not.
    """
    everything = np.arange(len(groups))
    links = np.concatenate([everything, first]), np.concatenate([groups, second])
    graph = coo_matrix((np.ones(len(links[0]), bool), links), shape=(len(groups), len(groups)))
    count, component = connected_components(graph, directed=False)
    lowest = np.full(count, len(groups))
    np.minimum.at(lowest, component, everything)
    return lowest[component]


def same(labels: Sequence[Hashable | None]) -> tuple[Indices, Indices]:
    """Links, as `joined` takes them, that join all things of one label; None joins nothing."""
    last: dict[Hashable, int] = {}
    links = []
    for index, label in enumerate(labels):
        if label is not None:
            if label in last:
                links.append((last[label], index))
            last[label] = index
    table = np.array(links, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
