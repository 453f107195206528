"""How a method is broken, where it is: a tint, a shift, a mirror image. Measured on every face, told in words.

All of it is measured on pictures reduced to the input's size, where detail has averaged out: what differs there is not
a matter of taste.
"""

from collections.abc import Mapping
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.core.images import Pixels, psnr, resize
from pipeline.metrics.fidelity import luma

TINT: Final = 1.0
"""Grey levels of a constant difference from which it is told; rounding and clipping stay under 0.3."""
SHIFT: Final = 0.2
"""Pixels of the result from which a shift is told; estimates on faces that are not shifted stay under 0.1."""
MIRROR: Final = 1.0
"""dB that the mirrored result must match better."""
_SMOOTH: Final = 1.0


def find_faults(truth: Pixels, low: Pixels, result: Pixels) -> dict[str, float]:
    """Signs of a broken method on one face, by `measures.FAULTS`.

    Args:
        truth: uint8 (k·h, k·w, 3), RGB.
        low: uint8 (h, w, 3): the input.
        result: of the truth's shape.

    Returns:
        `bias_r`, `bias_g`, `bias_b`: mean of (result reduced − input), grey levels. `shift_x`, `shift_y`: how far the
        result lies to the right of, and below the truth, pixels of the result. `mirror_gain`: dB by which the mirrored
        result matches the truth better, both reduced; negative where it does not.
    """
    height, width = low.shape[:2]
    small_truth, small = resize(truth, height, width), resize(result, height, width)
    bias = (cv2.mean(small)[channel] - cv2.mean(low)[channel] for channel in range(3))
    factor = truth.shape[0] / height
    right, down = (factor * step for step in _shift(luma(small_truth), luma(small)))
    flipped = np.ascontiguousarray(small[:, ::-1])
    return {
        **dict(zip(("bias_r", "bias_g", "bias_b"), bias, strict=True)),
        "shift_x": right,
        "shift_y": down,
        "mirror_gain": psnr(small_truth, flipped) - psnr(small_truth, small),
    }


def _shift(truth: NDArray[np.float64], result: NDArray[np.float64]) -> tuple[float, float]:
    """Shift of a result (h, w) against the truth in x and y, by least squares over its gradient (Lucas, Kanade)."""
    first = cv2.GaussianBlur(truth.astype(np.float32), (0, 0), _SMOOTH)
    second = cv2.GaussianBlur(result.astype(np.float32), (0, 0), _SMOOTH)
    middle = (first + second) / 2
    dx = ((middle[1:-1, 2:] - middle[1:-1, :-2]) / 2).ravel().astype(np.float64)
    dy = ((middle[2:, 1:-1] - middle[:-2, 1:-1]) / 2).ravel().astype(np.float64)
    change = (second - first)[1:-1, 1:-1].ravel().astype(np.float64)
    # a tint is no movement: the constant is fitted beside it
    matrix = np.array(
        ((dx @ dx, dx @ dy, dx.sum()), (dx @ dy, dy @ dy, dy.sum()), (dx.sum(), dy.sum(), float(len(dx))))
    )
    matrix += np.eye(3) * 1e-6
    solved = np.linalg.solve(matrix, -np.array((dx @ change, dy @ change, change.sum())))
    return float(solved[0]), float(solved[1])


def diagnose(score: Mapping[str, Any]) -> list[str]:
    """Sentences about what is wrong with a method, from its means of `measures.FAULTS`; none where nothing is."""
    if any(score.get(key) is None for key in ("bias_r", "shift_x", "mirror_gain")):
        return []
    found = []
    bias = [score[f"bias_{channel}"] for channel in "rgb"]
    if score["mirror_gain"] > MIRROR:
        # its tint and shift say nothing, being those of another picture
        return [f"it is mirrored: turned left to right it matches {score['mirror_gain']:.1f} dB better"]
    if max(map(abs, bias)) >= TINT:
        if max(bias) - min(bias) < 0.3:
            colour = f"{_signed(sum(bias) / 3)} levels"
        else:
            names = ("red", "green", "blue")
            colour = ", ".join(f"{name} {_signed(value)}" for name, value in zip(names, bias, strict=True)) + " levels"
        found.append(f"its reduction differs from the input by a constant colour of {colour}")
    if max(abs(score["shift_x"]), abs(score["shift_y"])) >= SHIFT:
        place = f"({score['shift_x']:.1f}, {score['shift_y']:.1f})".replace("-", "−")
        found.append(f"it is shifted by {place} pixels to the right and down")
    return found


def _signed(value: float) -> str:
    # adding zero takes the sign off a negative one
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")
