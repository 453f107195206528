"""Pictures to measure, and the same with noise."""

import numpy as np

from pipeline.core.images import Pixels, resize


def picture(seed: int, side: int = 96) -> Pixels:
    """A smooth coloured picture with some grain; left and right differ."""
    random = np.random.default_rng(seed)
    coarse = resize(random.integers(0, 256, (8, 8, 3), dtype=np.uint8), side, side)
    return np.clip(coarse.astype(int) + random.integers(-6, 7, coarse.shape), 0, 255).astype(np.uint8)


def noisy(pixels: Pixels, seed: int = 1) -> Pixels:
    noise = np.random.default_rng(seed).integers(-12, 13, pixels.shape)
    return np.clip(pixels.astype(int) + noise, 0, 255).astype(np.uint8)
