"""The pairs manifest: which pairs are made of which face, drawn from a seed, as batches of Arrow rows.

Every row follows from (seed, image id, scale, draw) alone: adding a face leaves the rows of all others as they were,
and the order of the faces changes nothing but the order of the rows.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import numpy as np
import pyarrow as pa

from pipeline.core.scales import AUGMENTATIONS, GROUND_TRUTH_SIDE, SCALES
from pipeline.core.schema import PAIRS

_IMAGES = 4096
"""Images whose rows are in memory at once."""

Ranges = Mapping[str, tuple[float, float]]


def draw_manifest(
    images: Iterable[tuple[str, str, int]],
    *,
    seed: int,
    draws: int,
    chances: Mapping[str, float],
    noise: tuple[float, float],
    blur: tuple[float, float],
    jpeg: tuple[int, int],
) -> Iterator[pa.RecordBatch]:
    """Draw the rows of the pairs manifest, in the order of `images`.

    A train face gets `draws` rows at every scale whose ground truth (64, 128, 256 pixels) fits it; a validation face
    gets one clean row at the largest of these.

    Args:
        images: (image id, split, side in pixels) of train and valid faces.
        seed: of all draws.
        draws: pairs per image and scale in the train split.
        chances: relative chance of each augmentation.
        noise: range of sigma, grey levels.
        blur: range of sigma, pixels of the low-resolution side.
        jpeg: range of quality, 1-100.

    Yields:
        Batches of PAIRS rows, those of 4,096 images each.

    Raises:
        ValueError: an image of another split, since no pair is ever made of a test face; or one too small for any pair.
    """
    weights = np.array([chances.get(name, 0.0) for name in AUGMENTATIONS], dtype=np.float64)
    edges = np.cumsum(weights / weights.sum())
    edges /= edges[-1]
    ranges = {"noise": noise, "blur": blur, "jpeg": jpeg}
    waiting = iter(images)
    while some := list(islice(waiting, _IMAGES)):
        yield _batch(some, seed, draws, edges, ranges)


def _batch(
    images: list[tuple[str, str, int]], seed: int, draws: int, edges: np.ndarray, ranges: Ranges
) -> pa.RecordBatch:
    """Rows of some images: numbers are drawn row by row, all that follows from them is done for all rows at once."""
    places: list[tuple[int, str, int]] = []  # of each row: image, scale, draw
    for place, (image_id, split, side) in enumerate(images):
        if split not in ("train", "valid"):
            raise ValueError(f"no pairs are made of split {split!r}")
        fitting = [scale for scale in SCALES if GROUND_TRUTH_SIDE[scale] <= side]
        if not fitting:
            raise ValueError(f"image {image_id} of {side} pixels is too small for any pair")
        if split == "valid":
            places.append((place, fitting[-1], 0))
        else:
            places += [(place, scale, draw) for scale in fitting for draw in range(draws)]
    ids = [images[place][0] for place, _, _ in places]
    splits = [images[place][1] for place, _, _ in places]
    pairs = [f"{images[place][0]}-{scale}-{draw}" for place, scale, draw in places]
    trained = np.array([split == "train" for split in splits])
    numbers = np.zeros((len(places), 3), np.uint64)
    prefix = f"{seed}:"
    for row in np.flatnonzero(trained):
        place, scale, draw = places[row]
        numbers[row] = _numbers(f"{prefix}{images[place][0]}:{scale}:{draw}")
    shares = (numbers[:, :2] >> np.uint64(11)) * 2.0**-53  # 53 bits each: from 0 up to 1
    drawn = np.where(trained, np.searchsorted(edges, shares[:, 0], side="right"), AUGMENTATIONS.index("none"))
    strengths = np.zeros(len(places))
    for name, (low, high) in ranges.items():
        mine = drawn == AUGMENTATIONS.index(name)
        strengths[mine] = np.round(low + (high - low) * shares[mine, 1], 0 if name == "jpeg" else 3)
    columns = {
        "pair_id": pairs,
        "image_id": ids,
        "split": splits,
        "scale": [scale for _, scale, _ in places],
        "augmentation": np.array(AUGMENTATIONS)[drawn],
        "strength": strengths,
        "seed": (numbers[:, 2] >> np.uint64(2)).astype(np.int64),
    }
    return pa.RecordBatch.from_arrays([pa.array(columns[field.name], field.type) for field in PAIRS], schema=PAIRS)


def _numbers(key: str) -> np.ndarray:
    """Three random numbers of 64 bits that follow from the key."""
    start = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little")
    return np.random.PCG64(start).random_raw(3)
