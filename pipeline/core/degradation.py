"""Training pairs of low-resolution faces alone: the one place where degradations happen.

A row of the manifest (pipeline/pairs/manifest.py) and the input that it names determine a pair bit for bit. Rotation
turns the ground truth (and so the pair); noise, blur and JPEG touch the low-resolution side only.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict

import numpy as np
from PIL import Image, ImageFilter

from pipeline.core.chain import Chain, degrade_by, reduce_by, told
from pipeline.core.chain_draws import ChainRanges
from pipeline.core.images import Pixels, decode, encode_jpeg, resize, rounded
from pipeline.core.scales import (
    AUGMENTATIONS,
    AUGMENTED,
    GROUND_TRUTH_SIDE,
    QUARTER_TURNS,
    SCALE_OF_USE,
    UPSCALED_SCALES,
    inputs_of,
)

CLEAN: Final = "clean"
"""Kind of the inputs of the plain scales."""
KINDS: Final[Mapping[str, Chain]] = {
    "jpeg90": Chain(jpeg=90, subsampling="4:2:0"),
    "jpeg75": Chain(jpeg=75, subsampling="4:2:0"),
    "jpeg50": Chain(jpeg=50, subsampling="4:2:0"),
    "noise5": Chain(noise=5.0),
    "blur1": Chain(blur=1.0),
    "mixed": Chain(blur=0.6, noise=3.0, jpeg=60, subsampling="4:2:0"),
    "thumbnail": Chain(reduction="box", jpeg=85, subsampling="4:2:0"),
}
"""Degraded inputs that methods are measured on, by name: what is typical in archives. Each behind a scale's name is a
measured scale of its own, such as 256to1024-jpeg75."""

MEASURED_SCALES: Final = (
    *UPSCALED_SCALES,
    *(f"{scale}{AUGMENTED}" for scale in UPSCALED_SCALES),
    *(f"{scale}-{kind}" for kind in KINDS for scale in UPSCALED_SCALES),
)
"""Scales that are measured."""


@dataclass(frozen=True)
class Degradations:
    """How often pairs and augmented inputs get each augmentation, and how strong it is."""

    seed: int
    """Of all draws."""
    chances: Mapping[str, float]
    """Relative chance of each augmentation; none where it is not named."""
    noise: tuple[float, float]
    """Range of sigma, grey levels."""
    blur: tuple[float, float]
    """Range of sigma, pixels of the low-resolution side."""
    jpeg: tuple[int, int]
    """Range of quality, 1-100."""
    chain: ChainRanges | None = None
    """Chains that pairs get beside their augmentation; None: none do."""

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Range of strength of each augmentation that has one."""
        return {"noise": self.noise, "blur": self.blur, "jpeg": self.jpeg}


class Degradation(TypedDict):
    """What one low-resolution image suffers: the arguments of `degrade`, and JSON in the column `degradation`."""

    augmentation: str
    strength: float
    seed: int


def draw_degradation(image_id: str, scale: str, degradations: Degradations) -> Degradation:
    """Draw what an augmented input suffers: noise, blur or JPEG loss as in training, by their relative chances.

    A face is never left clean, and never turned: results are compared with the face as it is. Where none of the three
    has a chance, they are alike. The draw depends on (seed, image id, scale) alone.
    """
    ranges = degradations.ranges
    weights = np.array([degradations.chances.get(name, 0.0) for name in ranges], dtype=np.float64)
    weights = weights / weights.sum() if weights.sum() else np.full(len(ranges), 1 / len(ranges))
    key = hashlib.sha256(f"{degradations.seed}:{image_id}:{scale}".encode()).digest()
    random = np.random.Generator(np.random.PCG64(int.from_bytes(key[:16], "little")))
    augmentation = str(random.choice(list(ranges), p=weights))
    strength = float(random.uniform(*ranges[augmentation]))
    strength = float(round(strength)) if augmentation == "jpeg" else round(strength, 3)
    return {"augmentation": augmentation, "strength": strength, "seed": int(random.integers(2**62))}


class KindDegradation(TypedDict):
    """What one input of a kind suffers: JSON in the column `degradation`."""

    chain: dict[str, Any]
    """Links by name, see `core.chain.Chain`."""
    seed: int
    """Of the noise."""


def draw_kind(image_id: str, scale: str, seed: int) -> KindDegradation:
    """What the input of a kind's scale suffers; the noise depends on (seed, image id, scale) alone."""
    key = hashlib.sha256(f"{seed}:{image_id}:{scale}".encode()).digest()
    chain = KINDS[inputs_of(scale)]
    return {"chain": chain.to_dict(), "seed": int.from_bytes(key[:8], "little") >> 2}


def degraded(low: Pixels, description: Mapping[str, Any], truth: Pixels | None = None) -> Pixels:
    """Make the degraded input that a description, of `draw_degradation` or `draw_kind`, is about.

    Args:
        low: the clean input, uint8 (h, w, 3).
        description: what it suffers.
        truth: uint8 (4h, 4w, 3), for a kind that is reduced otherwise than by bicubic.

    Raises:
        ValueError: there is no truth where it is needed.
    """
    if "chain" not in description:
        return degrade(low, **description)
    chain = Chain(**description["chain"])
    return degrade_by(reduced_for(low, chain, truth), chain, description["seed"])


def described(chain: Chain) -> str:
    """A chain in a few words, in the order of its links; empty where there are none."""
    parts = [f"reduced by {chain.reduction}"] if chain.reduction else []
    parts += [f"blur {chain.blur:g} px"] if chain.blur else []
    grey = f" ({chain.grey:.0%} grey)" if chain.noise and chain.grey else ""
    parts += [f"noise {chain.noise:g} levels{grey}"] if chain.noise else []
    shift = f" shifted {chain.shift} px" if chain.first_jpeg and chain.shift else ""
    parts += [f"JPEG {chain.first_jpeg}{shift}, then"] if chain.first_jpeg else []
    tables = f", {chain.tables} tables" if chain.tables else ""
    parts += [f"JPEG {chain.jpeg} {chain.subsampling or '4:2:0'}{tables}"] if chain.jpeg else []
    return ", ".join(parts).replace("then, ", "then ")


def reduced_for(low: Pixels, chain: Chain, truth: Pixels | None) -> Pixels:
    """The clean input, or the truth reduced as the chain says; arguments and errors as in `degraded`."""
    if chain.reduction is None:
        return low
    if truth is None:
        raise ValueError(f"an input reduced by {chain.reduction} is made of its truth, and there is none")
    return reduce_by(truth, chain.reduction)


def make_pair(image: Pixels, row: Mapping[str, Any]) -> tuple[Pixels, Pixels]:
    """Make the full pair that a manifest row describes.

    Args:
        image: the input named by the row, uint8 (h, w, 3), square, no smaller than the ground truth.
        row: a row of the pairs manifest.

    Returns:
        Ground truth uint8 (s, s, 3) and low-resolution input uint8 (s/4, s/4, 3), s = 64, 128 or 256. At the scale of
        use the ground truth is the image itself, and the input as large.

    Raises:
        ValueError: the image is smaller than the ground truth of the row's scale, or the augmentation is unknown.
    """
    truth = ground_truth(image, row["scale"], row["augmentation"])
    return truth, low_side(truth, row)


def low_side(truth: Pixels, row: Mapping[str, Any]) -> Pixels:
    """Make the input that a manifest row asks for of a ground truth, or of a part of one.

    Args:
        truth: uint8 (h, w, 3), turned already.
        row: a row of the pairs manifest.

    Returns:
        uint8 (h/4, w/4, 3), at the scale of use (h, w, 3).
    """
    chain = Chain.of_row(row)
    low = np.ascontiguousarray(truth) if row["scale"] == SCALE_OF_USE else reduce_by(truth, chain.reduction)
    low = degrade(low, row["augmentation"], row["strength"], row["seed"])
    return degrade_by(low, chain, row["seed"])


def told_of(row: Mapping[str, Any]) -> tuple[float, float]:
    """What a generator may be told of a row's input: see `core.chain.TOLD`."""
    jpeg, noise = Chain.of_row(row).told
    strength = row["strength"]
    own = told(
        strength if row["augmentation"] == "jpeg" else None, strength if row["augmentation"] == "noise" else None
    )
    return max(jpeg, own[0]), max(noise, own[1])


def ground_truth(image: Pixels, scale: str, augmentation: str) -> Pixels:
    """Reduce an input to the side of `scale`'s ground truth and turn it counter-clockwise if the augmentation does."""
    side = image.shape[0] if scale == SCALE_OF_USE else GROUND_TRUTH_SIDE[scale]
    if min(image.shape[:2]) < side:
        raise ValueError(f"an image of {image.shape[1]}x{image.shape[0]} has no {side}x{side} ground truth")
    return np.rot90(resize(image, side, side), QUARTER_TURNS.get(augmentation, 0))


def reduce(image: Pixels) -> Pixels:
    """Reduce 4 times by Pillow's antialiased bicubic: uint8 (h, w, 3) -> uint8 (h/4, w/4, 3)."""
    return reduce_by(image, None)


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
        return rounded(low + strength * random.standard_normal(low.shape, dtype=np.float32))
    if augmentation == "blur":
        return np.asarray(Image.fromarray(low).filter(ImageFilter.GaussianBlur(strength)))
    if augmentation == "jpeg":
        return decode(encode_jpeg(low, int(strength)))
    if augmentation not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {augmentation!r}")
    return low
