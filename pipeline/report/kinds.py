"""Methods by kind of input: what each gains over bicubic on clean and on degraded inputs of the same faces."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.core.degradation import CLEAN, KINDS
from pipeline.core.scales import UPSCALED_SCALES
from pipeline.core.schema import Row
from pipeline.evaluate.aggregate import Faces, by_method, common_ids
from pipeline.evaluate.cases import EvaluationConfig
from pipeline.evaluate.summary import Summary
from pipeline.metrics.registry import MEASURES, signed
from pipeline.report.tables import TextTable

Group = tuple[str, str]
"""Split and plain scale."""

SHOWN: Final = ("lpips", "dists", "identity", "fid")
"""Metrics below the gain, where measured."""


@dataclass(frozen=True)
class Block:
    """Methods by kind, by one metric."""

    heading: str
    unit: str
    sign: int
    """+1: more is better, -1: less is."""
    digits: int
    lines: dict[str, list[float | None]]
    """By method, a figure for each kind; None where it has not all of the faces."""
    gain: bool = False
    """True if figures are differences."""

    def text(self, value: float | None) -> str:
        """A figure as it is shown."""
        if value is None:
            return "–"
        return signed(value, self.digits) if self.gain else f"{value:.{self.digits}f}"

    def is_best(self, method: str, column: int) -> bool:
        """True if no other method's figure is better as shown, and there are several."""
        values = [value for line in self.lines.values() if (value := line[column]) is not None]
        own = self.lines[method][column]
        if own is None or len(values) < 2:
            return False
        return self.text(own) == self.text(max(values) if self.sign > 0 else min(values))


@dataclass(frozen=True)
class KindTable:
    """A split and plain scale."""

    group: Group
    kinds: list[str]
    """Columns; clean inputs first."""
    faces: int
    """The same ones in all columns."""
    blocks: list[Block]
    """The gain, then other metrics."""
    finding: str
    """What the table says, in a sentence or two."""
    shown: str
    """Id of the face that is shown under every kind."""

    def scale_of(self, kind: str) -> str:
        """Measured scale of a column."""
        return self.group[1] if kind == CLEAN else f"{self.group[1]}-{kind}"

    def to_text(self) -> TextTable:
        """The table for documents."""
        lines = [
            [f"{block.heading}{', ' if block.unit else ''}{block.unit}", method, *map(block.text, values)]
            for block in self.blocks
            for method, values in block.lines.items()
        ]
        notes = [f"{self.group[0]}, {self.group[1]}, {self.faces} faces, the same in every column.", self.finding]
        return TextTable("Methods by kind of input", ["metric", "method", *self.kinds], lines, notes)


def kind_tables(summary: Summary, rows: Sequence[Row], config: EvaluationConfig) -> list[KindTable]:
    """Make a table for each split and plain scale that was measured on kinds, test and 256to1024 first.

    Args:
        summary: what metrics.json holds.
        rows: METRICS rows that have metrics, with `gain_psnr`.
        config: of the evaluation.
    """
    groups = by_method(rows)
    order = [(split, scale) for split in ("test", "train") for scale in reversed(UPSCALED_SCALES)]
    return [table for group in order if (table := _table(group, summary, groups, config)) is not None]


def _table(
    group: Group, summary: Summary, groups: Mapping[Group, Mapping[str, Faces]], config: EvaluationConfig
) -> KindTable | None:
    split, scale = group
    columns = {CLEAN: groups.get(group, {})}
    columns |= {kind: groups.get((split, f"{scale}-{kind}"), {}) for kind in KINDS}
    columns = {kind: methods for kind, methods in columns.items() if methods}
    if not columns.keys() - {CLEAN}:
        return None
    common = set.intersection(*(set(common_ids(dict(found), config.references)) for found in columns.values()))
    ids = sorted(common)
    methods = list(dict.fromkeys(method for found in columns.values() for method in found))
    if not ids:
        return None

    def line(method: str, key: str) -> list[float | None]:
        return [_mean(found.get(method, {}), ids, key) for found in columns.values()]

    def of_sets(method: str, key: str) -> list[float | None]:
        scales = [scale if kind == CLEAN else f"{scale}-{kind}" for kind in columns]
        scores = [summary.get(split, {}).get(name, {}).get(method, {}) for name in scales]
        # a distance of sets of another size could not be compared
        return [score.get(key) if score.get("count") == len(ids) else None for score in scores]

    gains = {method: line(method, "gain_psnr") for method in methods if method != config.baseline}
    blocks = [Block(f"PSNR gain over {config.baseline}", "dB", 1, 2, _some(gains), gain=True)]
    for key in SHOWN:
        measure = MEASURES[key]
        lines = {method: (line if measure.per_face else of_sets)(method, key) for method in methods}
        blocks.append(Block(measure.heading, measure.unit, measure.sign, measure.digits, _some(lines)))
    kinds = list(columns)
    return KindTable(
        group, kinds, len(ids), [block for block in blocks if block.lines], _finding(kinds, blocks[0], config), ids[0]
    )


def _mean(faces: Faces, ids: Sequence[str], key: str) -> float | None:
    """Mean over the faces; None where one has no row. A metric may be null on some faces, which are those of all."""
    if not faces.keys() >= set(ids):
        return None
    known = [value for face_id in ids if (value := faces[face_id].get(key)) is not None]
    return math.fsum(known) / len(known) if known else None


def _some(lines: Mapping[str, list[float | None]]) -> dict[str, list[float | None]]:
    """Lines that have a figure."""
    return {method: values for method, values in lines.items() if any(value is not None for value in values)}


def _finding(kinds: Sequence[str], gains: Block, config: EvaluationConfig) -> str:
    """What the subject gains, where least and most, and who is best where."""
    subject = dict(zip(kinds, gains.lines.get(config.subject, []), strict=False))
    degraded = {kind: value for kind, value in subject.items() if value is not None and kind != CLEAN}
    if not degraded:
        return f"{config.subject} has no results on degraded inputs."
    least, most = min(degraded, key=degraded.__getitem__), max(degraded, key=degraded.__getitem__)
    above = sum(value > 0 for value in degraded.values())
    clean = subject.get(CLEAN)
    told = f"{config.subject} gains {gains.text(clean)} dB over {config.baseline} on clean inputs" if clean else ""
    span = f"{gains.text(degraded[least])} dB ({least})"
    if least != most:
        span = f"from {span} to {gains.text(degraded[most])} dB ({most})"
    told = f"{told} and" if told else f"{config.subject} gains"
    first = f"{told} {span} on degraded ones; it is above {config.baseline} on {above} of {len(degraded)} kinds."
    best = {
        method: [kind for column, kind in enumerate(kinds) if kind != CLEAN and gains.is_best(method, column)]
        for method in gains.lines
    }
    leaders = [f"{method} ({', '.join(where)})" for method, where in best.items() if where]
    return f"{first} Most gain: {'; '.join(leaders)}." if leaders else first
