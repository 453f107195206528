"""Who belongs where, as other people's lists say: CelebA's partition and identities, lists of ids, columns.

Formats, as CelebA and CelebA-HQ are distributed: `list_eval_partition.txt` (`000001.jpg 0`; 0 train, 1 valid, 2 test),
`identity_CelebA.txt` (`000001.jpg 2880`), `CelebA-HQ-to-CelebA-mapping.txt` (`idx orig_idx orig_file`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.core.errors import FacesrError
from pipeline.core.scales import SPLITS

_PARTITIONS = {"0": "train", "1": "valid", "2": "test"}

Answer = Callable[[Mapping[str, Any]], str | None]
"""A candidate's row (`name`, `hash`, `labels`) to what a list says of it; None where it says nothing."""


class ListError(FacesrError):
    """A list that cannot be used; the message says which, where and why."""


def designated(how: Mapping[str, Any]) -> Answer | None:
    """What params' `splits` say of single faces: the split of each, or None where seed and counts decide.

    Raises:
        ListError: a file is missing or not of its format.
    """
    by = how.get("by", "seed")
    if by == "celeba":
        partition = _pairs(how["partition"], lambda word: _PARTITIONS.get(word), "0, 1 or 2")
        return _by_original(partition, how.get("mapping"))
    if by == "column":
        return lambda row: _split_named(row["labels"].get(how["column"]))
    if by == "list":
        listed: dict[str, str] = {}
        for split in SPLITS:
            for word in _words(how[split]) if how.get(split) else ():
                if listed.setdefault(word, split) != split:
                    raise ListError(f"{how[split]}: {word} is in the list of {listed[word]} too")
        return lambda row: next((listed[key] for key in _keys(row) if key in listed), None)
    return None


def persons(how: Mapping[str, Any] | None) -> Answer | None:
    """What params' `persons` say of single faces: whom each shows.

    Raises:
        ListError: a file is missing or not of its format.
    """
    if how is None:
        return None
    if how.get("column"):
        return lambda row: row["labels"].get(how["column"]) or None
    return _by_original(_pairs(how["identities"], lambda word: word, "an identity"), how.get("mapping"))


def columns(source: Mapping[str, Any]) -> list[str]:
    """Columns of a Parquet source that its splits and persons go by."""
    found = [source.get("splits", {}).get("column"), (source.get("persons") or {}).get("column")]
    return [name for name in dict.fromkeys(found) if name]


def unlisted(how: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> int:
    """How many ids of the lists belong to none of the faces."""
    if how.get("by") != "list":
        return 0
    known = {key for row in rows for key in _keys(row)}
    return len([word for split in SPLITS if how.get(split) for word in _words(how[split]) if word not in known])


def _keys(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What a list may call a face: id, pixel hash, name inside the source, file name, file name without suffix."""
    path = PurePosixPath(row["name"])
    return row.get("id") or "", row["hash"] or "", row["name"], path.name, path.stem


def _by_original(answers: dict[str, str], mapping: str | None) -> Answer:
    """By the name of the original CelebA file: the face's own, or that of its number in CelebA-HQ."""
    if mapping is None:
        return lambda row: answers.get(PurePosixPath(row["name"]).name)
    originals = _mapping(mapping)

    def answer(row: Mapping[str, Any]) -> str | None:
        digits = re.search(r"(\d+)$", PurePosixPath(row["name"]).stem)
        return answers.get(originals.get(int(digits[1]), "")) if digits else None

    return answer


def _mapping(file: str) -> dict[int, str]:
    """CelebA-HQ number -> original file."""
    originals: dict[int, str] = {}
    for number, line in _lines(file):
        parts = line.split()
        if not originals and not parts[0].isdigit():
            continue  # the heading
        if len(parts) != 3 or not parts[0].isdigit():
            raise ListError(f"{file}, line {number}: expected `idx orig_idx orig_file`, found {line[:60]!r}")
        originals[int(parts[0])] = parts[2]
    if not originals:
        raise ListError(f"{file}: holds no line `idx orig_idx orig_file`")
    return originals


def _pairs(file: str, known: Callable[[str], str | None], expected: str) -> dict[str, str]:
    """`name value` lines."""
    found: dict[str, str] = {}
    for number, line in _lines(file):
        name, *rest = line.split()
        value = known(rest[0]) if len(rest) == 1 else None
        if value is None:
            raise ListError(f"{file}, line {number}: expected a file name and {expected}, found {line[:60]!r}")
        found[name] = value
    if not found:
        raise ListError(f"{file}: is empty")
    return found


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
    return {"validation": "valid", "val": "valid", "dev": "valid", "training": "train", "testing": "test"}.get(
        text, text if text in SPLITS else _PARTITIONS.get(text)
    )
