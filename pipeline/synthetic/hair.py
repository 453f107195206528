"""Hair as matter: strands lit along their length, sheets of them between guide curves, and hairlines."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from pipeline.synthetic.canvas import F32, U8, Rng, blurred_column, curve, darken, fill, polygon_mask, strokes
from pipeline.synthetic.functions import cos, power, sin, tanh
from pipeline.synthetic.pose import Pose, half_width, outline
from pipeline.synthetic.traits import Traits


def ramp(traits: Traits) -> F32:
    """Return the colours a strand runs through from shade to light, shape (4, 3)."""
    base = traits.hair
    dark = float(base.mean()) < 60
    light = base * (1.75 if dark else 1.32) + (26 if dark else 14) * traits.key
    return np.asarray(np.clip(np.stack([base * 0.30, base * 0.68, base * 1.05, light]), 2, 250), np.float32)


def _shade(traits: Traits, paths: F32, lock: F32) -> F32:
    """Return the shade 0..1 of each strand (N, K, 2): diffuse light, gloss, and the tone of its lock."""
    u, v = paths[..., 0], paths[..., 1]
    x, y = u / 3.3, np.where(v < 0, v / 4.4, v / 11)
    # Above the ears hair lies on a ball, below them it hangs down.
    z = np.sqrt(np.clip(1 - x * x - y * y, 0.04, 1))
    light = traits.light
    diffuse = np.clip((x * light[0] + y * light[1] + z * light[2] + 0.5) / 1.5, 0, 1).mean(axis=1)
    points = np.stack([u, v, z * 2.8], axis=2)
    along = points[:, -1] - points[:, 0]
    along /= np.linalg.norm(along, axis=1, keepdims=True) + np.float32(1e-6)
    half = light + np.array([0, 0, 1], np.float32)
    half /= np.float32(np.linalg.norm(half))
    gloss = power(np.clip(1 - np.sum(along * half, axis=1) ** 2, 0, 1), 14)
    tone = 0.10 + 0.40 * diffuse + 0.38 * gloss * diffuse + lock
    # The bright end is bent rather than cut off, so that strands stay apart in the gloss.
    return np.asarray(np.clip(np.where(tone > 0.6, 0.6 + 0.4 * tanh((tone - 0.6) * 2), tone), 0, 0.999), np.float32)


def draw_strands(image: U8, rng: Rng, traits: Traits, pose: Pose, paths: F32, lock: F32, pieces: int = 1) -> None:
    """Draw strands given in face coordinates, lit piece by piece along their length."""
    last = paths.shape[1] - 1
    step = max(1, last // pieces)
    tone = rng.normal(0, 0.11, len(paths)).astype(np.float32) + lock
    pixels = pose.to_image(paths)
    colours = ramp(traits)
    # Strands are cut at shifted places, or the changes of shade would line up across them as bands.
    shifts = range(step) if pieces > 1 else range(1)
    cuts: dict[int, list[tuple[F32, F32, F32]]] = {}
    for shift in shifts:
        own = np.s_[shift :: len(shifts)]
        marks = sorted({0, last, *range(shift, last, step)}) if pieces > 1 else [0, last]
        for a, b in pairwise(marks):
            cuts.setdefault(b - a, []).append((paths[own, a : b + 1], pixels[own, a : b + 1], tone[own]))
    for group in cuts.values():
        shade = _shade(traits, np.concatenate([g[0] for g in group]), np.concatenate([g[2] for g in group]))
        strokes(image, np.concatenate([g[1] for g in group]), shade, colours, 12)


def locks(rng: Rng, across: F32, count: int) -> F32:
    """Return a tone for each place across a sheet, so that neighbouring strands form locks."""
    values = rng.normal(0, 0.09, count).astype(np.float32)
    fine = rng.normal(0, 0.06, count * 4).astype(np.float32)
    a = np.interp(across, np.linspace(0, 1, count), values)
    return np.asarray(a + np.interp(across, np.linspace(0, 1, count * 4), fine), np.float32)


def draw_sheet(
    image: U8, rng: Rng, traits: Traits, pose: Pose, inner: F32, outer: F32, count: int, wave: float,
    fray: float = 0.05, shadow: float = 0.5,
) -> None:  # fmt: skip
    """Draw strands that run along two guide curves (K, 2) and fill the sheet between them."""
    k = len(inner)
    base = np.concatenate([inner, outer[::-1]])
    lay_ground(image, traits, pose, base, shadow)
    t = np.sort(rng.random(count).astype(np.float32))
    lock = locks(rng, t, 26)
    s = np.linspace(0, 1, k, dtype=np.float32)[None, :]
    # Strands wander across the sheet, gathering into locks towards their ends.
    centre = np.round(t * 18) / 18
    gather = 0.35 * s**2
    at = t[:, None] * (1 - gather) + centre[:, None] * gather
    at = at + fray * rng.normal(0, 1, (count, 1)).astype(np.float32) * s
    if wave:
        phase = (np.round(t * 9)[:, None] * 0.9).astype(np.float32)
        at = at + wave * sin(s * np.float32(rng.uniform(13, 19)) + phase) * np.clip(s * 2 - 0.2, 0, 1)
    paths = inner[None] * (1 - at[..., None]) + outer[None] * at[..., None]
    paths = paths + rng.normal(0, 0.012, (count, 1, 2))
    order = rng.permutation(count)
    paths, lock = np.asarray(paths[order], np.float32), lock[order]
    for part in range(3):
        draw_strands(image, rng, traits, pose, paths[part::3], lock[part::3] - 0.07 * (1 - part), 6)


def lay_ground(image: U8, traits: Traits, pose: Pose, polygon: F32, shadow: float) -> None:
    """Lay the dark ground of a mass of hair, and its soft shadow away from the light."""
    pixels = pose.to_image(polygon)
    if shadow:
        drop = np.array([-traits.light[0] * 20, 14], np.float32)
        head = polygon_mask(pose.to_image(outline(traits)))
        darken(image, cv2.bitwise_and(head, polygon_mask(pixels + drop, 13)), shadow)
    fill(image, traits.hair * np.float32(0.45) + 2, polygon_mask(pixels, 2.5))


def skull_line(traits: Traits, thick: float, sides: float, count: int) -> F32:
    """Return the outer line of the hair from the left side (height `sides`) over the top to the right."""
    t = np.linspace(0, np.pi, count, dtype=np.float32)
    v: F32 = sides - (sides + 3.5) * power(np.maximum(sin(t), 0), 0.85)
    w: F32 = half_width(traits, np.minimum(v, 0).astype(np.float32)) * np.float32(0.99)
    u: F32 = -np.sign(cos(t)) * w
    grow = np.interp(v, [-3.5, -1.0, sides], [thick, 0.62 * thick, 0.10 * thick])
    u = u + np.sign(u) * grow
    v = v - np.interp(v, [-3.5, -2.4, -1.0], [0.85 * thick, 0.55 * thick, 0])
    line = np.stack([u, v], axis=1).astype(np.float32)
    return blurred_column(line, 2.0)


def hairline(rng: Rng, traits: Traits, sides: float, count: int) -> F32:
    """Return the hairline from the left sideburn over the forehead to the right one."""
    receding = 0.55 * max(0.0, traits.age - 0.45) if traits.male else 0.0
    top = -2.12 - receding * 0.7 + float(rng.normal(0, 0.08))
    peak = 0.10 * float(rng.random())
    edge = float(half_width(traits, np.array([-0.4], np.float32))[0])
    half = [
        [0.0, top + peak], [0.3, top + 0.7 * peak], [0.75, top + 0.04 - receding * 0.6],
        [1.3, top + 0.30 - receding], [1.66, -1.25 - receding],
        [edge - 0.36, -0.75], [edge - 0.20, -0.35], [edge - 0.14, sides],
    ]  # fmt: skip
    right = curve(half, count // 2 + 1)
    left = right[::-1] * np.array([-1, 1], np.float32)
    return np.asarray(np.concatenate([left[:-1], right]), np.float32)
