"""Eyes with iris fibres, catchlight and lids, computed per pixel; lashes and brows drawn as hairs."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.synthetic.canvas import F32, SIZE, U8, Rng, bump, curve, smoothstep, strokes
from pipeline.synthetic.functions import arctan2, cos, power, sin
from pipeline.synthetic.pose import Pose
from pipeline.synthetic.traits import Traits

_HALF = 0.50  # half the width of the open eye, in face units


def _lids(traits: Traits, x: F32) -> tuple[F32, F32]:
    """Return the heights of the upper and lower lid at `x` (-1 nose side, 1 temple side)."""
    a = np.clip(np.abs(x), 0, 1)
    skewed = np.clip(np.abs(x + 0.08), 0, 1)
    upper = -0.225 * traits.eye_open * (1 - power(skewed, 2.3)) + traits.eye_slant * x
    lower = 0.125 * (1 - power(a, 2.6)) * (1 - 0.12 * max(0.0, traits.smile)) + traits.eye_slant * x
    return np.asarray(upper, np.float32), np.asarray(lower, np.float32)


def _iris(rng: Rng, traits: Traits, dx: F32, dy: F32, radius: float) -> F32:
    r = np.sqrt(dx * dx + dy * dy) / radius
    angle = arctan2(dy, dx)
    fibres = np.zeros_like(r)
    for _ in range(7):
        count = int(rng.integers(9, 70))
        bend = float(rng.uniform(-1.2, 1.2))
        fibres += cos(count * angle + bend * 6 * r + float(rng.uniform(0, 6.3)))
    fibres *= 0.12
    tone = 0.82 + 0.42 * fibres + 0.5 * bump(r, 0.52, 0.14) - 0.62 * smoothstep(0.78, 1.0, r)
    # The iris is lit through the cornea, so it glows on the side away from the light.
    across = (dx * float(traits.light[0]) + dy * float(traits.light[1])) / radius
    tone = tone * (1.05 - 0.42 * across)
    colour = traits.iris * np.clip(tone, 0.08, 2.0)[..., None]
    colour += np.array([34, 20, 4], np.float32) * bump(r, 0.45, 0.12)[..., None] * (1 - traits.depth)
    pupil = smoothstep(0.40, 0.34, r)[..., None]
    return np.asarray(colour * (1 - pupil) + 8 * pupil, np.float32)


def draw_eye(
    image: U8, rng: Rng, traits: Traits, u: F32, v: F32, light: F32, side: int, gaze: tuple[float, float]
) -> None:
    """Draw one eye in place; `u`, `v` and `light` are face coordinates and light of the image's pixels."""
    x = (u * side - 1) / np.float32(_HALF * traits.eye_width)
    y = v
    upper, lower = _lids(traits, x)
    pixel = 1 / 120
    inside = smoothstep(pixel, -pixel, upper - y) * smoothstep(pixel, -pixel, y - lower)
    inside *= smoothstep(1.0, 0.97, np.abs(x))
    lit = np.sqrt(np.clip(light, 0.02, 1.3))
    skin = image.astype(np.float32)

    # The fold above the lid, the shaded rim of the lashes and the pocket under the eye are on the skin.
    taper = smoothstep(1.12, 0.6, np.abs(x))
    fold = bump(y - upper * 1.12 + 0.105, 0, 0.024) * taper
    above = smoothstep(0.0, 0.02, upper - y) * bump(y - upper, 0, 0.14) * taper
    rim = bump(y - upper, -0.012, 0.026) * smoothstep(1.06, 0.85, np.abs(x))
    pocket = bump(y - lower - 0.13, 0, 0.035) * taper
    shelf = bump(y - lower - 0.025, 0, 0.02) * taper
    skin *= 1 - np.stack([0.34 * fold + 0.75 * rim + 0.06 * pocket] * 3, axis=2)
    skin *= 1 - above[..., None] * np.array([0.05, 0.09, 0.09], np.float32)
    skin *= 1 + (shelf * 0.10)[..., None] * np.array([1.2, 0.9, 0.9], np.float32)

    ball = 1 - 0.36 * power(np.clip(np.abs(x), 0, 1), 2.2)
    ball = ball * (1 - 0.50 * bump(y - upper, 0.0, 0.085)) * (1 - 0.14 * bump(y - lower, 0, 0.04))
    white = np.array([208, 200, 197], np.float32) * (1 - 0.10 * traits.depth)
    veins = 0.035 * smoothstep(0.5, 1.0, np.abs(x))
    eye = white * (ball[..., None] - veins[..., None] * np.array([0, 1, 1], np.float32))
    corner = bump(x, -1.0, 0.17)[..., None]
    eye = eye * (1 - corner) + np.array([186, 112, 104], np.float32) * corner * (1 - 0.3 * traits.depth)
    waterline = (bump(y - lower, -0.004, 0.016) * 0.8)[..., None]
    eye = eye * (1 - waterline) + np.array([204, 150, 140], np.float32) * (1 - 0.35 * traits.depth) * waterline

    radius = 0.205
    dx = (u * side - 1) * side - np.float32(gaze[0])
    dy = y + np.float32(0.035 - gaze[1])
    r = np.sqrt(dx * dx + dy * dy)
    iris = _iris(rng, traits, dx, dy, radius) * (1 - 0.5 * bump(y - upper, 0.0, 0.07))[..., None]
    cover = smoothstep(radius + pixel * 1.6, radius - pixel * 1.6, r)[..., None]
    eye = (eye * (1 - cover) + iris * cover) * (0.25 + 0.8 * lit)

    cx, cy = float(traits.light[0]) * 0.11, float(traits.light[1]) * 0.12
    window = smoothstep(1.1, 0.75, power(np.abs((dx - cx) / 0.036), 3) + power(np.abs((dy - cy) / 0.042), 3)) * 0.92
    echo = bump(dx + cx * 1.1, 0, 0.05) * bump(dy + cy * 1.1, 0, 0.035) * 0.22
    wet = bump(y - lower, -0.018, 0.010) * bump(x, 0.25, 0.3) * 0.3
    spark = np.clip(window + echo + wet, 0, 1)[..., None]
    eye = eye * (1 - spark) + 246 * spark
    out = skin * (1 - inside[..., None]) + eye * inside[..., None]
    image[:] = np.clip(out, 0, 255).astype(np.uint8)


def _ramp(colour: F32, dark: float, bright: float) -> F32:
    return np.asarray(np.clip(np.stack([colour * dark, colour * bright]), 0, 255), np.float32)


def _around(pixels: F32, margin: int) -> tuple[tuple[slice, slice], F32]:
    """Return the rows and columns around the strokes (N, K, 2), and the corner at which they start."""
    low = np.clip(np.floor(pixels.min(axis=(0, 1))).astype(int) - margin, 0, SIZE - 1)
    high = np.clip(np.ceil(pixels.max(axis=(0, 1))).astype(int) + margin, 1, SIZE)
    return (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))), low.astype(np.float32)


def draw_lashes(image: U8, rng: Rng, traits: Traits, pose: Pose, side: int) -> None:
    """Draw the upper and lower lashes of one eye in place."""
    long = 1.0 if traits.male else 1.5
    colour = np.minimum(traits.hair * 0.5, 60).astype(np.float32)
    for lower_row, count, length in (
        (False, 54 if traits.male else 84, 0.095 * long),
        (True, 26, 0.045 * long),
    ):
        x = np.sort(rng.uniform(-0.8, 1.02, count)).astype(np.float32)
        up, low = _lids(traits, x)
        y = low if lower_row else up
        away = 1 if lower_row else -1
        reach = length * (0.55 + 0.5 * (x + 1) / 2) * rng.uniform(0.7, 1.15, count)
        lean = (0.25 + 0.75 * np.clip(x + 0.15, -1, 1)) * reach + rng.normal(0, 0.008, count)
        t = np.linspace(0, 1, 5, dtype=np.float32)[None, :]
        px = 1 + x[:, None] * _HALF * traits.eye_width + lean[:, None] * t
        py = y[:, None] + away * reach[:, None] * (t * 0.45 + 0.55 * t * t) * (0.8 if lower_row else 1)
        if not lower_row:
            py = py + reach[:, None] * 0.30 * t * (1 - t) + 0.004
        paths = pose.to_image(np.stack([px * side, py], axis=2).astype(np.float32))
        box, corner = _around(paths, 2)
        drawn = image[box].copy()
        strokes(drawn, paths - corner, rng.random(count).astype(np.float32), _ramp(colour, 0.5, 1.0), 3)
        cv2.addWeighted(drawn, 0.8, image[box], 0.2, 0, dst=image[box])


def draw_brow(image: U8, rng: Rng, traits: Traits, pose: Pose, side: int) -> None:
    """Draw one eyebrow in place, hair by hair over a soft shadow of itself."""
    arch = traits.brow_arch
    spine = curve([[0.42, -0.50], [0.75, -0.58 - arch * 0.6], [1.15, -0.62 - arch], [1.68, -0.40 - arch * 0.3]], 64)
    spine[:, 1] -= 0.03
    count = int(300 * traits.brow_weight) + 60
    t = rng.beta(1.1, 1.25, count).astype(np.float32)
    at = np.minimum((t * 62).astype(np.int32), 61)
    along = spine[at + 1] - spine[at]
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    thick = 0.105 * traits.brow_weight * np.interp(t, [0, 0.15, 0.55, 1], [0.7, 1, 0.85, 0.2])
    off = rng.uniform(-1, 1, count) * thick
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    root = spine[at] + across * off[:, None]
    rise = np.interp(t, [0, 0.25, 0.6, 1], [1.35, 0.75, 0.15, -0.12]) - off / np.maximum(thick, 0.02) * -0.35
    rise = rise + rng.normal(0, 0.12, count)
    turn_x, turn_y = cos(rise), -sin(rise)
    direction = np.stack([along[:, 0] * turn_x - along[:, 1] * turn_y, along[:, 1] * turn_x + along[:, 0] * turn_y], 1)
    length = rng.uniform(0.12, 0.23, count) * np.interp(t, [0, 0.2, 1], [0.75, 1, 0.8])
    s = np.linspace(0, 1, 4, dtype=np.float32)[None, :, None]
    bend = along[:, None, :] * 0.35 * s * s
    paths = root[:, None, :] + length[:, None, None] * (direction[:, None, :] * s + bend)
    paths[..., 0] *= side
    pixels = pose.to_image(np.asarray(paths, np.float32))
    box, corner = _around(pixels, 24)
    colour = np.minimum(traits.hair * 0.62, 140).astype(np.float32)
    layer = np.ascontiguousarray(image[box])
    inked = layer.copy()
    moved = pixels - corner
    strokes(inked, moved, np.zeros(count, np.float32), _ramp(colour, 0.9, 0.9), 1, 3)
    layer = np.asarray(cv2.addWeighted(layer, 0.66, cv2.GaussianBlur(inked, (0, 0), 4), 0.34, 0), np.uint8)
    hairs = layer.copy()
    strokes(hairs, moved, rng.random(count).astype(np.float32), _ramp(colour, 0.6, 1.25), 5)
    # A single hair is thinner than a pixel, so it covers only a part of what lies under it.
    image[box] = cv2.addWeighted(hairs, 0.68, layer, 0.32, 0)
