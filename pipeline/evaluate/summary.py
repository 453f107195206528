"""What metrics.json holds, and what of it is told on one line."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pipeline.core.scales import BASELINE, UPSCALED_SCALES

Score = dict[str, Any]
"""Of a method over some faces; keys: `aggregate.aggregate`."""
Summary = dict[str, dict[str, dict[str, Score]]]
"""What metrics.json holds: split -> scale -> method -> score."""


def joined(separator: str, *names: str) -> str:
    """Names without the empty ones: pictures that `facesr compare` measures have no scale."""
    return separator.join(filter(None, names))


def known_first(known: Sequence[str]) -> Callable[[str], tuple[int, str]]:
    """Sort key of names: known ones in their order, others behind."""
    return lambda name: (known.index(name) if name in known else len(known), name)


def scores_of(summary: Summary) -> Iterator[tuple[str, str, str, Score]]:
    """(split, scale, method, score) of each."""
    for split, scales in summary.items():
        for scale, scores in scales.items():
            for method, score in scores.items():
                yield split, scale, method, score


def count_failed(summary: Summary) -> int:
    """Results that could not be measured, over all splits, scales and methods."""
    return sum(score["failed"] for *_, score in scores_of(summary))


def headline(summary: Summary) -> str:
    """One line: the PSNR gain over bicubic of every other method, on unseen faces at the largest scale measured."""
    split = "test" if "test" in summary else next(iter(summary), "")
    scales = summary.get(split, {})
    scale = UPSCALED_SCALES[1] if UPSCALED_SCALES[1] in scales else next(iter(scales), "")
    scores = {method: score for method, score in scales.get(scale, {}).items() if score["psnr"] is not None}
    if BASELINE not in scores:
        return "nothing could be measured" + ("" if summary else ": no face of 256x256 or more was enlarged")
    gains = []
    for method, score in scores.items():
        if method != BASELINE:
            # a method that covers fewer faces is compared on those
            base = score.get("on_same_faces", scores)[BASELINE]["psnr"]
            few = f" on {score['count']} faces" if "on_same_faces" in score else ""
            gains.append(f"{method} {score['psnr'] - base:+.2f} dB{few}")
    return f"{split}, {scale}, PSNR over bicubic: {', '.join(gains)}"
