"""Small pictures, made on the spot, and how two of them differ."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from pipeline.core.images import Pixels, decode


def face(seed: int, side: int = 64) -> Pixels:
    """Discs with hard edges on a gradient, and a little noise: detail that bicubic loses and a network can learn."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    slope = random.uniform(-60, 60, (2, 3))
    image = random.uniform(80, 170, 3) + x[..., None] * slope[0] + y[..., None] * slope[1]
    for _ in range(12):
        cx, cy, radius = random.uniform(0, 1), random.uniform(0, 1), random.uniform(0.05, 0.2)
        image[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = random.uniform(0, 255, 3)
    return np.clip(np.rint(image + random.normal(0, 1.5, image.shape)), 0, 255).astype(np.uint8)


def static(seed: int, side: int = 64) -> Pixels:
    """Pure noise: nothing compresses it, so that its size in bytes is known."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def jpeg(pixels: Pixels, quality: int = 95, **options: Any) -> bytes:
    return saved(Image.fromarray(pixels), "JPEG", quality=quality, **options)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def psnr(a: Pixels, b: Pixels) -> float:
    error = np.square(a.astype(np.float64) - b).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def pixels_of(row: Mapping[str, Any]) -> Pixels:
    return decode(row["image"]["bytes"])
