"""The pairs manifest: which pairs are made of which face, drawn from a seed, as batches of Arrow rows.

Every row follows from (seed, image id, scale, draw) alone: adding a face leaves the rows of all others as they were,
and the order of the faces changes nothing but the order of the rows.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.core.chain import CHAIN_COLUMNS
from pipeline.core.chain_draws import DRAWS, draw_chains
from pipeline.core.degradation import Degradations
from pipeline.core.errors import FacesrError
from pipeline.core.scales import AUGMENTATIONS, GROUND_TRUTH_SIDE, SCALE_OF_USE, SCALES
from pipeline.core.schema import PAIRS

_IMAGES = 4096
"""Images whose rows are in memory at once."""

Image = tuple[str, str, int]
"""Image id, split, side in pixels."""


class PairsError(FacesrError):
    """No pairs can be made of these faces; the message names the folder, shard or face."""


def draw_manifest(
    images: Iterable[Image], draws: int, degradations: Degradations, of_use: int = 0
) -> Iterator[pa.RecordBatch]:
    """Draw the rows of the pairs manifest, in the order of `images`.

    A train face gets `draws` rows at every scale whose ground truth (64, 128, 256 pixels) fits it; a validation face
    gets one clean row at the largest of these. With `of_use` a train face gets so many at the scale of use besides.

    Args:
        images: train and valid faces.
        draws: pairs per image and scale in the train split.
        degradations: seed, chances and ranges of strength.
        of_use: pairs per image at the scale of use in the train split.

    Yields:
        Batches of PAIRS rows, those of 4,096 images each.

    Raises:
        PairsError: an image is too small for any pair.
        ValueError: an image of another split, since no pair is ever made of a test face.
    """
    weights = np.array([degradations.chances.get(name, 0.0) for name in AUGMENTATIONS], dtype=np.float64)
    edges = np.cumsum(weights / weights.sum())
    edges /= edges[-1]
    waiting = iter(images)
    while batch := list(islice(waiting, _IMAGES)):
        yield _batch(batch, draws, of_use, degradations, edges)


def _batch(
    images: list[Image], draws: int, of_use: int, degradations: Degradations, edges: np.ndarray
) -> pa.RecordBatch:
    """Rows of some images: numbers are drawn row by row, all that follows from them is done for all rows at once."""
    rows = [
        (image_id, split, *pair)
        for image_id, split, side in images
        for pair in _pairs(image_id, split, side, draws, of_use)
    ]
    trained = np.array([split == "train" for _, split, _, _ in rows])
    numbers = np.zeros((len(rows), 3 + DRAWS * (degradations.chain is not None)), np.uint64)
    for index in np.flatnonzero(trained):
        image_id, _, scale, draw = rows[index]
        numbers[index] = _numbers(f"{degradations.seed}:{image_id}:{scale}:{draw}", numbers.shape[1])
    shares = (numbers[:, :2] >> np.uint64(11)) * 2.0**-53  # 53 bits each: from 0 up to 1
    drawn = np.where(trained, np.searchsorted(edges, shares[:, 0], side="right"), AUGMENTATIONS.index("none"))
    strengths = np.zeros(len(rows))
    for name, (low, high) in degradations.ranges.items():
        chosen = drawn == AUGMENTATIONS.index(name)
        strengths[chosen] = np.round(low + (high - low) * shares[chosen, 1], 0 if name == "jpeg" else 3)
    chains: dict[str, Any] = {name: pa.nulls(len(rows)) for name in CHAIN_COLUMNS}
    if degradations.chain is not None:
        drawn_shares = np.asarray((numbers[:, 3:] >> np.uint64(11)) * 2.0**-53, np.float64)
        drawn_shares[~trained, 0] = 1.0  # a validation pair is clean
        reduced = np.array([scale != SCALE_OF_USE for _, _, scale, _ in rows])
        chains = dict(draw_chains(drawn_shares, degradations.chain, reduced))
    columns = chains | {
        "pair_id": [f"{image_id}-{scale}-{draw}" for image_id, _, scale, draw in rows],
        "image_id": [image_id for image_id, _, _, _ in rows],
        "split": [split for _, split, _, _ in rows],
        "scale": [scale for _, _, scale, _ in rows],
        "augmentation": np.array(AUGMENTATIONS)[drawn],
        "strength": strengths,
        "seed": (numbers[:, 2] >> np.uint64(2)).astype(np.int64),
    }
    arrays = [pa.array(columns[field.name], field.type) for field in PAIRS]
    return pa.RecordBatch.from_arrays(arrays, schema=PAIRS)


def _pairs(image_id: str, split: str, side: int, draws: int, of_use: int) -> list[tuple[str, int]]:
    """Scale and number of each draw of one image."""
    if split not in ("train", "valid"):
        raise ValueError(f"no pairs are made of split {split!r}")
    fitting = [scale for scale in SCALES if GROUND_TRUTH_SIDE[scale] <= side]
    if not fitting:
        raise PairsError(f"image {image_id} of {side} pixels is too small for any pair")
    if split == "valid":
        return [(fitting[-1], 0)]
    counts = dict.fromkeys(fitting, draws) | {SCALE_OF_USE: of_use}
    return [(scale, draw) for scale, count in counts.items() for draw in range(count)]


def _numbers(key: str, count: int) -> np.ndarray:
    """Draw random numbers of 64 bits that follow from the key."""
    start = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little")
    return np.random.PCG64(start).random_raw(count)
