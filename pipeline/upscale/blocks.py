"""Find the grid of 8x8 blocks that a JPEG compression leaves in pixels stored losslessly after it, and its quality.

On the right grid coefficients of the cosine transform lie near multiples of the compression's steps, and on no other.
"""

from functools import cache
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.core.chain import standard_tables, table_factor

SIDE: Final = 8
"""Of a block, pixels."""
LUMA: Final = np.array([0.299, 0.587, 0.114])
"""Weights of BT.601, JPEG's."""
_QUALITIES: Final = range(10, 98)
_COARSE: Final = 4
"""Steps of quality that are tried first."""
_EIGHT: Final = np.uint64(0x0101010101010101)
_FEW: Final = 128
_MANY: Final = 512
"""Blocks that are looked at, at most: to find the grid, and to find the quality. They are spread over the picture."""
_SIGMA: Final = 0.4
"""Of what rounding to whole grey levels adds to a coefficient, luma."""
_ZERO: Final = 1.2
"""Coefficients below this are 0 on any grid."""
_OUTLIERS: Final = 0.03
"""Share of coefficients that rounding does not explain."""
_LEAST: Final = 60.0
"""Logarithm of the odds by which a grid must be likelier than none."""
_SPARSE: Final = 4
_HOPELESS: Final = -200.0
"""The same of each `_SPARSE`-th block, below which the others are not looked at: of 4,336 pictures with a grid that is
found -146 was the least, of most without one it is -250 to -550."""
_LOW: Final = tuple((row, column) for row, column in product(range(4), repeat=2) if 0 < row + column < 4)
"""Frequencies by which grids are compared."""
_MIDDLE: Final = tuple((row, column) for row, column in product(range(6), repeat=2) if 0 < row + column < 6)
"""Frequencies by which qualities are compared."""
_TOGETHER: Final = 8
"""Densities that are multiplied before their logarithm is taken."""
_LIKELY: Final = 3
"""Rows, and columns, at which a grid may begin that are looked at, of 8: those where neighbours jump most."""


@cache
def cosines() -> NDArray[np.float64]:
    """Matrix (8, 8) of the orthonormal cosine transform: C @ block @ C.T are a block's coefficients."""
    places = np.arange(SIDE)
    matrix = np.cos((2 * places[None] + 1) * places[:, None] * np.pi / (2 * SIDE)) / 2
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix)


def hidden_quality(planes: NDArray[Any]) -> float | None:
    """Estimate the quality of a JPEG compression that pixels still show.

    Args:
        planes: float (h, w, 1 or 3), grey levels 0 to 255.

    Returns:
        Quality, 10 to 97, that of other tables than the standard's by their mean step; None where no grid is found.
    """
    if min(planes.shape[:2]) < 3 * SIDE:
        return None
    luma = planes @ LUMA if planes.shape[2] == 3 else planes[..., 0]
    # where colours were cut off, luma is not what was compressed
    inside = (planes > 0) & (planes < 255)
    # channel by channel: along an axis of 3 it takes seven times as long
    whole = np.logical_and.reduce([inside[..., channel] for channel in range(planes.shape[2])])
    if (quality := _quality(luma, whole)) is not None:
        return quality  # nobody has cut anything off
    odds: dict[tuple[int, int], float] = {}
    for top, left in product(_likely(luma), _likely(luma.T)):
        found = _coefficients(luma[top:, left:], whole[top:, left:], _FEW)
        odds[top, left] = float(_odds(found, _steps(_COARSE, _LOW)).max())
    top, left = max(odds, key=lambda shift: odds[shift])
    return _quality(luma[top:, left:], whole[top:, left:])


def _likely(luma: NDArray[Any]) -> list[int]:
    """Rows from 0 to 7 at which blocks most likely begin: where (h, w) bends more between two rows than beside them."""
    bend = np.abs(luma[3:] - 3 * luma[2:-1] + 3 * luma[1:-2] - luma[:-3]).mean(axis=1)  # between rows i + 1 and i + 2
    lines = [float(bend[(row - 2) % SIDE :: SIDE].mean()) for row in range(SIDE)]
    around = [lines[row - 1] + lines[(row + 1) % SIDE] for row in range(SIDE)]
    return sorted(range(SIDE), key=lambda row: around[row] - 2 * lines[row])[:_LIKELY]


def _quality(luma: NDArray[Any], whole: NDArray[np.bool_]) -> float | None:
    """As `hidden_quality`, of luma (h, w) whose first block begins at its corner; `whole` where it was not cut off."""
    found = _coefficients(luma, whole, _MANY)
    if _odds(found[::_SPARSE], _steps(1, _MIDDLE)).max() < _HOPELESS:
        return None
    odds = _odds(found, _steps(1, _MIDDLE))
    best = int(odds.argmax())
    return float(_QUALITIES[best // 2]) if odds[best] > _LEAST else None


@cache
def _tables() -> NDArray[np.float64]:
    """Luma tables (qualities, 2, 8, 8): the standard's, and those of editors that spare high frequencies."""
    standard = np.reshape(standard_tables()[0], (SIDE, SIDE))
    flat = np.sqrt(standard) * standard.mean() / np.sqrt(standard).mean()
    factors = np.array([table_factor(quality) for quality in _QUALITIES])[:, None, None, None]
    return np.asarray(np.clip(np.floor(factors * np.stack([standard, flat]) + 0.5), 1, 255))


def _coefficients(luma: NDArray[Any], whole: NDArray[np.bool_], most: int) -> NDArray[np.float64]:
    """Of blocks without pixels that were cut off, (n, 8, 8), n at most `most`."""
    rows, columns = luma.shape[0] // SIDE, luma.shape[1] // SIDE
    cut = slice(SIDE * rows), slice(SIDE * columns)
    # eight truths side by side are one number
    eights = np.ascontiguousarray(whole[cut]).view(np.uint64).reshape(rows, SIDE, columns)
    chosen = np.flatnonzero((eights == _EIGHT).all(axis=1))
    chosen = chosen[:: -(-len(chosen) // most) or 1]
    # only those are copied
    blocks = luma[cut].reshape(rows, SIDE, columns, SIDE)[chosen // columns, :, chosen % columns]
    return np.asarray(cosines() @ blocks @ cosines().T)


def in_blocks(plane: NDArray[Any]) -> NDArray[Any]:
    """Cut (h, w) into whole blocks: (n, 8, 8)."""
    rows, columns = plane.shape[0] // SIDE, plane.shape[1] // SIDE
    cut = plane[: SIDE * rows, : SIDE * columns].reshape(rows, SIDE, columns, SIDE)
    return cut.swapaxes(1, 2).reshape(-1, SIDE, SIDE)


@cache
def _steps(every: int, frequencies: tuple[tuple[int, int], ...]) -> list[tuple[int, int, NDArray[np.float32], Any]]:
    """Of each frequency: row, column, the distinct steps (n, 1) of each `every`-th table, which of them it has."""
    tables = _tables()[::every].reshape(-1, SIDE, SIDE)
    result = []
    for row, column in frequencies:
        steps, which = np.unique(tables[:, row, column], return_inverse=True)
        result.append((row, column, steps[:, None].astype(np.float32), which))
    return result


def _odds(found: NDArray[Any], tables: list[tuple[int, int, NDArray[np.float32], Any]]) -> NDArray[Any]:
    """Logarithm of the odds of each of t tables against none, by `_steps` of them and (n, 8, 8): (t,)."""
    total = np.zeros(len(tables[0][3]))
    for row, column, steps, which in tables:
        values = found[:, row, column].astype(np.float32)
        values = values[np.abs(values) > _ZERO]
        if not len(values):
            continue
        # density of each value under each step, in place: its distance from a multiple, squared, and the normal law
        density = values / steps
        density -= np.rint(density)
        density *= density
        density *= -0.5 * (steps / _SIGMA) ** 2
        np.exp(density, out=density)
        density *= (1 - _OUTLIERS) * steps / (_SIGMA * np.sqrt(2 * np.pi))
        density += _OUTLIERS
        # one logarithm of a product of several, which float32 still holds
        several = density[:, : density.shape[1] // _TOGETHER * _TOGETHER].reshape(len(steps), _TOGETHER, -1)
        rest = density[:, several.shape[1] * several.shape[2] :]
        logarithms = np.log(several.prod(axis=1)).sum(axis=1) + np.log(rest).sum(axis=1)
        total += logarithms[which]
    return total
