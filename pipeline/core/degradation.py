"""Training pairs of low-resolution faces alone: the one place where degradations happen.

A row of the manifest (pipeline/pairs/manifest.py) and the input that it names determine a pair bit for bit. Rotation
turns the ground truth (and so the pair); noise, blur and JPEG touch the low-resolution side only.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from pipeline.core.images import Pixels, decode, encode_jpeg, resize, rounded
from pipeline.core.scales import AUGMENTATIONS, FACTOR, GROUND_TRUTH_SIDE, QUARTER_TURNS


def draw_degradation(
    image_id: str,
    scale: str,
    *,
    seed: int,
    chances: Mapping[str, float],
    noise: tuple[float, float],
    blur: tuple[float, float],
    jpeg: tuple[int, int],
) -> dict[str, Any]:
    """Draw what an augmented input suffers: noise, blur or JPEG loss as in training, by their relative chances.

    A face is never left clean, and never turned: results are compared with the face as it is. The draw depends on
    (seed, image id, scale) alone.

    Args:
        image_id: of the face.
        scale: of the augmented inputs.
        seed: of all draws.
        chances: as in `manifest.draw_manifest`; where none of the three has one, they are alike.
        noise: range of sigma, grey levels.
        blur: range of sigma, pixels of the low-resolution side.
        jpeg: range of quality, 1-100.

    Returns:
        `augmentation`, `strength` and `seed`, as `degrade` takes them.
    """
    ranges: dict[str, tuple[float, float]] = {"noise": noise, "blur": blur, "jpeg": jpeg}
    weights = np.array([chances.get(name, 0.0) for name in ranges], dtype=np.float64)
    weights = weights / weights.sum() if weights.sum() else np.full(len(ranges), 1 / len(ranges))
    key = hashlib.sha256(f"{seed}:{image_id}:{scale}".encode()).digest()
    random = np.random.Generator(np.random.PCG64(int.from_bytes(key[:16], "little")))
    augmentation = str(random.choice(list(ranges), p=weights))
    strength = float(random.uniform(*ranges[augmentation]))
    strength = float(round(strength)) if augmentation == "jpeg" else round(strength, 3)
    return {"augmentation": augmentation, "strength": strength, "seed": int(random.integers(2**62))}


def make_pair(image: Pixels, row: Mapping[str, Any]) -> tuple[Pixels, Pixels]:
    """The full pair that a manifest row describes.

    Args:
        image: the input named by the row, uint8 (h, w, 3), square, no smaller than the ground truth.
        row: a row of the pairs manifest.

    Returns:
        Ground truth uint8 (s, s, 3) and low-resolution input uint8 (s/4, s/4, 3), s = 64, 128 or 256.

    Raises:
        ValueError: the image is smaller than the ground truth of the row's scale, or the augmentation is unknown.
    """
    truth = ground_truth(image, row["scale"], row["augmentation"])
    return truth, degrade(reduce(truth), row["augmentation"], row["strength"], row["seed"])


def ground_truth(image: Pixels, scale: str, augmentation: str) -> Pixels:
    """The input reduced to the side of `scale`'s ground truth and turned counter-clockwise if the row says so."""
    side = GROUND_TRUTH_SIDE[scale]
    if min(image.shape[:2]) < side:
        raise ValueError(f"an image of {image.shape[1]}x{image.shape[0]} has no {side}x{side} ground truth")
    return np.rot90(resize(image, side, side), QUARTER_TURNS.get(augmentation, 0))


def reduce(image: Pixels) -> Pixels:
    """Reduce 4 times by Pillow's antialiased bicubic: uint8 (h, w, 3) -> uint8 (h/4, w/4, 3)."""
    return resize(np.ascontiguousarray(image), image.shape[0] // FACTOR, image.shape[1] // FACTOR)


def degrade(low: Pixels, augmentation: str, strength: float, seed: int) -> Pixels:
    """Apply noise, blur or JPEG loss to a low-resolution image; rotations and `none` leave it as it is.

    Args:
        low: uint8 (h, w, 3).
        augmentation: one of `scales.AUGMENTATIONS`.
        strength: sigma in grey levels (noise) or pixels (blur), quality (jpeg).
        seed: of the noise.

    Raises:
        ValueError: unknown augmentation.
    """
    if augmentation == "noise":
        random = np.random.Generator(np.random.PCG64(seed))
        noisy = low + strength * random.standard_normal(low.shape, dtype=np.float32)
        return rounded(noisy)
    if augmentation == "blur":
        return np.asarray(Image.fromarray(low).filter(ImageFilter.GaussianBlur(strength)))
    if augmentation == "jpeg":
        return decode(encode_jpeg(low, int(strength)))
    if augmentation not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {augmentation!r}")
    return low
