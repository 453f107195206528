"""Match pictures of two places by name: exact names first, then names as `facesr upscale` gives them, then the rest.

A name belongs to another only where nothing else could: what is ambiguous is left to be named, never guessed.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from unicodedata import normalize

from pipeline.core.errors import FacesrError


class MatchError(FacesrError):
    """Nothing belongs together: no file has the name of another."""


def canonical(name: str) -> str:
    """A name as it is compared: `/` between folders, composed letters (file systems differ in how they keep `é`)."""
    return str(PurePosixPath(normalize("NFC", name.replace("\\", "/"))))


def bare(name: str) -> str:
    """A path without its suffix: `a/face.01.png` -> `a/face.01`; `face.01` is left as it is."""
    path = PurePosixPath(canonical(name))
    return str(path.with_suffix("")) if path.suffix and not path.suffix[1:].isdigit() else str(path)


def file_of(name: str) -> str:
    """The file's name alone, without suffix."""
    return PurePosixPath(bare(name)).name


def _file(name: str) -> str:
    return PurePosixPath(canonical(name)).name


_WAYS: Sequence[tuple[Callable[[str], str], Callable[[str], str]]] = (
    (canonical, canonical),
    (bare, bare),  # a.jpg -> a.png
    (canonical, bare),  # a.jpg -> a.jpg.png: beside a.png
    (_file, _file),  # the same in other folders
    (file_of, file_of),
    (_file, file_of),
)
"""How the name of an original and that of its result are alike, the surest first."""


def assign(truths: Sequence[str], results: Sequence[str], suffixes: Sequence[str] = ()) -> list[list[int]]:
    """Which results belong to which original.

    Args:
        truths: names of originals.
        results: names of what was made of them.
        suffixes: what a tool adds to names, before the file's suffix; taken off.

    Returns:
        For each original the indices of results that are alike in the surest way: several where they cannot be told
        apart, none where the original's own name is not the only one of its kind.
    """
    stripped = [_without(name, suffixes) for name in results]
    found: list[list[int]] = [[] for _ in truths]
    single = Counter(map(canonical, truths))
    left = set(range(len(results)))
    for of_truth, of_result in _WAYS:
        keys = [of_truth(name) for name in truths]
        # beside b.webp, whose result is b.webp, a b.bmp is the only one that b.png can be of
        counts = Counter(key for key, own in zip(keys, found, strict=True) if of_truth is not bare or not own)
        by_key: dict[str, list[int]] = {}
        for index in sorted(left):
            by_key.setdefault(of_result(stripped[index]), []).append(index)
        for number, key in enumerate(keys):
            if not found[number] and counts[key] == 1 and single[canonical(truths[number])] == 1:
                found[number] = by_key.get(key, [])
                left.difference_update(found[number])
    return found


def _without(name: str, suffixes: Sequence[str]) -> str:
    """`0001_out.png` -> `0001.png` where `_out` is one of the suffixes."""
    path = PurePosixPath(canonical(name))
    stem = bare(path.name)
    for suffix in sorted(suffixes, key=len, reverse=True):
        if suffix and stem.endswith(suffix) and stem != suffix:
            return str(path.with_name(stem.removesuffix(suffix) + path.name.removeprefix(stem)))
    return str(path)


def common_suffix(truths: Sequence[str], results: Sequence[str]) -> str | None:
    """What all results have behind the name of an original, such as `_out`; None where they differ."""
    stems, files = set(map(file_of, truths)), [file_of(name) for name in results]
    if not files:
        return None
    ends = (files[0][cut:] for cut in range(1, len(files[0])))
    return next((end for end in ends if all(f.endswith(end) and f.removesuffix(end) in stems for f in files)), None)
