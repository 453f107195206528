"""The name of every result, and the work units: both follow from the listing alone, so a resumed run cuts alike."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeVar

from pipeline.bulk.settings import Settings
from pipeline.codecs.reader import format_of
from pipeline.codecs.writer import FORMATS
from pipeline.core.files import content_hash
from pipeline.runtime.units import Unit
from pipeline.sources.base import Entry
from pipeline.storage.path import StoragePath

T = TypeVar("T")

LARGEST_UNIT = 32
"""Pictures in a work unit, at most: what a killed worker loses. Small archives are cut finer, so that all workers have
work."""

UNIT_BYTES = 16 << 20
"""Encoded bytes in a unit, at most, where the listing knows them: a few large photographs are a unit's work too."""


class Item(NamedTuple):
    """One entry of the archive and its result; a list of its values in JSON."""

    name: str
    key: Any
    problem: str
    target: str
    """Path of the result inside OUTPUT."""
    stamp: str
    """Changes when the entry does."""
    size: int = 0
    """Encoded bytes, where the listing knows."""

    @property
    def identity(self) -> tuple[str, str, str]:
        """What a manifest's row shares with it if the row tells of this very entry and result."""
        return self.name, self.stamp, self.target


@dataclass(frozen=True)
class BulkUnit(Unit):
    """Consecutive entries of the archive."""

    items: list[Item]

    def __post_init__(self) -> None:
        # from JSON they come as lists
        object.__setattr__(self, "items", [Item(*values) for values in self.items])

    @property
    def images(self) -> int:
        """Entries."""
        return len(self.items)


def items_of(entries: Iterable[Entry], settings: Settings, only_name: str | None = None) -> list[Item]:
    """Give every entry its result's name.

    `a.jpg` becomes `a.png`; where two would get one name, those of another suffix keep it: `a.png`, `a.jpg.png`.

    Args:
        entries: of the archive, in order.
        settings: of the run; with the format `same` a name that ends as a picture's keeps its end, others become PNG.
        only_name: what the only picture is called instead.
    """
    listed = list(entries)
    stems = [PurePosixPath(entry.name).with_suffix("").as_posix() for entry in listed]
    suffixes = [_suffix(entry.name, settings) for entry in listed]
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


def _suffix(name: str, settings: Settings) -> str:
    if settings.format == "same" and format_of(name):
        return PurePosixPath(name).suffix
    return FORMATS[settings.format_of(name)]


def units_of(items: Sequence[Item], parts: StoragePath) -> list[BulkUnit]:
    """Cut items into units of consecutive ones, whose parts lie in the folder `parts`."""
    largest = max(1, min(LARGEST_UNIT, len(items) // 16))
    groups = consecutive_groups(items, lambda item: item.size, UNIT_BYTES, largest)
    return [BulkUnit((parts / f"{number:06d}.parquet").uri, group) for number, group in enumerate(groups)]


def consecutive_groups(
    items: Iterable[T], size: Callable[[T], int], most_bytes: int, most: int | None = None
) -> Iterator[list[T]]:
    """Cut items into groups of at most `most` items and `most_bytes` bytes; a larger item is a group of its own."""
    group: list[T] = []
    total = 0
    for item in items:
        if group and (len(group) == most or total + size(item) > most_bytes):
            yield group
            group, total = [], 0
        group.append(item)
        total += size(item)
    if group:
        yield group


def listing_hash(items: Iterable[Item]) -> str:
    """Changes when an entry comes, goes or changes, or a result's name does."""
    return content_hash([[item.name, item.stamp, item.target, item.problem] for item in items])[:16]
