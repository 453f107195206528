"""Where a face lies in a picture: the square that aligned data sets cut out, and resampling to upright frames.

Coordinates are continuous: the first pixel covers 0 to 1, its centre is 0.5. A point p of a picture is so 4p in its
fourfold enlargement; OpenCV's warps, which count from the centre of the first pixel, see `centred`. A matrix is
float (2, 3), affine, from one such plane to another.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.images import Planes

Floats = NDArray[np.float64]

STEP, SMALLEST = 16, 64
"""Sides of canonical frames are multiples of `STEP`, pixels, and at least `SMALLEST`."""
_LEVEL = float(np.sin(np.radians(10)))
"""A face turned by less than 10 degrees is upright: aligned data sets hold such faces too."""


def square(points: Floats) -> tuple[Floats, Floats]:
    """Centre and right half-axis of the square that CelebA-HQ's recipe lays around a face.

    The recipe is the one of Karras et al., Progressive Growing of GANs, ICLR 2018, appendix C, with the landmarks that
    a detector gives: centres of the eyes and corners of the mouth.
    """
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    eye_to_eye, eye_to_mouth = points[1] - points[0], mouth - eyes
    axis = eye_to_eye - np.array((-eye_to_mouth[1], eye_to_mouth[0]))
    size = max(2.0 * np.hypot(*eye_to_eye), 1.8 * np.hypot(*eye_to_mouth))
    return eyes + 0.1 * eye_to_mouth, axis / max(1e-9, np.hypot(*axis)) * size


def canonical(points: Floats) -> tuple[Floats, int, float]:
    """The upright frame in which a face is enlarged, centred on the square of CelebA-HQ's recipe.

    Its pixels are as large as the picture's, so that nothing is lost or made up before the network; the frame is the
    square widened to a side that networks take.

    Args:
        points: float (5, 2), landmarks in the order of `pipeline.faces.detector.Face`.

    Returns:
        The matrix from the picture to the frame; the frame's side, pixels; the side of the recipe's square, pixels.
    """
    centre, axis = square(points)
    half = max(1e-9, float(np.hypot(*axis)))
    side = max(SMALLEST, int(-(-2 * half // STEP) * STEP))
    return centred_on(centre, rotation(axis / half), side), side, 2 * half


def rotation(right: Floats | tuple[float, float]) -> Floats:
    """(2, 2), turns a vector of the picture to the right, and scales by its length."""
    x, y = right
    return np.array(((x, y), (-y, x)))


def centred_on(centre: Floats, turn: Floats, side: int) -> Floats:
    """The matrix to a square of `side` pixels around a point of the picture, turned by (2, 2)."""
    return np.column_stack((turn, side / 2 - turn @ centre))


def roll(points: Floats) -> float:
    """Degrees by which landmarks (5, 2) are turned against an upright face, clockwise in the picture, -180..180."""
    _, axis = square(points)
    return float(np.degrees(np.arctan2(axis[1], axis[0])))


def snapped(matrix: Floats, side: int) -> tuple[Floats, bool]:
    """A canonical frame moved to whole pixels if the face is upright or lies on its side; True if it was.

    Pixels that are cut out and put back as they are lose nothing; a face that is turned otherwise has to be resampled.
    """
    turn = np.rint(matrix[:, :2])
    if np.abs(matrix[:, :2] - turn).max() > _LEVEL:
        return matrix, False
    centre = apply(inverse(matrix), np.full((1, 2), side / 2))[0]
    return np.column_stack((turn, np.rint(side / 2 - turn @ centre))), True


def sample(pixels: Planes, matrix: Floats, side: int) -> Planes:
    """The square of `side` pixels that `matrix` maps a picture to; what lies outside repeats the border.

    Args:
        pixels: (h, w, c).
        matrix: float (2, 3), continuous coordinates of the picture to those of the square: turned, scaled and moved.

    Returns:
        (side, side, c) of the same depth; antialiased where the picture is reduced.
    """
    import cv2

    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    corners = apply(inverse(matrix), np.array(((0, 0), (side, 0), (0, side), (side, side)), float))
    step = max(1, int(1 / scale))
    box = box_around(corners, 8 * step, pixels.shape[1], pixels.shape[0])  # 8: the reach of the kernel
    part: Any = np.ascontiguousarray(pixels[box[1] : box[3], box[0] : box[2]])
    shrunk = max(1, part.shape[1] // step), max(1, part.shape[0] // step)
    ratio = np.array((part.shape[1] / shrunk[0], part.shape[0] / shrunk[1]))
    if step > 1:
        part = cv2.resize(part, shrunk, interpolation=cv2.INTER_AREA)
    # what is left is a reduction by less than 2: sampled twice as dense, then averaged
    dense = 2 if scale < 0.99 else 1
    moved = matrix[:, 2] + matrix[:, :2] @ box[:2]
    warp = dense * np.column_stack((matrix[:, :2] * ratio, moved))
    size = (dense * side, dense * side)
    part = cv2.warpAffine(part, centred(warp), size, flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    if dense > 1:
        part = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA)
    return part.reshape(side, side, -1)


def box_around(points: Floats, margin: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Whole pixels left, top, right, bottom around points, at least one pixel of the picture."""
    low, high = np.floor(points.min(axis=0)) - margin, np.ceil(points.max(axis=0)) + margin
    left, top = int(np.clip(low[0], 0, width - 1)), int(np.clip(low[1], 0, height - 1))
    return left, top, int(np.clip(high[0], left + 1, width)), int(np.clip(high[1], top + 1, height))


def apply(matrix: Floats, points: Floats) -> Floats:
    """Points (n, 2) mapped by a matrix."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def inverse(matrix: Floats) -> Floats:
    """The matrix of the way back."""
    turn = np.linalg.inv(matrix[:, :2])
    return np.column_stack((turn, -turn @ matrix[:, 2]))


def centred(matrix: Floats) -> Floats:
    """An affine map of continuous coordinates as OpenCV wants it, from centre of pixel to centre of pixel."""
    return np.column_stack((matrix[:, :2], matrix[:, 2] + matrix[:, :2] @ (0.5, 0.5) - 0.5))
