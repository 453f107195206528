"""Where the head is: the map between face coordinates and pixels, and the outline of the head.

Face coordinates have the eyes at (-1, 0) and (1, 0), v pointing down; one unit is about 0.12 of the width.
Turning the head moves each point by its depth, so features shift against an outline that stays in place.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.synthetic.canvas import F32, SIZE, Rng, blurred
from pipeline.synthetic.functions import cos, exp
from pipeline.synthetic.traits import Traits

# The grid of face coordinates in which skin is shaded: a little under half the resolution of the picture.
GRID = 52
U0, U1, V0, V1 = -3.3, 3.3, -4.1, 4.9
COLS, ROWS = int((U1 - U0) * GRID), int((V1 - V0) * GRID)


def _depth(u: F32, v: F32) -> F32:
    round_ = np.maximum(0, 1 - (u / 2.4) ** 2) * np.maximum(0, 1 - ((v - 0.3) / 4.2) ** 2)
    nose = exp(-((u / 0.5) ** 2) - ((v - 1.1) / 0.6) ** 2)
    return np.asarray(round_ + 0.10 * nose, np.float32)


@dataclass(frozen=True)
class Pose:
    """A turn (`yaw`, `pitch` in face units at the nose), a tilt in radians, a scale and a place."""

    yaw: float
    pitch: float
    tilt: float
    unit: float
    centre: tuple[float, float]

    def to_image(self, points: F32) -> F32:
        """Map face coordinates (..., 2) to pixels (..., 2)."""
        u, v = points[..., 0], points[..., 1]
        d = _depth(u, v)
        # The eye line keeps its place when the head turns, as it does in aligned face photographs.
        x = u + self.yaw * (d - 0.8)
        y = v + self.pitch * (d - 0.8)
        c, s = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        px = self.centre[0] + self.unit * (c * x - s * y)
        py = self.centre[1] + self.unit * (s * x + c * y)
        return np.asarray(np.stack([px, py], axis=-1), np.float32)

    def to_grid(self) -> tuple[F32, F32]:
        """Return the place of every pixel on the skin grid: columns and rows, two (1024, 1024) arrays."""
        n = SIZE // 4
        centres = (np.arange(n, dtype=np.float32) + 0.5) * 4 - 0.5
        x = ((centres - self.centre[0]) / self.unit)[None, :]
        y = ((centres - self.centre[1]) / self.unit)[:, None]
        c, s = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        x, y = c * x + s * y, -s * x + c * y
        u, v = x + 0, y + 0
        for _ in range(7):
            d = _depth(u, v) - 0.8
            u, v = x - self.yaw * d, y - self.pitch * d
        column, row = (u - np.float32(U0)) * GRID - 0.5, (v - np.float32(V0)) * GRID - 0.5
        full = (SIZE, SIZE)
        return (
            np.asarray(cv2.resize(column, full, interpolation=cv2.INTER_LINEAR), np.float32),
            np.asarray(cv2.resize(row, full, interpolation=cv2.INTER_LINEAR), np.float32),
        )


def draw_pose(rng: Rng) -> Pose:
    """Return a pose, its limits those of an aligned portrait."""
    unit = 0.12 * SIZE * rng.uniform(0.93, 1.05)
    return Pose(
        yaw=float(np.clip(rng.normal(0, 0.28), -0.62, 0.62)),
        pitch=float(np.clip(rng.normal(0.0, 0.12), -0.25, 0.25)),
        tilt=float(np.clip(rng.normal(0, 0.045), -0.11, 0.11)),
        unit=float(unit),
        centre=(float(SIZE / 2 + rng.normal(0, 12)), float(SIZE * 0.452 + rng.normal(0, 10))),
    )


def half_width(traits: Traits, v: F32) -> F32:
    """Return half the width of the head at heights `v`; 0 above the skull and below the chin."""
    j, c = traits.jaw, traits.chin
    heights = [-3.55, -3.5, -3.35, -3.05, -2.6, -2.0, -1.3, -0.5, 0.3, 1.1, 1.8, 2.35, 2.8, 3.12 + 0.5 * c]
    widths = [
        0.0,
        0.42,
        0.92,
        1.4,
        1.8,
        2.08,
        2.22,
        2.26,
        2.2,
        2.06,
        1.86 + 0.6 * j,
        1.6 + j,
        1.29 + 0.9 * j,
        1.0 + 0.7 * j,
    ]
    heights += [3.35 + 0.8 * c, 3.5 + c, 3.58 + c, 3.61 + c]
    widths += [0.78 + 0.5 * j, 0.60 + 0.3 * j, 0.40 + 0.1 * j, 0.0]
    smooth = np.interp(np.linspace(-3.6, 3.9, 151), heights, widths).astype(np.float32)
    core = blurred(smooth[None], 2.2)[0]
    # Blurring would open the two tips, which must close.
    keep = np.clip(np.minimum(np.arange(151) - 4, 150 - np.arange(151) - 6 + 10 * c) / 8, 0, 1)
    smooth = (core * keep + smooth * (1 - keep)) * np.float32(traits.width)
    return np.asarray(np.interp(v, np.linspace(-3.6, 3.9, 151), smooth), np.float32)


def outline(traits: Traits, count: int = 160) -> F32:
    """Return the outline of head and neck as a closed polygon (N, 2) in face coordinates."""
    t = np.linspace(0, np.pi, count)
    v = (-3.55 * (1 + cos(t)) / 2 + (3.61 + traits.chin) * (1 - cos(t)) / 2).astype(np.float32)
    w = half_width(traits, v)
    right = np.stack([w, v], axis=1)
    left = np.stack([-w[::-1], v[::-1]], axis=1)
    return np.asarray(np.concatenate([right, left]), np.float32)


def neck_width(traits: Traits) -> float:
    """Return half the width of the neck."""
    return (1.42 if traits.male else 1.14) * traits.width
