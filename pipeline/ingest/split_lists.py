"""Split and identity lists: CelebA's partition and identities, lists of ids, columns.

Formats, as CelebA and CelebA-HQ are distributed: `list_eval_partition.txt` (`000001.jpg 0`; 0 train, 1 valid, 2 test),
`identity_CelebA.txt` (`000001.jpg 2880`), `CelebA-HQ-to-CelebA-mapping.txt` (`idx orig_idx orig_file`).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import dropwhile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline.core.errors import FacesrError
from pipeline.core.scales import SPLITS
from pipeline.core.schema import Row

if TYPE_CHECKING:
    from pipeline.params.ingest import Persons, Splits

_PARTITIONS = {"0": "train", "1": "valid", "2": "test"}
_OTHER_NAMES = {"validation": "valid", "val": "valid", "dev": "valid", "training": "train", "testing": "test"}

Lookup = Callable[[Row], str | None]
"""A candidate's row (`name`, `hash`, `labels`) to what a list says of it; None where it says nothing."""


class ListError(FacesrError):
    """A list that cannot be used; the message says which, where and why."""


def split_lookup(splits: "Splits") -> Lookup | None:
    """The split that a list or column names for each face; None where seed and counts decide.

    Raises:
        ListError: a file is missing or not of its format.
    """
    if splits.by == "celeba":
        partition = _pairs(splits.partition, "[012]", "0, 1 or 2")
        return _by_original({name: _PARTITIONS[value] for name, value in partition.items()}, splits.mapping)
    if splits.by == "column":
        column = splits.column
        return lambda row: _split_named(row["labels"].get(column))
    if splits.by == "list":
        listed: dict[str, str] = {}
        for split, file in splits.files.items():
            for word in _words(file):
                if listed.setdefault(word, split) != split:
                    raise ListError(f"{file}: {word} is in the list of {listed[word]} too")
        return lambda row: next((listed[key] for key in _keys(row) if key in listed), None)
    return None


def person_lookup(persons: "Persons | None") -> Lookup | None:
    """The person whom each face shows, by a list or column.

    Raises:
        ListError: a file is missing or not of its format.
    """
    if persons is None:
        return None
    if not persons.identities:
        return lambda row: row["labels"].get(persons.column) or None
    return _by_original(_pairs(persons.identities, r"\S+", "an identity"), persons.mapping)


def unlisted(splits: "Splits", faces: Sequence[Row]) -> int:
    """Number of ids in the lists that belong to none of the faces."""
    if splits.by != "list":
        return 0
    known = {key for row in faces for key in _keys(row)}
    return sum(word not in known for file in splits.files.values() for word in _words(file))


def _keys(row: Row) -> tuple[str, ...]:
    """What a list may call a face: id, pixel hash, name inside the source, file name, file name without suffix."""
    path = PurePosixPath(row["name"])
    return row.get("id") or "", row["hash"] or "", row["name"], path.name, path.stem


def _by_original(values: Mapping[str, str], mapping: str | None) -> Lookup:
    """By the name of the original CelebA file: the face's own, or that of its number in CelebA-HQ."""
    if mapping is None:
        return lambda row: values.get(PurePosixPath(row["name"]).name)
    # the heading, if any, does not begin with a number
    lines = dropwhile(lambda line: not re.match(r"\s*\d+(\s|$)", line[1]), _lines(mapping))
    originals = {
        int(number): file for number, file in _table(mapping, lines, r"(\d+)\s+\S+\s+(\S+)", "`idx orig_idx orig_file`")
    }
    if not originals:
        raise ListError(f"{mapping}: holds no line `idx orig_idx orig_file`")

    def lookup(row: Row) -> str | None:
        digits = re.search(r"(\d+)$", PurePosixPath(row["name"]).stem)
        return values.get(originals.get(int(digits[1]), "")) if digits else None

    return lookup


def _pairs(file: str, pattern: str, expected: str) -> dict[str, str]:
    """`name value` lines."""
    if not (found := dict(_table(file, _lines(file), rf"(\S+)\s+({pattern})", f"a file name and {expected}"))):
        raise ListError(f"{file}: is empty")
    return found


def _table(file: str, lines: Iterable[tuple[int, str]], pattern: str, expected: str) -> Iterator[tuple[str, str]]:
    """The two groups of a pattern in each line."""
    for number, line in lines:
        match = re.fullmatch(pattern, line.strip())
        if match is None:
            raise ListError(f"{file}, line {number}: expected {expected}, found {line[:60]!r}")
        yield match[1], match[2]


def _words(file: str) -> list[str]:
    return [line.strip() for _, line in _lines(file)]


def _lines(file: str) -> list[tuple[int, str]]:
    """Lines that hold something, with their numbers."""
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ListError(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ListError(f"{file}: is no text ({error.reason} at byte {error.start})") from error
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _split_named(value: str | None) -> str | None:
    """`train`, `valid` or `test`, also by the other names that data sets use."""
    text = (value or "").strip().lower()
    return text if text in SPLITS else _OTHER_NAMES.get(text) or _PARTITIONS.get(text)
