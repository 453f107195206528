"""How a method is broken, where it is: a tint, a shift, a mirror image. Measured on every face, told in words.

All of it is measured on pictures reduced to the input's size, where detail has averaged out: what differs there is not
a matter of taste.
"""

from collections.abc import Mapping
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.core.images import Pixels, psnr, resize
from pipeline.metrics.fidelity import luma
from pipeline.metrics.registry import DEFECTS, signed

TINT: Final = 1.0
"""Grey levels of a constant difference from which it is told; rounding and clipping stay under 0.3."""
SHIFT: Final = 0.2
"""Pixels of the result from which a shift is told; estimates on faces that are not shifted stay under 0.1."""
MIRROR: Final = 1.0
"""dB that the mirrored result must match better."""
_SMOOTH: Final = 1.0


class Reduced:
    """A true picture reduced to its input's size: worked out once, for every result that is compared with it.

    Args:
        truth: uint8 (4h, 4w, 3), RGB.
        low: uint8 (h, w, 3): the input.
    """

    def __init__(self, truth: Pixels, low: Pixels):
        self.low, self.factor = low, truth.shape[0] / low.shape[0]
        self.truth = resize(truth, *low.shape[:2])
        self._luma, self._mean = luma(self.truth), cv2.mean(low)

    def measure(self, result: Pixels) -> dict[str, float]:
        """Consistency, as `fidelity.consistency` has it, and signs of a broken method, by `registry.DEFECTS`.

        Args:
            result: of the truth's shape; reduced once for all of it.

        Returns:
            `consistency`: mean |result reduced − input|, grey levels. `bias_r`, `bias_g`, `bias_b`: mean of (result
            reduced − input), grey levels. `shift_x`, `shift_y`: how far the result lies to the right of, and below the
            truth, pixels of the result. `mirror_gain`: dB by which the mirrored result matches the truth better, both
            reduced; negative where it does not.
        """
        small = resize(result, *self.low.shape[:2])
        bias = (cv2.mean(small)[channel] - self._mean[channel] for channel in range(3))
        right, down = (self.factor * step for step in _shift(self._luma, luma(small)))
        flipped = np.ascontiguousarray(small[:, ::-1])
        return {
            "consistency": cv2.norm(small, self.low, cv2.NORM_L1) / small.size,
            **dict(zip(("bias_r", "bias_g", "bias_b"), bias, strict=True)),
            "shift_x": right,
            "shift_y": down,
            "mirror_gain": psnr(self.truth, flipped) - psnr(self.truth, small),
        }


def find_defects(truth: Pixels, low: Pixels, result: Pixels) -> dict[str, float]:
    """Signs of a broken method on one face, by `registry.DEFECTS`; arguments as of `Reduced`."""
    found = Reduced(truth, low).measure(result)
    return {key: found[key] for key in DEFECTS}


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


def diagnose(score: Mapping[str, float | None]) -> list[str]:
    """Sentences about what is wrong with a method, from its means of `registry.DEFECTS`; none where nothing is."""
    values = {key: value for key in DEFECTS if (value := score.get(key)) is not None}
    if len(values) < len(DEFECTS):
        return []
    if values["mirror_gain"] > MIRROR:
        # its tint and shift say nothing, being those of another picture
        return [f"it is mirrored: turned left to right it matches {values['mirror_gain']:.1f} dB better"]
    found = []
    bias = {name: values[f"bias_{name[0]}"] for name in ("red", "green", "blue")}
    if max(map(abs, bias.values())) >= TINT:
        colour = ", ".join(f"{name} {_tenths(value)}" for name, value in bias.items())
        if max(bias.values()) - min(bias.values()) < 0.3:
            colour = _tenths(sum(bias.values()) / 3)
        found.append(f"its reduction differs from the input by a constant colour of {colour} levels")
    if max(abs(values["shift_x"]), abs(values["shift_y"])) >= SHIFT:
        shift = f"({values['shift_x']:.1f}, {values['shift_y']:.1f})".replace("-", "−")
        found.append(f"it is shifted by {shift} pixels to the right and down")
    return found


def _tenths(value: float) -> str:
    # adding zero takes the sign off a negative one
    return signed(round(value, 1) + 0.0, 1)
