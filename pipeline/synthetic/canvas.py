"""Small shared tools: array aliases, smooth functions, stroke batches, blending and cached noise tiles."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.synthetic.functions import exp, power

SIZE = 1024
# OpenCV is typed too loosely for exact element types; the names say which one is meant.
F32 = npt.NDArray[Any]
U8 = npt.NDArray[Any]
Rng = np.random.Generator

_TILE = 1536
_SHIFT = 4


def smoothstep(edge0: float, edge1: float, x: F32) -> F32:
    """Return the cubic step of `x`, 0 at `edge0` and 1 at `edge1` (edges may be in falling order)."""
    t = np.clip((x - np.float32(edge0)) / np.float32(edge1 - edge0), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def bump(x: F32, centre: float, width: float) -> F32:
    """Return the Gaussian exp(-((x - centre) / width)^2) of an array, in float32."""
    t = (x - np.float32(centre)) * np.float32(1 / width)
    return np.asarray(exp(-t * t), np.float32)


def curve(points: npt.ArrayLike, count: int) -> F32:
    """Return `count` points, shape (count, 2), on the Catmull-Rom curve through `points`, shape (K, 2)."""
    p = np.asarray(points, np.float32)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    s = np.linspace(0, len(p) - 3, count, dtype=np.float32)
    i = np.minimum(s.astype(np.int32), len(p) - 4)
    t = (s - i)[:, None]
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    out = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * power(t, 3))
    return np.asarray(out, np.float32)


def fixed(points: F32) -> npt.NDArray[np.int32]:
    """Return pixel coordinates as the fixed-point integers OpenCV draws with below pixel accuracy."""
    return np.asarray(np.rint(points * (1 << _SHIFT)), np.int32)


def polygon_mask(points: F32, blur: float = 0.0) -> U8:
    """Return a (1024, 1024) mask, 255 inside the polygon of pixel `points`, its edge blurred by `blur` px."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(mask, [fixed(points)], 255, cv2.LINE_AA, _SHIFT)
    if blur > 0:
        # Only the surroundings of the polygon can change, and blurring all of the mask would be slow.
        margin = 3 * blur + 4
        x0, y0 = np.clip(np.floor(points.min(axis=0) - margin).astype(int), 0, SIZE) // 4 * 4
        x1, y1 = np.clip(np.ceil(points.max(axis=0) + margin).astype(int) + 4, 0, SIZE) // 4 * 4
        if x1 > x0 and y1 > y0:
            mask[y0:y1, x0:x1] = soften(mask[y0:y1, x0:x1], blur)
    return mask


def soften(mask: U8, sigma: float) -> U8:
    """Return the mask blurred by `sigma` pixels; wide blurs at quarter size, where they cost less."""
    if sigma < 6:
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.uint8)
    small = cv2.resize(mask, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
    return np.asarray(cv2.resize(small, (mask.shape[1], mask.shape[0])), np.uint8)


def blurred(values: F32, sigma: float) -> F32:
    """Return float values (height, width[, 3]) blurred by `sigma` pixels, as float32.

    OpenCV's builds add float32 in different orders, which shows in the bytes of a portrait. In float64 they differ by
    so little that float32 does not hold it.
    """
    return np.asarray(cv2.GaussianBlur(values.astype(np.float64), (0, 0), sigma), np.float32)


def blurred_column(values: F32, sigma: float) -> F32:
    """Return float values (height, N), or (height,) as (height, 1), blurred down their columns alone, as float32."""
    column = values.reshape(len(values), -1).astype(np.float64)
    return np.asarray(cv2.GaussianBlur(column, (1, 0), sigmaX=1, sigmaY=sigma), np.float32).reshape(column.shape)


def blend(image: U8, layer: U8, mask: U8) -> None:
    """Lay `layer` over `image` in place where `mask` (same height and width) is above 0."""
    x, y, w, h = cv2.boundingRect(mask)
    if w == 0:
        return
    box = np.s_[y : y + h, x : x + w]
    weight = mask[box].astype(np.float32) * np.float32(1 / 255)
    image[box] = cv2.blendLinear(layer[box], image[box], weight, 1 - weight)


def fill(image: U8, colour: F32, mask: U8) -> None:
    """Lay one RGB colour over `image` in place where `mask` is above 0."""
    x, y, w, h = cv2.boundingRect(mask)
    if w == 0:
        return
    box = np.s_[y : y + h, x : x + w]
    weight = mask[box].astype(np.float32) * np.float32(1 / 255)
    flat = np.empty((h, w, 3), np.uint8)
    cv2.rectangle(flat, (0, 0), (w, h), [float(c) for c in np.clip(colour, 0, 255)], -1)
    image[box] = cv2.blendLinear(flat, image[box], weight, 1 - weight)


def darken(image: U8, mask: U8, amount: float) -> None:
    """Multiply `image` in place by 1 - amount * mask / 255."""
    x, y, w, h = cv2.boundingRect(mask)
    if w == 0:
        return
    box = np.s_[y : y + h, x : x + w]
    keep = cv2.convertScaleAbs(mask[box], alpha=-amount, beta=255)
    # convertScaleAbs takes the absolute value; amount <= 1 keeps its argument from going negative.
    image[box] = cv2.multiply(image[box], cv2.merge([keep] * 3), scale=1 / 255)


def strokes(image: U8, paths: F32, shade: F32, ramp: F32, levels: int = 12, thickness: int = 1) -> None:
    """Draw smooth polylines in place, the dark shades first.

    `paths` is (N, K, 2) in pixels, `shade` (N,) in 0..1, `ramp` (R, 3) the colours shade runs through.
    """
    bins = np.clip((shade * levels).astype(np.int32), 0, levels - 1)
    points = fixed(paths)
    at, marks = np.linspace(0, len(ramp) - 1, levels), np.arange(len(ramp))
    colours = np.stack([np.interp(at, marks, ramp[:, c]) for c in range(3)], axis=1).tolist()
    for level in range(levels):
        chosen = points[bins == level]
        if len(chosen):
            cv2.polylines(image, list(chosen), False, colours[level], thickness, cv2.LINE_AA, _SHIFT)


def _white(name: int, depth: int) -> F32:
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([0x7115, name])))
    return np.asarray(rng.standard_normal((_TILE, _TILE, depth), dtype=np.float32).squeeze())


def _wrapped_blur(noise: F32, sigma: float) -> F32:
    pad = int(4 * sigma) + 1
    wide = cv2.copyMakeBorder(noise, pad, pad, pad, pad, cv2.BORDER_WRAP)
    return blurred(wide, sigma)[pad:-pad, pad:-pad]


def _unit(x: F32) -> F32:
    return np.asarray((x - x.mean()) / x.std(), np.float32)


@cache
def tile(kind: str) -> U8:
    """Return a fixed (1536, 1536, 3) noise tile around 128: 'grain', 'pores', 'cloth', 'plaster', 'mottle'.

    The tiles come from constant seeds, so what an earlier portrait has cached cannot alter a later one.
    """
    if kind == "grain":
        out = _white(1, 3) * 0.6 + _white(2, 1)[..., None] * 1.1
    elif kind == "pores":
        fine = _unit(_wrapped_blur(_white(3, 1), 0.75) - _wrapped_blur(_white(3, 1), 2.2))
        # Pores are pits: squash the bright side so that dark dots stand out of an even surface.
        pits = _unit(np.minimum(fine, 0.7))
        lines = _unit(_wrapped_blur(_white(4, 1), 1.6) - _wrapped_blur(_white(4, 1), 4.0))
        out = (pits * 4.2 + lines * 1.3)[..., None] * np.array([0.9, 1.0, 1.0], np.float32)
    elif kind == "cloth":
        rows = _unit(cv2.blur(_white(5, 1), (9, 1)))
        cols = _unit(cv2.blur(_white(6, 1), (1, 9)))
        y, x = np.mgrid[0:_TILE, 0:_TILE].astype(np.float32)
        weave = np.where(((x // 2 + y // 2) % 2) > 0, rows + 0.6, cols - 0.6)
        out = np.repeat((_unit(weave) * 11.0)[..., None], 3, axis=2)
    elif kind == "plaster":
        base = _white(7, 1)
        out = np.repeat((_unit(_wrapped_blur(base, 0.8)) * 4 + _unit(_wrapped_blur(base, 3)) * 4)[..., None], 3, axis=2)
    elif kind == "mottle":
        out = np.stack([_unit(_wrapped_blur(_white(8 + c, 1), 22)) for c in range(3)], axis=2)
        out = out * np.array([5, 6, 5], np.float32) + _unit(_wrapped_blur(_white(12, 1), 9))[..., None] * 3
    else:
        raise ValueError(f"no such tile: {kind}")
    return np.clip(np.rint(out + 128), 0, 255).astype(np.uint8)


def crop(rng: Rng, kind: str, height: int = SIZE, width: int = SIZE) -> U8:
    """Return a random (height, width, 3) window of a noise tile, perhaps mirrored."""
    y = int(rng.integers(0, _TILE - height + 1))
    x = int(rng.integers(0, _TILE - width + 1))
    window = tile(kind)[y : y + height, x : x + width]
    flip = int(rng.integers(-1, 3))
    return np.asarray(window) if flip == 2 else np.asarray(cv2.flip(window, flip), np.uint8)
