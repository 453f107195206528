"""Colour profiles: pixels to sRGB, which is what every other part of the pipeline takes them for."""

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from pipeline.core.images import Planes

_SAME = 2
"""Grey levels that a profile may move colours by and still be taken for sRGB: there are many editions of it."""


def to_srgb(planes: Planes, icc: bytes) -> Planes | None:
    """Convert 8-bit grey or RGB by an embedded profile.

    Args:
        planes: uint8 (h, w, 1 or 3).
        icc: profile of as many channels.

    Returns:
        uint8 (h, w, 3), or None where nothing would change: the profile is sRGB's (of grey: has its curve), or broken.
    """
    mode = "L" if planes.shape[2] == 1 else "RGB"
    transform = _transform(icc, mode)
    if transform is None:
        return None
    image = Image.fromarray(planes[..., 0] if mode == "L" else planes)
    converted = ImageCms.applyTransform(image, transform)
    return np.asarray(converted)


@lru_cache(maxsize=16)
def _transform(icc: bytes, mode: str) -> Any:
    """Little CMS's transform to sRGB; None where it would change nothing."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
        probe = _probe(mode)
        changed = np.asarray(ImageCms.applyTransform(probe, transform), np.int16)
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None
    unchanged = np.asarray(probe.convert("RGB"), np.int16)
    return None if np.abs(changed - unchanged).max() <= _SAME else transform


def _probe(mode: str) -> Image.Image:
    """Colours all over the cube, or all greys."""
    levels = np.linspace(0, 255, 256 if mode == "L" else 9).round().astype(np.uint8)
    if mode == "L":
        return Image.fromarray(levels[None])
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    return Image.fromarray(np.ascontiguousarray(cube))
