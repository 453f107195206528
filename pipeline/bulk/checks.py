"""Checks of results that need no original: agreement with the input, and which pictures a person should look at."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from pipeline.core.schema import Row
from pipeline.core.shards import evenly_spaced
from pipeline.upscale.estimate import LEAST_NOISE

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


def flags_of(rows: Sequence[Row]) -> list[str]:
    """Make `flags` of manifest rows: comma separated, "" where nothing calls for a look.

    - `disagrees`: `consistency`, less what it is by taking away the `noise` that was found, above DISAGREES and an
      outlier among the rows, or above DISAGREES_ALWAYS.
    - `identity`: `identity` below IDENTITY_LOW, or an outlier below IDENTITY_SURE.
    - `no-face`: faces were looked for (`faces` is a number) and none was found.

    Outliers are told by a robust z-score among the rows whose status is ok; of fewer than 5 values none is one, and
    DISAGREES is enough. Rows whose status is not ok have no flags: their error says it.
    """
    measured = [(_disagreement(row), _number(row.get("identity"))) for row in rows if row.get("status") == "ok"]
    # with few values there is no telling what is usual, and a picture too many is soon looked at
    most = min(max(DISAGREES, _edge([value for value, _ in measured], OUTLIER, DISAGREES)), DISAGREES_ALWAYS)
    least = max(IDENTITY_LOW, min(_edge([value for _, value in measured], -OUTLIER, IDENTITY_LOW), IDENTITY_SURE))
    return [_flags(row, most, least) if row.get("status") == "ok" else "" for row in rows]


def _flags(row: Row, most: float, least: float) -> str:
    disagreement, identity = _disagreement(row), _number(row.get("identity"))
    found = {
        "disagrees": disagreement is not None and disagreement > most,
        "identity": identity is not None and identity < least,
        "no-face": row.get("faces") == 0,
    }
    return ",".join(name for name, holds in found.items() if holds)


def severity(row: Row) -> float:
    """How much a flagged row calls for a look: 0 without flags, 1 and more with them, more for more and worse ones."""
    names = [name for name in (row.get("flags") or "").split(",") if name]
    worst = float(len(names))
    if "disagrees" in names:
        worst += math.log2(max(1.0, (_disagreement(row) or 0.0) / DISAGREES))
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


def _number(value: Any) -> float | None:
    """A finite number, or None for what was not measured."""
    return None if value is None or not math.isfinite(value) else float(value)


def _disagreement(row: Row) -> float | None:
    """Consistency in excess of what a result loses that has no noise any more: sqrt(2 / pi) of its sigma on average."""
    consistency, noise = _number(row.get("consistency")), _number(row.get("noise")) or 0.0
    if consistency is None or noise < LEAST_NOISE:
        return consistency
    return max(0.0, consistency - math.sqrt(2 / math.pi) * noise)


def _edge(found: Sequence[float | None], deviations: float, without: float) -> float:
    """The value that lies so many robust standard deviations from the median; `without` where values are few."""
    values = [value for value in found if value is not None]
    if len(values) < _FEWEST:
        return without
    middle = float(np.median(values))
    spread = max(_NORMAL * float(np.median(np.abs(np.subtract(values, middle)))), _SPREAD)
    return middle + deviations * spread
