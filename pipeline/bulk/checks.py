"""Checks of results that need no original: agreement with the input, and which pictures a person should look at."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.images import resize
from pipeline.core.sampling import evenly_spaced
from pipeline.core.scales import FACTOR
from pipeline.core.schema import Row

Planes = NDArray[np.uint8] | NDArray[np.uint16]
"""(height, width, channels): 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; 0-255 or 0-65535."""

_TILE: Final = 256
"""Least side of the pieces of the input that are compared one after another; of a result some 10 MB at a time."""
_TALL_TILE: Final = 5 * _TILE
"""Least height of the pieces of a picture more than twice as tall as wide. Pillow 13 reduces such a picture first
vertically and others first horizontally, which rounds differently: a piece has to be tall where its picture is."""
_MARGIN: Final = 2
"""Input pixels around a piece. A bicubic reduction by 4 reaches 8 pixels of the result each way from a pixel's middle,
6 beyond its border; whole input pixels keep the pieces on the same grid as the picture."""

DISAGREES: Final = 1.0
"""Grey levels that a result may stray from its input unremarked. The released networks stray by 0.004 on clean inputs,
0.2 on JPEG and with realism, 2.4 on inputs with noise of 8 grey levels (which they take out): one level, spread over a
face, is at the edge of what is seen."""
DISAGREES_ALWAYS: Final = 5.0
"""Grey levels beyond which a picture is looked at even where all others stray as far: where a whole set went wrong, no
picture of it stands out."""
IDENTITY_LOW: Final = 0.5
"""Cosine below which a result may show somebody else. A picture and its own enlargement score above 0.9; the usual
thresholds of face verification, between different photographs of one person, lie between 0.3 and 0.5."""
IDENTITY_SURE: Final = 0.8
"""Cosine from which an outlier is none: a set at 0.99 has outliers at 0.97, and they show the same person."""
OUTLIER: Final = 3.5
"""Robust z-score of an outlier, as Iglewicz and Hoaglin (1993) recommend for the median and the MAD."""
_NORMAL: Final = 1.4826
"""MAD to standard deviation, for a normal distribution."""
_FEWEST: Final = 5
"""Values below which median and MAD say nothing about what is usual: the absolute thresholds stand alone."""
_SPREAD: Final = 0.01
"""Least spread, grey levels or cosine, so that among equal values the smallest difference is no outlier."""


def consistency(low: Planes, high: Planes) -> float:
    """Mean |result reduced 4x by the one bicubic - input| over the colour channels, on the 0-255 scale.

    The picture is compared piece by piece, so that a result in a file (`np.memmap`) is never in memory whole; 8-bit
    pictures give the same number as reducing them whole by `images.resize`. 16 bits are reduced by the same kernel in
    floating point. Alpha is not counted.

    Args:
        low: uint8 or uint16 (h, w, c), the input.
        high: uint8 or uint16 (4h, 4w, c), the result; its depth may differ from the input's.

    Raises:
        ValueError: another type, or sizes or colour channels that do not belong together.
    """
    for planes in (low, high):
        if planes.dtype not in (np.uint8, np.uint16) or planes.ndim != 3 or planes.shape[2] not in (1, 2, 3, 4):
            raise ValueError(f"expected uint8 or uint16 (height, width, 1 to 4), got {planes.dtype} {planes.shape}")
    height, width = low.shape[:2]
    if high.shape[:2] != (FACTOR * height, FACTOR * width):
        raise ValueError(f"a result of {high.shape[:2]} is not {FACTOR} times its input of {low.shape[:2]}")
    colours = _colours(low)
    if colours != _colours(high):
        raise ValueError(f"result and input differ in colour: {_colours(high)} and {colours} channels")
    total = 0.0
    for rows in _cuts(height, _TALL_TILE if height > 2 * width else _TILE):
        for columns in _cuts(width, _TILE):
            reduced = _reduce(high, rows, columns)
            total += float(np.abs(reduced - _levels(low[rows, columns, :colours])).sum(dtype=np.float64))
    return total / (height * width * colours)


def flag(rows: Sequence[Row]) -> None:
    """Set `flags` of every manifest row: comma separated, "" where nothing calls for a look.

    - `disagrees`: `consistency` above DISAGREES and an outlier among the rows, or above DISAGREES_ALWAYS.
    - `identity`: `identity` below IDENTITY_LOW, or an outlier below IDENTITY_SURE.
    - `no-face`: faces were looked for (`faces` is a number) and none was found.

    Outliers are told by a robust z-score among the rows whose status is ok; of fewer than 5 values none is one, and
    DISAGREES is enough. Rows whose status is not ok have no flags: their error says it.
    """
    done = [row for row in rows if row.get("status") == "ok"]
    # with few values there is no telling what is usual, and a picture too many is soon looked at
    most = min(max(DISAGREES, _edge(done, "consistency", OUTLIER, DISAGREES)), DISAGREES_ALWAYS)
    least = max(IDENTITY_LOW, min(_edge(done, "identity", -OUTLIER, IDENTITY_LOW), IDENTITY_SURE))
    for row in rows:
        row["flags"] = ""
    for row in done:
        disagreement, identity = (_number(row.get(column)) for column in ("consistency", "identity"))
        found = {
            "disagrees": disagreement is not None and disagreement > most,
            "identity": identity is not None and identity < least,
            "no-face": row.get("faces") == 0,
        }
        row["flags"] = ",".join(name for name, holds in found.items() if holds)


def severity(row: Row) -> float:
    """How much a flagged row calls for a look: 0 without flags, 1 and more with them, more for more and worse ones."""
    names = [name for name in (row.get("flags") or "").split(",") if name]
    worst = float(len(names))
    if "disagrees" in names:
        worst += math.log2(max(1.0, (_number(row.get("consistency")) or 0.0) / DISAGREES))
    if "identity" in names:
        worst += max(0.0, IDENTITY_SURE - (_number(row.get("identity")) or 0.0)) / (IDENTITY_SURE - IDENTITY_LOW)
    return worst


def choose(rows: Sequence[Row], limit: int) -> list[int]:
    """Choose the rows to show: indices of at most `limit` rows that have a result.

    Flagged ones first, worst first; then an even sample of the rest, in the manifest's order.
    """
    shown = [index for index, row in enumerate(rows) if row["status"] == "ok"]
    flagged = sorted((index for index in shown if rows[index].get("flags")), key=lambda index: -severity(rows[index]))
    rest = [index for index in shown if not rows[index].get("flags")]
    return flagged[:limit] + [rest[index] for index in evenly_spaced(len(rest), max(0, limit - len(flagged)))]


def _colours(planes: Planes) -> int:
    """Channels without alpha, which is the last of two or four."""
    channels: int = planes.shape[2]
    return channels if channels % 2 else channels - 1


def _levels(planes: Planes) -> NDArray[np.float32]:
    """Values on the 0-255 scale."""
    return planes.astype(np.float32) / np.float32(1 if planes.dtype == np.uint8 else 257)


def _cuts(length: int, size: int) -> Iterator[slice]:
    """Pieces of at least `size`, less than twice that, or all where there is less."""
    count = max(1, length // size)
    for index in range(count):
        yield slice(index * size, (index + 1) * size if index + 1 < count else length)


def _reduce(high: Planes, rows: slice, columns: slice) -> NDArray[np.float32]:
    """A piece, in the input's rows and columns, of the reduced colour channels on the 0-255 scale."""
    top, left = max(0, rows.start - _MARGIN), max(0, columns.start - _MARGIN)
    there = tuple(slice(FACTOR * first, FACTOR * (cut.stop + _MARGIN)) for first, cut in ((top, rows), (left, columns)))
    piece = np.ascontiguousarray(high[(*there, slice(_colours(high)))])
    height, width, channels = piece.shape[0] // FACTOR, piece.shape[1] // FACTOR, piece.shape[2]
    if piece.dtype == np.uint8:
        # the one bicubic wants three channels, and treats each as it would treat it alone
        three = np.broadcast_to(piece, (*piece.shape[:2], 3)).astype(np.uint8, copy=False)
        reduced = resize(three, height, width)[:, :, :channels].astype(np.float32)
    else:
        # Pillow resizes 16-bit values one channel at a time, as floating point, which it does not clip
        planes = [
            Image.fromarray(piece[:, :, channel].astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
            for channel in range(channels)
        ]
        reduced = np.clip(np.stack([np.asarray(plane) for plane in planes], axis=2), 0, 65535) / np.float32(257)
    return reduced[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


def _number(value: Any) -> float | None:
    """A finite number, or None for what was not measured."""
    return None if value is None or not math.isfinite(value) else float(value)


def _edge(rows: Sequence[Row], column: str, deviations: float, without: float) -> float:
    """The value that lies so many robust standard deviations from the median; `without` where values are few."""
    values = [number for row in rows if (number := _number(row.get(column))) is not None]
    if len(values) < _FEWEST:
        return without
    middle = float(np.median(values))
    spread = max(_NORMAL * float(np.median(np.abs(np.subtract(values, middle)))), _SPREAD)
    return middle + deviations * spread
