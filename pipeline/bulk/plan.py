"""The name of every result, and the work units: both follow from the listing alone, so a resumed run cuts alike."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pipeline.codecs.reader import format_of
from pipeline.codecs.writer import FORMATS
from pipeline.core.files import content_hash
from pipeline.sources.base import Entry

LARGEST_UNIT = 32
"""Pictures in a work unit, at most: what a killed worker loses. Small archives are cut finer, so that all workers have
work."""

UNIT_BYTES = 16 << 20
"""Encoded bytes in a unit, at most, where the listing knows them: a few large photographs are a unit's work too."""


@dataclass(frozen=True)
class Item:
    """One entry of the archive and what becomes of it."""

    name: str
    key: Any
    problem: str
    target: str
    """Path of the result inside OUTPUT."""
    stamp: str
    """Changes when the entry does."""
    size: int = 0
    """Encoded bytes, where the listing knows."""

    def same(self, row: dict[str, Any]) -> bool:
        """Whether a manifest's row tells of this very entry and result."""
        return bool(row["name"] == self.name and row["stamp"] == self.stamp and row["target"] == self.target)


def items_of(entries: Iterable[Entry], format: str, only_name: str | None = None) -> list[Item]:  # noqa: A002
    """Give every entry its result's name.

    `a.jpg` becomes `a.png`; where two would get one name, those of another suffix keep it: `a.png`, `a.jpg.png`.

    Args:
        entries: of the archive, in order.
        format: `png`, `jpeg`, `webp`, or `same`: a name that ends as one of these keeps its end, others become PNG.
        only_name: what the only picture is called instead.
    """
    listed = list(entries)
    stems = [PurePosixPath(entry.name).with_suffix("").as_posix() for entry in listed]
    suffixes = [_suffix(entry.name, format) for entry in listed]
    shared = Counter(zip(stems, suffixes, strict=True))
    used: set[str] = set()
    items = []
    for entry, stem, suffix in zip(listed, stems, suffixes, strict=True):
        alone = shared[stem, suffix] == 1 and f"{stem}{suffix}" not in used
        base = stem if alone or entry.name == f"{stem}{suffix}" else entry.name
        target, ordinal = f"{base}{suffix}", 1
        while target in used:  # an archive may hold one name twice
            ordinal += 1
            target = f"{base}-{ordinal}{suffix}"
        used.add(target)
        stamp = content_hash(entry.stamp)[:16]
        items.append(Item(entry.name, entry.key, entry.problem or "", only_name or target, stamp, entry.size))
    return items


def _suffix(name: str, format: str) -> str:  # noqa: A002
    kept = format_of(name) if format == "same" else None
    return PurePosixPath(name).suffix if kept else FORMATS["png" if format == "same" else format]


def units_of(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Cut items into units of consecutive ones; every unit knows its number."""
    largest = max(1, min(LARGEST_UNIT, len(items) // 16))
    units: list[dict[str, Any]] = []
    current: list[Item] = []
    size = 0
    for item in items:
        if current and (len(current) == largest or size + item.size > UNIT_BYTES):
            units.append(_unit(current, len(units)))
            current, size = [], 0
        current.append(item)
        size += item.size
    if current:
        units.append(_unit(current, len(units)))
    return units


def _unit(items: Sequence[Item], number: int) -> dict[str, Any]:
    return {"number": number, "items": [[i.name, i.key, i.problem, i.target, i.stamp] for i in items]}


def listing_hash(items: Iterable[Item]) -> str:
    """Changes when an entry comes, goes or changes, or a result's name does."""
    return content_hash([[item.name, item.stamp, item.target, item.problem] for item in items])[:16]
