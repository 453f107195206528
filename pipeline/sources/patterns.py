"""Names that stand for several files: `*`, and brace patterns as WebDataset writes them, on disks and object stores."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

from pipeline.sources.base import ARCHIVES, SourceError
from pipeline.sources.names import printable, wanted
from pipeline.storage.object_stores import join, scheme_of, split
from pipeline.storage.path import StoragePath

MAX_FILES = 1_000_000


def expand(path: str) -> list[StoragePath]:
    """The files that a pattern stands for, in its order; empty where `path` is no pattern.

    Raises:
        SourceError: nothing matches, or the pattern stands for more than MAX_FILES.
    """
    remote = bool(scheme_of(path))
    # what exists is meant, whatever its name looks like
    fixed, path = ("", path) if remote else _existing(path)
    if not re.search(r"\*|\{[^{}]*(\.\.|,)[^{}]*\}", path):
        return []
    found: list[StoragePath] = []
    for text in _braces(path):
        matches = _matches(fixed, text) if _has_star(text) else [StoragePath.of(fixed + text)]
        if not matches:
            raise SourceError(f"{_shown(fixed + text)}: no such file or folder")
        found += matches
    # on an object store a look at each would take minutes: what is missing there is named when it is listed
    for file in found[:1] if remote else found:
        if not file.exists():
            raise SourceError(f"{file}: no such file or folder")
    return found


def labels(paths: Sequence[StoragePath]) -> list[str]:
    """What tells files apart: their paths below what they have in common, without suffixes where that is enough.

    No two are the same, also where names differ only in bytes that are no text.
    """
    common = os.path.commonpath([path.path.parent for path in paths])
    names = [printable(path.path.relative_to(common).as_posix()) for path in paths]
    stems = [next((name[: -len(end)] for end in ARCHIVES if name.lower().endswith(end)), name) for name in names]
    counts = Counter(stems)
    found: dict[str, None] = {}
    for stem, name in zip(stems, names, strict=True):
        label = base = stem if counts[stem] == 1 else name
        ordinal = 1
        while label in found or (ordinal > 1 and label in counts):
            ordinal += 1
            label = f"{base}-{ordinal}"
        found[label] = None
    return list(found)


def _braces(text: str) -> Iterator[str]:
    """`a{08..10}.tar` -> a08.tar, a09.tar, a10.tar; `{a,b}` -> a, b; several multiply, later ones fastest."""
    parts = re.split(r"(\{\d{1,12}\.\.\d{1,12}\}|\{[^{}]*,[^{}]*\})", text)
    choices = [_choices(part) for part in parts[1::2]]
    if prod(len(values) for values, _ in choices) > MAX_FILES:
        raise SourceError(f"{_shown(text)}: stands for more than {MAX_FILES:,} files")
    for values in product(*(values for values, _ in choices)):
        filled = [str(value).zfill(width) for value, (_, width) in zip(values, choices, strict=True)]
        yield "".join(fixed + value for fixed, value in zip(parts[::2], [*filled, ""], strict=True))


def _choices(part: str) -> tuple[Sequence[str] | range, int]:
    """What a brace stands for, and how many digits its numbers have at least."""
    ends = re.fullmatch(r"\{(\d+)\.\.(\d+)\}", part)
    if ends is None:
        return part[1:-1].split(","), 0
    first, last = int(ends[1]), int(ends[2])
    step = 1 if first <= last else -1
    # a range, not a list: it may be absurdly long
    return range(first, last + step, step), len(ends[1])


def _existing(path: str) -> tuple[str, str]:
    """A path cut where the longest part of it ends that is there."""
    ends = [match.end() for match in re.finditer(r"[^/]+/*", path)]
    there = max((end for end in ends if os.path.lexists(path[:end].rstrip("/") or "/")), default=0)
    if not there and path.startswith("/"):
        there = 1
    return path[:there], path[there:]


def _has_star(text: str) -> bool:
    """True if a `*` is in the path; one in the query of an address is no pattern."""
    return "*" in (split(text)[1] if scheme_of(text) else text)


def _matches(fixed: str, pattern: str) -> list[StoragePath]:
    """What a pattern stands for, below a path that is taken as it is."""
    if not scheme_of(pattern):
        matches = glob.glob(glob.escape(fixed) + pattern, recursive=True)
        found = [StoragePath.of(match) for match in sorted(matches)]
        return [path for path in found if wanted(path.name)]
    root, key, query = split(pattern)
    parts = key.split("/")
    first = next(index for index, part in enumerate(parts) if "*" in part)
    folder = StoragePath.of(join(root, "/".join(parts[:first]), query))
    inner = parts[first:]
    # as the shell has it: `*` stays within a folder and passes hidden files over
    expression = "/".join(
        r"(?!\.)" + re.escape(part).replace(r"\*", "[^/]*") if part != "**" else "(?:.+)" for part in inner
    ).replace("(?:.+)/", "(?:.+/)?")
    names = [name for name, _, _ in folder.files(recursive=len(inner) > 1)]
    return [folder / name for name in names if re.fullmatch(expression, name) and wanted(name)]


def _shown(text: str) -> str:
    """A path or address as users may see it: without credentials."""
    return str(StoragePath.of(text)) if scheme_of(text) else text
