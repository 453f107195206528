"""Draw long thin lines on ground truths: strands of hair, threads, twigs.

Faces of 1024 pixels have them, a pixel or two wide and hundreds long; reduced 4 times they are chains of faint dots.
Faces of 256 hardly have any, so that what is learned from these alone breaks them up.
"""

import numpy as np
from PIL import Image, ImageDraw

from pipeline.core.images import Pixels, rounded

_FINER = 3
"""Times as many pixels a side as the ground truth has, to draw on: Pillow's lines have hard edges."""
_POINTS = 24
"""Of a curve."""
_BUNDLES = (1, 4)
"""Range of bundles in a ground truth, the last excluded."""
_MOST = 30
"""Strands in a bundle."""


def draw_strands(truth: Pixels, random: np.random.Generator) -> Pixels:
    """Draw one to three bundles of strands, each of one colour more or less: uint8 (h, w, 3) -> the same shape."""
    height, width = truth.shape[:2]
    size = width * _FINER, height * _FINER
    colours, cover = Image.new("RGB", size), Image.new("L", size)
    pens = ImageDraw.Draw(colours), ImageDraw.Draw(cover)
    for _ in range(random.integers(*_BUNDLES)):
        curves, widths = _bundle(size, random)
        shade = _shade(truth, random)
        for curve, thick in zip(curves, widths, strict=True):
            one = shade + random.normal(0, 18) + random.normal(0, 4, 3)
            points = [tuple(point) for point in curve.tolist()]
            pens[0].line(points, fill=tuple(rounded(one).tolist()), width=thick)
            pens[1].line(points, fill=255, width=thick)
    # black where nothing was drawn, so that the mean of the small pixels is colour times cover
    drawn = np.asarray(colours.reduce(_FINER), np.float32)
    covered = np.asarray(cover.reduce(_FINER), np.float32)[..., None] / 255
    opacity = random.uniform(0.5, 1.0)
    return rounded(truth * (1 - opacity * covered) + opacity * drawn)


def _bundle(size: tuple[int, int], random: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Cubic Bezier curves near one another, (n, points, 2) in small pixels, and how wide each is drawn."""
    side = max(size)
    angle, length, bend = random.uniform(0, 2 * np.pi), random.uniform(0.4, 1.6) * side, random.uniform(0, 0.35) * side
    along = np.array([np.cos(angle), np.sin(angle)]) * length
    ends = random.uniform(0.1, 0.9, 2) * size + np.linspace(-0.5, 0.5, 4)[:, None] * along
    ends += random.normal(0, bend, (4, 2))
    count = int(np.exp(random.uniform(0, np.log(_MOST))))
    spread = np.exp(random.uniform(np.log(0.02), np.log(0.2))) * side
    shifts = random.normal(0, spread, (count, 1, 2)) + random.normal(0, 0.3 * spread, (count, 4, 2))
    at = np.linspace(0, 1, _POINTS)[:, None]
    weights = np.hstack([(1 - at) ** 3, 3 * at * (1 - at) ** 2, 3 * at**2 * (1 - at), at**3])
    widths = random.integers(1, 2 * _FINER + 1) + random.integers(-1, 2, count)
    return weights @ (ends + shifts), np.maximum(1, widths).tolist()


def _shade(truth: Pixels, random: np.random.Generator) -> np.ndarray:
    """A light or a dark colour, one of the picture's own made lighter or darker, or any: (3,), 0 to 255 and beyond."""
    kind = random.random()
    if kind < 0.35:
        return random.uniform(190, 255, 3)
    if kind < 0.65:
        return random.uniform(0, 60, 3)
    if kind < 0.9:
        place = random.integers(truth.shape[0]), random.integers(truth.shape[1])
        shade: np.ndarray = truth[place] * random.uniform(0.4, 1.8)
        return shade
    return random.uniform(0, 255, 3)
