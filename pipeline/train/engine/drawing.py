"""Draw things on ground truths that faces of 1024 pixels show and faces of 256 have hardly room for.

Strands of hair, chains of beads, cloth, mesh and print are structures of a few pixels there; reduced 4 times they are
dots, moiré or nothing, and reduced from 256 to 64 they were little more before. What is drawn has edges of every
sharpness, at every angle and of every colour, so that what is learned of it is how edges are reduced, not what faces
wear (as networks learn from pictures of leaves and other shapes alone: Achddou et al., "Fully synthetic training for
image restoration tasks", 2023).
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from pipeline.core.images import Pixels, rounded

_FINER = 3
"""Times as many pixels a side as the ground truth has, to draw on: Pillow's edges are hard."""
_POINTS = 24
"""Of a curve."""
_HARD = 0.4
"""Share of drawings with edges as sharp as they can be."""
_SOFT = (0.2, 1.2)
"""Range of the others' Gaussian blur, standard deviations in pixels of the ground truth."""
_OPACITY = (0.4, 1.0)
_COVERED = 255


class Canvas:
    """What is to be drawn on a ground truth.

    Args:
        truth: uint8 (h, w, 3).
        random: of all that is drawn.
    """

    def __init__(self, truth: Pixels, random: np.random.Generator):
        self.truth, self.random = truth, random
        height, width = truth.shape[:2]
        self.size = width * _FINER, height * _FINER
        """Width and height in fine pixels, the unit of all that follows."""
        self._colours, self._cover = Image.new("RGB", self.size), Image.new("L", self.size)
        self._pen, self._cover_pen = ImageDraw.Draw(self._colours), ImageDraw.Draw(self._cover)

    def line(self, points: np.ndarray, width: int, colour: np.ndarray) -> None:
        """A line along points (n, 2)."""
        path = points.ravel().tolist()
        self._pen.line(path, _rgb(colour), width)
        self._cover_pen.line(path, _COVERED, width)

    def polygon(self, points: np.ndarray, colour: np.ndarray) -> None:
        """An area within points (n, 2)."""
        path = points.ravel().tolist()
        self._pen.polygon(path, _rgb(colour))
        self._cover_pen.polygon(path, _COVERED)

    def disc(self, centre: np.ndarray, radius: float, colour: np.ndarray) -> None:
        """A disc."""
        ends = [*(centre - radius).tolist(), *(centre + radius).tolist()]
        self._pen.ellipse(ends, _rgb(colour))
        self._cover_pen.ellipse(ends, _COVERED)

    def fill(self, mask: Image.Image, colour: np.ndarray) -> None:
        """Where a mask of the canvas' size, mode `1`, is set."""
        self._colours.paste(_rgb(colour), (0, 0), mask)
        self._cover.paste(_COVERED, (0, 0), mask)

    def colour(self) -> np.ndarray:
        """Light, dark, one of the picture's own made lighter or darker, or any: (3,), 0 to 255 and beyond."""
        kind = self.random.random()
        if kind < 0.35:
            return self.random.uniform(190, 255, 3)
        if kind < 0.65:
            return self.random.uniform(0, 60, 3)
        if kind < 0.9:
            place = self.random.integers(self.truth.shape[0]), self.random.integers(self.truth.shape[1])
            own: np.ndarray = self.truth[place] * self.random.uniform(0.4, 1.8)
            return own
        return self.random.uniform(0, 255, 3)

    def like(self, colour: np.ndarray) -> np.ndarray:
        """A colour near another."""
        return colour + self.random.normal(0, 18) + self.random.normal(0, 4, 3)

    def between(self, least: float, most: float) -> float:
        """A number of a range, as likely below its geometric mean as above."""
        return float(np.exp(self.random.uniform(np.log(least), np.log(most))))

    def place(self) -> np.ndarray:
        """A point of the canvas, (2,)."""
        return self.random.random(2) * self.size

    def drawn(self) -> Pixels:
        """The ground truth with what was drawn on it: uint8 (h, w, 3)."""
        # black where nothing was drawn, so that the mean of the fine pixels is colour times cover
        parts = self._colours.reduce(_FINER), self._cover.reduce(_FINER)
        if self.random.random() > _HARD:
            blur = ImageFilter.GaussianBlur(self.random.uniform(*_SOFT))
            parts = parts[0].filter(blur), parts[1].filter(blur)
        opacity = self.random.uniform(*_OPACITY)
        covered = np.asarray(parts[1], np.float32)[..., None] * (opacity / 255)
        return rounded(self.truth * (1 - covered) + opacity * np.asarray(parts[0], np.float32))


def draw(truth: Pixels, random: np.random.Generator) -> Pixels:
    """Draw one or two kinds of things on a ground truth: uint8 (h, w, 3) -> the same shape."""
    for _ in range(random.integers(1, 3)):
        canvas = Canvas(truth, random)
        KINDS[random.integers(len(KINDS))](canvas)
        truth = canvas.drawn()
    return truth


def strands(canvas: Canvas) -> None:
    """One to three bundles of long thin lines: hair, threads, twigs."""
    random = canvas.random
    for _ in range(random.integers(1, 4)):
        colour, thick = canvas.colour(), random.integers(1, 2 * _FINER + 1)
        for curve in _curves(canvas, int(canvas.between(1, 30))):
            canvas.line(curve, max(1, int(thick + random.integers(-1, 2))), canvas.like(colour))


def fur(canvas: Canvas) -> None:
    """Many short lines side by side: fur, stubble, lashes, grass."""
    random = canvas.random
    colour, thick = canvas.colour(), random.integers(1, 2 * _FINER)
    count, length = int(canvas.between(20, 300)), canvas.between(5, 40) * _FINER
    spread = canvas.between(0.05, 0.4) * max(canvas.size)
    roots = canvas.place() + random.normal(0, spread, (count, 2))
    # angles change slowly from place to place
    turns = random.uniform(0, 2 * np.pi) + (roots / max(canvas.size)) @ random.normal(0, 2, 2)
    turns += random.normal(0, 0.15, count)
    bends = random.normal(0, 0.4, count)
    points = [roots]
    for _ in range(3):
        points.append(points[-1] + np.stack([np.cos(turns), np.sin(turns)], 1) * (length / 3))
        turns = turns + bends
    for stroke in np.stack(points, 1):
        canvas.line(stroke, int(thick), canvas.like(colour))


def beads(canvas: Canvas) -> None:
    """Chains of discs, each with a light spot."""
    random = canvas.random
    for _ in range(random.integers(1, 4)):
        colour, radius = canvas.colour(), canvas.between(1, 5) * _FINER
        gap, light = radius * random.uniform(1.6, 4), random.uniform(30, 120)
        for curve in _curves(canvas, int(random.integers(1, 4))):
            one = canvas.like(colour)
            lengths = np.hypot(*np.diff(curve, axis=0).T)
            at = np.concatenate([[0], np.cumsum(lengths)])
            along = np.arange(0, at[-1], gap)
            for centre in np.stack([np.interp(along, at, curve[:, axis]) for axis in (0, 1)], 1):
                canvas.disc(centre, radius, one)
                canvas.disc(centre - 0.3 * radius, 0.35 * radius, one + light)


def leaves(canvas: Canvas) -> None:
    """Shapes with three to six corners, or round ones, over one another."""
    random = canvas.random
    middle, spread = canvas.place(), random.uniform(0.1, 0.6) * max(canvas.size)
    for _ in range(int(canvas.between(3, 80))):
        if random.random() < 0.5:
            angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 7)))
        else:
            angles = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
        stretch = np.exp(random.normal(0, 0.5)) ** np.array([1, -1])
        outline = np.stack([np.cos(angles), np.sin(angles)], 1) * stretch * canvas.between(2, 40) * _FINER
        centre = middle + random.normal(0, spread, 2)
        canvas.polygon(outline @ _rotation(random.uniform(0, np.pi)) + centre, canvas.colour())


def cloth(canvas: Canvas) -> None:
    """Stripes, checks or a mesh within a disc, straight or wavy, on a ground of their own or on the picture."""
    random = canvas.random
    across, down = (np.arange(length, dtype=np.float32) for length in canvas.size)
    turn = _rotation(random.uniform(0, np.pi)) / (canvas.between(3, 24) * _FINER)
    (a, b), (c, d) = turn.astype(np.float32).tolist()
    u, v = a * across + b * down[:, None], c * across + d * down[:, None]
    u += random.uniform(0, 1.5) * np.sin(v * random.uniform(0.05, 0.6) + random.uniform(0, 6))
    width = random.uniform(0.2, 0.8)
    on = u % 1 < width
    crossing = random.random()
    if crossing < 0.5:
        other = v * random.uniform(0.7, 1.4) % 1 < width
        on = on ^ other if crossing < 0.25 else on | other
    left, top = canvas.place().tolist()
    radius = random.uniform(0.1, 0.4) * max(canvas.size)
    inside = (across - left) ** 2 + (down[:, None] - top) ** 2 < radius**2
    if random.random() < 0.5:
        canvas.fill(Image.fromarray(inside), canvas.colour())
    canvas.fill(Image.fromarray(inside & on), canvas.colour())


def lettering(canvas: Canvas) -> None:
    """Lines of letters and signs."""
    random = canvas.random
    font = ImageFont.load_default(canvas.between(8, 40) * _FINER)
    lines = ["".join(map(chr, random.integers(33, 127, 24))) for _ in range(random.integers(1, 5))]
    mask = Image.new("1", canvas.size)
    left, top = (random.uniform(-0.1, 0.4, 2) * canvas.size).tolist()
    ImageDraw.Draw(mask).text((left, top), "\n".join(lines), fill=1, font=font)
    canvas.fill(mask.rotate(random.uniform(0, 360)), canvas.colour())


KINDS: tuple[Callable[[Canvas], None], ...] = (strands, strands, fur, beads, leaves, cloth, lettering)
"""Each as likely as another, strands twice: hair is what faces have most of."""


def _curves(canvas: Canvas, count: int) -> np.ndarray:
    """Cubic Bezier curves near one another, (count, points, 2)."""
    random, side = canvas.random, max(canvas.size)
    angle, length, bend = random.uniform(0, 2 * np.pi), random.uniform(0.4, 1.6) * side, random.uniform(0, 0.35) * side
    along = np.array([np.cos(angle), np.sin(angle)]) * length
    ends = random.uniform(0.1, 0.9, 2) * canvas.size + np.linspace(-0.5, 0.5, 4)[:, None] * along
    ends += random.normal(0, bend, (4, 2))
    spread = canvas.between(0.02, 0.2) * side
    shifts = random.normal(0, spread, (count, 1, 2)) + random.normal(0, 0.3 * spread, (count, 4, 2))
    at = np.linspace(0, 1, _POINTS)[:, None]
    return np.hstack([(1 - at) ** 3, 3 * at * (1 - at) ** 2, 3 * at**2 * (1 - at), at**3]) @ (ends + shifts)


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _rgb(colour: np.ndarray) -> tuple[int, ...]:
    """As Pillow takes it."""
    return tuple(rounded(colour).tolist())
