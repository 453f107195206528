"""Compare any pictures with their originals, matched by name: the evaluation's measures without the pipeline's data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pipeline.compare.name_match import NameIndex, bare, file_of, unique_files
from pipeline.core.images import ImageError, Pixels, decode, resize
from pipeline.core.scales import FACTOR
from pipeline.evaluate.cases import Case, EvaluationConfig
from pipeline.evaluate.worker import EvaluationWorker
from pipeline.metrics.ssim import WINDOW
from pipeline.runtime.units import Unit
from pipeline.sources.base import Entry, Source, SourceError
from pipeline.sources.open import open_archive

SUBJECT: Final = "upscaled"
GROUP: Final = ("pictures", "")
"""Split and scale under which pictures stand that have neither."""
MADE: Final = ("bicubic", "lanczos")
"""Methods that can be made here of an original reduced 4 times."""


@dataclass(frozen=True)
class Pairing:
    """What belongs together, and what does not."""

    originals: list[tuple[str, Any]]
    """Name and key of each original that has a picture."""
    results: list[dict[str, Any]]
    """For each of these: method -> key of its picture."""
    unmatched: dict[str, str] = field(default_factory=dict)
    """`[METHOD: ]NAME` -> why it is not compared."""


def pair(originals: Source, methods: Mapping[str, Source]) -> Pairing:
    """Match pictures by name: by path without suffix, else by the file's name alone where only one original has it.

    Args:
        originals: the true pictures.
        methods: SUBJECT first, then others, by name.

    Raises:
        SourceError: a place cannot be listed.
    """
    truths = _listed(originals)
    alone = unique_files(truths)
    unmatched: dict[str, str] = {}
    found: dict[str, dict[str, Any]] = {name: {} for name in truths}
    for method, source in methods.items():
        prefix = "" if method == SUBJECT else f"{method}: "
        entries = _listed(source)
        index = NameIndex((name, entry) for name, entry in entries.items())
        used: set[str] = set()
        for name in truths:
            some = index.find(name, file_of(name) in alone)
            used |= {entry.name for entry in some}
            if len(some) > 1:
                unmatched[f"{prefix}{name}"] = f"several pictures of this name: {', '.join(one.name for one in some)}"
            elif not some:
                unmatched[f"{prefix}{name}"] = "missing: no picture of this original"
            elif some[0].problem:
                unmatched[f"{prefix}{some[0].name}"] = some[0].problem
            else:
                found[name][method] = some[0].key
        for name in entries.keys() - used:
            near = get_close_matches(bare(name), [bare(one) for one in truths], 1)
            hint = f"; is it {near[0]}?" if near else ""
            unmatched[f"{prefix}{name}"] = f"no original of this name{hint}"
    kept = [name for name in sorted(truths) if found[name]]
    originals_kept = [(name, truths[name].key) for name in kept]
    return Pairing(originals_kept, [found[name] for name in kept], dict(sorted(unmatched.items())))


def _listed(source: Source) -> dict[str, Entry]:
    return {entry.name: entry for entry in source.entries()}


@dataclass(frozen=True)
class PairUnit(Unit):
    """Originals and what belongs to them: `name`, `key`, and `results`, method -> key."""

    pairs: list[dict[str, Any]]
    split: str = GROUP[0]
    scale: str = GROUP[1]

    @property
    def images(self) -> int:
        """Originals."""
        return len(self.pairs)


def plan_units(pairing: Pairing, parts: Path, size: int = 8) -> list[PairUnit]:
    """Cut the pairs into units of at most `size` originals."""
    pairs = [
        {"name": name, "key": key, "results": results}
        for (name, key), results in zip(pairing.originals, pairing.results, strict=True)
    ]
    return [
        PairUnit(str(parts / f"{GROUP[0]}-{GROUP[1]}-{start:07d}.parquet"), pairs[start : start + size])
        for start in range(0, len(pairs), size)
    ]


def read_pair(
    pair: Mapping[str, Any], sources: Mapping[str, Source], made: Sequence[str]
) -> tuple[Case, dict[str, str]]:
    """Read what belongs to one original.

    Args:
        pair: `name`, `key`, and `results`: method -> key.
        sources: `original`, and by method.
        made: methods of MADE to make of the original reduced 4 times.

    Returns:
        The case, and why which methods have no result in it: `` for the original itself.
    """
    case = Case(pair["name"], pair["name"])
    try:
        truth = decode(sources["original"].read(pair["key"]))
    except (SourceError, ImageError) as error:
        return case, {"": f"the original cannot be read: {error}"}
    height, width = truth.shape[:2]
    if min(height, width) < WINDOW:
        return case, {"": f"{width}x{height}: SSIM needs {WINDOW} pixels a side"}
    case.truth = truth
    problems: dict[str, str] = {}
    if not (height % FACTOR or width % FACTOR):
        case.low = resize(truth, height // FACTOR, width // FACTOR)
        case.results = {method: resize(case.low, height, width, lanczos=method == "lanczos") for method in made}
    for method, key in pair["results"].items():
        try:
            result = decode(sources[method].read(key))
        except (SourceError, ImageError) as error:
            problems[method] = str(error)
            continue
        if result.shape != truth.shape:
            problems[method] = _sizes(result, truth)
        else:
            case.results[method] = result
    return case, problems


def _sizes(result: Pixels, truth: Pixels) -> str:
    return f"wrong size: {result.shape[1]}x{result.shape[0]}, its original is {truth.shape[1]}x{truth.shape[0]}"


class CompareWorker(EvaluationWorker):
    """Measures one unit of pairs. Columns out: METRICS."""

    def __init__(self, config: EvaluationConfig, sources: Mapping[str, Source]) -> None:
        """Take the evaluation's config and the opened places: `original`, and by method."""
        super().__init__(config)
        self.sources = sources

    def cases(self, unit: Any) -> Iterator[Case]:
        """The pairs of a unit."""
        made = self.config.get("baselines", [])
        for one in unit.pairs:
            yield read_pair(one, self.sources, made)[0]


def open_places(originals: str, methods: Mapping[str, str], scratch: Path) -> dict[str, Source]:
    """Open every place: `original`, and by method.

    Raises:
        SourceError: one cannot be read; the message says which.
    """
    places = {"original": originals, **methods}
    return {name: open_archive(place, scratch / f"{number}") for number, (name, place) in enumerate(places.items())}
