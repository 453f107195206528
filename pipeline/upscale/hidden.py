"""What of a picture's channels says nothing: colours where alpha is 0, and three colours that are one grey."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.images import Planes

_REACH = 16
"""Pixels around what is seen whose colours are made up: what lies farther away hardly matters to a network."""
_BAND = 256
"""Rows that are compared at a time."""
_AROUND = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]


def is_grey(picture: Planes) -> bool:
    """True if all colours of (h, w, 1 to 4) are equal in every pixel."""
    if picture.shape[2] < 3:
        return True
    bands = (picture[start : start + _BAND] for start in range(0, len(picture), _BAND))
    # a picture of colours shows it in its first rows
    return all(
        np.array_equal(band[..., 0], band[..., 1]) and np.array_equal(band[..., 0], band[..., 2]) for band in bands
    )


def filled(picture: Planes) -> Planes:
    """A picture whose colours under alpha 0 go on from those that are seen; the very same where alpha is 0 nowhere.

    Args:
        picture: (h, w, 1 to 4), not changed.

    Returns:
        The same shape and type; alpha, and colours where it is above 0, bit by bit as they were.
    """
    if picture.shape[2] not in (2, 4):
        return picture
    seen: NDArray[np.bool_] = picture[..., -1] > 0
    if seen.all() or not seen.any():
        return picture
    height, width = seen.shape
    result = picture.copy()
    colours: Any = result[..., :-1]
    # far from what is seen: its mean
    total = sum(picture[row, seen[row], :-1].sum(axis=0, dtype=np.float64) for row in range(height))
    colours[~seen] = np.rint(total / np.count_nonzero(seen)).astype(picture.dtype)
    known = np.pad(seen, 1)
    edge = np.zeros_like(known)
    for down, across in _AROUND:
        edge[1:-1, 1:-1] |= known[1 + down : 1 + down + height, 1 + across : 1 + across + width]
    edge &= ~known
    # rim: a frame of one pixel, so that no neighbour lies outside; it is never filled
    rim = np.ones_like(known)
    rim[1:-1, 1:-1] = False
    rows, columns = np.nonzero(edge & ~rim)
    for _ in range(_REACH):
        if not len(rows):
            break
        values = np.zeros((len(rows), colours.shape[2]))
        weights = np.zeros((len(rows), 1))
        for down, across in _AROUND:
            there = known[rows + down, columns + across]
            # rows and columns count the frame
            y, x = rows[there] + down - 1, columns[there] + across - 1
            weight = 1.0 if 0 in (down, across) else 0.5
            values[there] += weight * colours[y, x]
            weights[there] += weight
        colours[rows - 1, columns - 1] = np.rint(values / weights).astype(picture.dtype)
        known[rows, columns] = True
        edge[:] = False
        for down, across in _AROUND:
            edge[rows + down, columns + across] = True
        rows, columns = np.nonzero(edge & ~known & ~rim)
    return result
