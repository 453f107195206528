"""The name of every result, and the work units: both follow from the listing alone, so a resumed run cuts alike."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeVar
from unicodedata import normalize

from pipeline.bulk.settings import Settings
from pipeline.codecs.reader import format_of
from pipeline.codecs.writer import FORMATS
from pipeline.core.files import content_hash
from pipeline.runtime.units import Unit
from pipeline.sources.base import Entry
from pipeline.sources.names import ending
from pipeline.storage.path import StoragePath

T = TypeVar("T")

WORK_NAME = ".facesr"
"""Of the work folder inside OUTPUT, which goes when the run is done: no result may be called so."""
OWN_FILES = {"manifest.parquet", "manifest.csv", "view.html"}
"""What lies in OUTPUT beside results: no folder of results may be called so."""

LARGEST_UNIT = 32
"""Pictures in a work unit, at most: what a killed worker loses."""
SHARE = 16
"""Units get smaller towards the end, each a sixteenth of what is left, so that all workers end at about the same time
(guided self-scheduling, Polychronopoulos and Kuck, 1987)."""
CUT = 1
"""Changes when the same items are cut into other units: what is on record of units is then of other ones."""

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
        if not all(isinstance(item, Item) for item in self.items):  # from JSON they come as lists
            object.__setattr__(self, "items", [Item(*values) for values in self.items])

    @property
    def images(self) -> int:
        """Entries."""
        return len(self.items)


def items_of(entries: Iterable[Entry], settings: Settings, only_name: str | None = None) -> list[Item]:
    """Give every entry its result's name.

    `a.jpg` becomes `a.png`; where two would get one name, those of another suffix keep it: `a.png`, `a.jpg.png`.
    Names that any disk takes for one (`a//b`, `A` and `a`, two spellings of `é`) count as one: the second gets a
    number, `a-2.png`.

    Args:
        entries: of the archive, in order.
        settings: of the run; with the format `same` a name that ends as a picture's keeps its end, others become PNG.
        only_name: what the only picture is called instead.
    """
    listed = list(entries)
    names = [_safe(entry.name) for entry in listed]
    stems = [name.removesuffix(ending(name)) for name in names]
    suffixes = [_suffix(name, settings) for name in names]
    wanted = [_key(f"{stem}{suffix}") for stem, suffix in zip(stems, suffixes, strict=True)]
    shared = Counter(key for key, _ in set(zip(wanted, map(_key, names), strict=True)))
    above = {PurePosixPath(name.rpartition("/")[0]) for name in names}
    # a file cannot be called as a folder is
    folders = {_key(folder.as_posix()) for parent in above for folder in (parent, *parent.parents)}
    used: set[str] = set()
    seen: set[str] = set()
    ordinals: Counter[str] = Counter()
    items = []
    for entry, name, stem, suffix, key in zip(listed, names, stems, suffixes, wanted, strict=True):
        again = _key(name) in seen  # an archive may hold one name twice
        alone = again or (shared[key] == 1 and key not in used)
        base = stem if alone or name == f"{stem}{suffix}" else name
        target = f"{base}{suffix}"
        while _key(target) in used or _key(target) in folders:
            ordinals[_key(base)] += 1
            target = f"{base}-{ordinals[_key(base)] + 1}{suffix}"
        used.add(_key(target))
        seen.add(_key(name))
        stamp = content_hash(entry.stamp)[:16]
        items.append(Item(entry.name, entry.key, entry.problem or "", only_name or target, stamp, entry.size))
    return items


def _key(name: str) -> str:
    """The same for names that a disk may take for one: some fold case, some normalise Unicode."""
    if name.isascii():  # of a million names most are their own keys: no second string
        folded = name.lower()
        return name if folded == name else folded
    return normalize("NFC", normalize("NFC", name).casefold())


def _safe(name: str) -> str:
    """A relative path without empty parts, dots and our own names; `unnamed` where nothing is left."""
    parts = [part for part in name.replace("\0", "\ufffd").split("/") if part not in ("", ".", "..")]
    if parts and (_key(parts[0]) == WORK_NAME or (len(parts) > 1 and _key(parts[0]) in OWN_FILES)):
        parts[0] = f"_{parts[0]}"
    safe = "/".join(parts)
    return (name if safe == name else safe) or "unnamed"


def _suffix(name: str, settings: Settings) -> str:
    if settings.format == "same" and format_of(name):
        return ending(name)
    return FORMATS[settings.format_of(name)]


def units_of(items: Sequence[Item], parts: StoragePath) -> list[BulkUnit]:
    """Cut items into units of consecutive ones, whose parts lie in the folder `parts`."""
    groups = consecutive_groups(
        items, lambda item: item.size, UNIT_BYTES, lambda done: min(LARGEST_UNIT, (len(items) - done) // SHARE)
    )
    return [BulkUnit((parts / f"{number:06d}.parquet").uri, group) for number, group in enumerate(groups)]


def consecutive_groups(
    items: Iterable[T], size: Callable[[T], int], most_bytes: int, most: Callable[[int], int] | None = None
) -> Iterator[list[T]]:
    """Cut items into groups of at most `most_bytes` bytes; a larger item is a group of its own.

    Args:
        items: in order.
        size: bytes of an item.
        most_bytes: of a group.
        most: items in a group, by the number of those before it; below 1 counts as 1. None: any number.
    """
    group: list[T] = []
    total, longest = 0, None if most is None else most(0)
    for done, item in enumerate(items):
        full = longest is not None and len(group) >= longest
        if group and (full or total + size(item) > most_bytes):
            yield group
            group, total, longest = [], 0, None if most is None else most(done)
        group.append(item)
        total += size(item)
    if group:
        yield group


def listing_hash(items: Iterable[Item]) -> str:
    """Changes when an entry comes, goes or changes, or a result's name does."""
    # `content_hash` of the whole list, without the text of a million entries in memory
    digest = hashlib.sha256(b"[")
    for number, item in enumerate(items):
        text = json.dumps([item.name, item.stamp, item.target, item.problem], sort_keys=True)
        digest.update(f", {text}".encode() if number else text.encode())
    digest.update(b"]")
    return digest.hexdigest()[:16]
