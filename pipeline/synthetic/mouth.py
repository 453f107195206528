"""Lips with fine creases, closed or parted over teeth, computed per pixel."""

from __future__ import annotations

import numpy as np

from pipeline.synthetic.canvas import F32, U8, Rng, bump, smoothstep
from pipeline.synthetic.functions import cos, power, sin
from pipeline.synthetic.traits import Traits

CENTRE = 2.15  # height of the mouth line, in face units


def _lip_colour(traits: Traits, rng: Rng) -> F32:
    natural = traits.skin * np.array([0.84, 0.60, 0.61], np.float32) + np.array([2, 2, 5], np.float32)
    paints = np.array([[176, 44, 56], [150, 50, 70], [196, 92, 96], [120, 34, 48], [190, 104, 96]], np.float32)
    paint = paints[int(rng.integers(0, len(paints)))] * np.float32(1 - 0.25 * traits.depth)
    amount = np.float32(traits.lipstick * 0.75)
    return np.asarray(natural * (1 - amount) + paint * amount, np.float32)


def draw_mouth(image: U8, rng: Rng, traits: Traits, u: F32, v: F32, light: F32) -> None:
    """Draw the mouth in place; `u`, `v` and `light` are face coordinates and light of the image's pixels."""
    half = 0.82 * traits.mouth_width * (1 + 0.10 * max(0.0, traits.smile))
    x = u / np.float32(half)
    a = np.clip(np.abs(x), 0, 1)
    arc = np.sqrt(1 - a * a)
    pixel = 1 / 120
    lift = np.float32(-0.04 - 0.17 * traits.smile) * (power(a, 1.8) - 0.35)
    seam = CENTRE + lift + 0.016 * cos(x * 7.0) * arc * (1 - traits.mouth_open) - 0.01
    gap = 0.21 * traits.mouth_open * (1 - power(a, 2.4)) * smoothstep(1.0, 0.72, a)
    top_edge = seam - 0.35 * gap
    low_edge = seam + gap
    bow = 1 - 0.24 * bump(x, 0, 0.13) + 0.06 * (bump(x, 0.2, 0.12) + bump(x, -0.2, 0.12))
    top = top_edge - 0.195 * traits.lip_upper * bow * np.clip(1 - power(a, 1.5), 0, 1)
    bottom = low_edge + 0.235 * traits.lip_lower * np.clip(1 - power(a / 0.93, 2.5), 0, 1)

    colour = _lip_colour(traits, rng)
    creases = np.zeros_like(u)
    for _ in range(6):
        k = float(rng.uniform(25, 120))
        creases += sin(k * x * (1 + 0.10 * (v - CENTRE)) + float(rng.uniform(0, 6.3)))
    creases *= 0.028
    lit = np.sqrt(np.clip(light, 0.02, 1.3))

    # Each lip is a roll: its slope runs from one edge to the other, and meets the light accordingly.
    up_t = np.clip((v - top) / np.maximum(top_edge - top, 0.01), 0, 1)
    low_t = np.clip((v - low_edge) / np.maximum(bottom - low_edge, 0.01), 0, 1)
    high = -float(traits.light[1])
    upper_tone = 1.0 - (0.16 + 0.28 * high) * up_t + 0.10 * bump(up_t, 0.12, 0.12)
    lower_tone = 0.80 + 0.34 * bump(low_t, 0.36, 0.34) - 0.26 * smoothstep(0.6, 1.0, low_t)
    crease = 1 + creases * (0.5 + np.maximum(bump(low_t, 0.45, 0.4) * (v > seam), 0.5 * (v <= seam)))
    tone = np.where(v < seam, upper_tone, lower_tone) * crease
    lips = colour * tone[..., None] * (0.12 + 0.84 * lit)
    shine = bump(low_t, 0.34, 0.15) * bump(x, 0.25 * float(traits.light[0]), 0.34) * (v > low_edge)
    gloss = (18 + 46 * traits.lipstick) * shine * np.clip(0.75 + creases * 9, 0, 1.6)
    lips += gloss[..., None]

    soft = pixel * 2.2
    inside_x = smoothstep(1.02, 0.93, np.abs(x))
    upper = smoothstep(soft, -soft, top - v) * smoothstep(pixel, -pixel, v - top_edge)
    lower = smoothstep(pixel, -pixel, low_edge - v) * smoothstep(2.4 * soft, -1.4 * soft, v - bottom)
    lip_mask = np.clip(upper + lower, 0, 1) * inside_x * 0.94
    skin = image.astype(np.float32)
    under = bump(v - bottom, 0.085, 0.07) * smoothstep(0.8, 0.2, a)
    rim = bump(v - top, -0.016, 0.018) * smoothstep(1.0, 0.5, a)
    skin *= (1 - 0.17 * under + 0.05 * rim)[..., None]
    out = skin * (1 - lip_mask[..., None]) + lips * lip_mask[..., None]

    opening = smoothstep(pixel, -pixel, top_edge - v) * smoothstep(pixel, -pixel, v - low_edge)
    opening *= smoothstep(0.012, 0.03, gap) * inside_x
    if traits.mouth_open > 0:
        out = out * (1 - opening[..., None]) + _inside(u, v, top_edge, gap, x, lit) * opening[..., None]
    line = bump(v - seam, 0, 0.015 + 0.005 * traits.smile) * smoothstep(1.05, 0.9, np.abs(x))
    line *= 1 - smoothstep(0.0, 0.02, gap)
    corner = (bump(x, 1.0, 0.07) + bump(x, -1.0, 0.07)) * bump(v - CENTRE - lift, 0, 0.05)
    dark = np.clip(0.5 * line + 0.3 * corner, 0, 0.9)[..., None]
    out *= 1 - dark * np.array([0.85, 1, 1], np.float32)
    image[:] = np.clip(out, 0, 255).astype(np.uint8)


def _inside(u: F32, v: F32, top_edge: F32, gap: F32, x: F32, lit: F32) -> F32:
    """Return the colours behind parted lips: the row of upper teeth over the dark of the mouth."""
    # Teeth narrow towards the sides of the row, so their borders are cut on a bent coordinate.
    bent = np.abs(u) * (1 + 0.55 * np.abs(u))
    index = np.floor(bent / 0.155)
    within = np.abs(bent / 0.155 - index - 0.5) * 2
    length = 0.15 - 0.018 * (index % 2) - 0.012 * power(within, 4) - 0.03 * np.abs(u)
    depth = v - top_edge
    tooth = smoothstep(0.010, -0.010, depth - length)
    tone = (0.93 - 0.22 * smoothstep(0.84, 1.0, within)) * (1 - 0.38 * bump(depth, 0.0, 0.035))
    tone = tone * (1 - 0.55 * np.clip(np.abs(x), 0, 1) ** 2)
    gum = np.array([92, 34, 34], np.float32) * (0.42 + 0.4 * smoothstep(0.10, 0.2, depth))[..., None]
    teeth = np.array([238, 229, 214], np.float32) * tone[..., None] * (0.30 + 0.72 * lit)
    return np.asarray(gum * (1 - tooth[..., None]) + teeth * tooth[..., None], np.float32)
