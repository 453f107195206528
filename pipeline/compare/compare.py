"""Compare any pictures with their originals, matched by name: the evaluation's metrics without the pipeline's data."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from pipeline.compare.name_match import MatchError, assign, bare, canonical, common_suffix
from pipeline.core.degradation import reduce
from pipeline.core.images import ImageError, decode
from pipeline.core.scales import FACTOR
from pipeline.evaluate.aggregate import aggregate, read_parts
from pipeline.evaluate.cases import Case, EvaluationConfig, enlarge
from pipeline.evaluate.networks import find_networks
from pipeline.evaluate.summary import Score, Summary
from pipeline.evaluate.worker import EvaluationWorker
from pipeline.metrics.ssim import WINDOW
from pipeline.report.write import write
from pipeline.runtime.console import slow
from pipeline.runtime.stage import environment
from pipeline.runtime.units import RowUnit, do_units
from pipeline.sources.base import Reading, Source, SourceError
from pipeline.sources.open import open_archive

SUBJECT: Final = "upscaled"
ORIGINAL: Final = "original"
SPLIT, SCALE = "pictures", ""
"""Under which pictures stand that have neither."""
UNIT: Final = 8
"""Originals in a work unit."""


@dataclass(frozen=True)
class Pair:
    """An original and what methods made of it."""

    name: str
    key: Any
    """Of the original in its source."""
    results: dict[str, Any]
    """Method -> key of its picture."""


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison."""

    scores: dict[str, Score]
    """Method -> its figures; the subject is SUBJECT."""
    unmatched: dict[str, str]
    """`[METHOD: ]NAME` -> why it could not be compared."""
    baseline: str
    """What the subject is held against; "" where nothing was given."""

    @property
    def summary(self) -> Summary:
        """The scores as metrics.json has them."""
        return {SPLIT: {SCALE: self.scores}}

    def to_json(self) -> dict[str, Any]:
        """What `facesr compare --json` writes."""
        return {
            "methods": self.scores,
            "unmatched": list(self.unmatched),
            "unmatched_reasons": self.unmatched,
            "count": self.scores[SUBJECT]["count"],
        }


def compare(
    originals: str,
    upscaled: str,
    against: Mapping[str, str] | None = None,
    *,
    baselines: Sequence[str] = (),
    networks: Mapping[str, str | None] | None = None,
    device: str = "cpu",
    report: Path | None = None,
    workers: int | None = None,
    suffixes: Sequence[str] = (),
    reading: Reading | None = None,
) -> Comparison:
    """Measure pictures against their originals.

    Args:
        originals: true pictures: a folder or archive.
        upscaled: what was made of them, matched by name.
        against: folder or archive of other methods, by name.
        baselines: of `scales.BASELINES`, made here of each original reduced 4 times.
        networks: weights file of networks that metrics use, by name; others are looked for in the cache.
        device: cpu or cuda, for these networks.
        report: folder for tables, sheets and report.html.
        workers: processes; one per core by default.
        suffixes: what tools add to names, such as `_out`.
        reading: what the user says of the archives; the column is that of the originals.

    Raises:
        SourceError: a folder or archive cannot be read.
        WeightsError: a weights file that is named does not exist.
        MatchError: nothing in `upscaled` has the name of an original.
        StageError: a worker failed.
    """
    against = against or {}
    paths = {SUBJECT: upscaled, **against}
    others = replace(reading, column=None) if reading else None
    with TemporaryDirectory(prefix="facesr-compare-") as scratch:
        parts = Path(scratch) / "parts"
        with slow("list and match the pictures"):
            sources = {
                name: open_archive(path, Path(scratch) / f"{number}", reading=reading if name == ORIGINAL else others)
                for number, (name, path) in enumerate({ORIGINAL: originals, **paths}.items())
            }
            pairs, unmatched = match(sources, suffixes)
        files, problems = find_networks(networks or {}, device)
        if not any(SUBJECT in pair.results for pair in pairs):
            hint = next((why.partition("; ")[2] for why in unmatched.values() if "--suffix" in why), "")
            message = f"no picture in {upscaled} has the name of one in {originals}"
            raise MatchError(f"{message}; {hint}" if hint else message)
        config = EvaluationConfig(
            methods=[SUBJECT],
            references=list(against),
            baselines=baselines,
            baseline=next(iter([*baselines, *against]), ""),
            networks=files,
            problems=problems,
            device=device,
        )
        units = [
            RowUnit(str(parts / f"{SPLIT}-{SCALE}-{start:07d}.parquet"), start, start + UNIT, split=SPLIT, scale=SCALE)
            for start in range(0, len(pairs), UNIT)
        ]
        units[-1] = replace(units[-1], stop=len(pairs))
        gpus = None if device == "cuda" else 0
        do_units("compare", CompareWorker, (config, pairs, sources), units, workers=workers, gpus_per_worker=gpus)
        by_name = {pair.name: pair for pair in pairs}
        unmatched |= _failures(parts, by_name, sources)
        config = replace(config, unmatched=[f"{name}: {why}" for name, why in unmatched.items()])
        if report is None:
            with slow("average, and draw resamples"):
                summary = aggregate(parts, config)
        else:
            provenance = {"places": {"originals": originals, **paths}, "environment": environment()}

            def find(split: str, scale: str, ids: Sequence[str]) -> list[Case]:
                return [read_pair(by_name[name], sources, baselines)[0] for name in ids]

            with slow("average, draw resamples, and write the report"):
                summary = write(parts, config, report, provenance, find)
    return Comparison(summary[SPLIT][SCALE], unmatched, config.baseline)


def _failures(parts: Path, pairs: Mapping[str, Pair], sources: Mapping[str, Source]) -> dict[str, str]:
    """`[METHOD: ]NAME` -> why, of pairs that could not be measured."""
    rows = [row for row in read_parts(parts) if row["psnr"] is None]
    failed = {row["id"] for row in rows if row["method"] in pairs[row["id"]].results}
    return {
        name if method in (ORIGINAL, SUBJECT) else f"{method}: {name}": why
        for name in sorted(failed)
        for method, why in read_pair(pairs[name], sources, ())[1].items()
    }


def match(sources: Mapping[str, Source], suffixes: Sequence[str] = ()) -> tuple[list[Pair], dict[str, str]]:
    """Match pictures by name; `name_match` says how.

    Args:
        sources: ORIGINAL, SUBJECT, then other methods, by name.
        suffixes: what tools add to names.

    Returns:
        Pairs, sorted by name, and `[METHOD: ]NAME` -> why it is not compared.

    Raises:
        SourceError: a source cannot be listed.
    """
    entries = {name: sorted(source.entries(), key=lambda entry: entry.name) for name, source in sources.items()}
    truths = entries.pop(ORIGINAL)
    names = [entry.name for entry in truths]
    same = Counter(map(canonical, names))
    unmatched: dict[str, str] = {}
    results: list[dict[str, Any]] = [{} for _ in truths]
    for method, found in entries.items():
        prefix = "" if method == SUBJECT else f"{method}: "
        belonging = assign(names, [entry.name for entry in found], suffixes)
        for number, (name, own) in enumerate(zip(names, belonging, strict=True)):
            if len(own) > 1:
                several = ", ".join(found[index].name for index in own)
                unmatched[f"{prefix}{name}"] = f"several pictures of this name: {several}"
            elif same[canonical(name)] > 1:
                unmatched[f"{prefix}{name}"] = f"{same[canonical(name)]} originals of this name"
            elif not own:
                unmatched[f"{prefix}{name}"] = "missing: no picture of this original"
            elif found[own[0]].problem:
                unmatched[f"{prefix}{found[own[0]].name}"] = found[own[0]].problem or ""
            else:
                results[number][method] = found[own[0]].key
        used = {index for own in belonging for index in own}
        left = [entry.name for index, entry in enumerate(found) if index not in used]
        for name, why in zip(left, _reasons(left, names, bool(used)), strict=True):
            unmatched.setdefault(f"{prefix}{name}", why)
    pairs = [Pair(entry.name, entry.key, keys) for entry, keys in zip(truths, results, strict=True) if keys]
    return pairs, dict(sorted(unmatched.items()))


def _reasons(left: Sequence[str], truths: Sequence[str], some: bool) -> Iterator[str]:
    """Why results belong to no original, in their order; where `some` others do, one alone shares no suffix."""
    suffix = None if some and len(left) == 1 else common_suffix(truths, left)
    stems: dict[str, list[str]] = {}
    for name in truths:
        stems.setdefault(bare(name), []).append(name)
    for name in left:
        alike = stems.get(bare(name), [])
        if suffix:
            yield f"no original of this name; all end in {suffix}: is it --suffix {suffix}?"
        elif len(alike) > 1:
            yield f"could be of several originals: {', '.join(alike)}"
        elif alike:
            yield f"{alike[0]} has another picture, whose name is nearer"
        else:
            near = get_close_matches(bare(name), stems, 1)
            yield "no original of this name" + (f"; is it {near[0]}?" if near else "")


def read_pair(pair: Pair, sources: Mapping[str, Source], baselines: Sequence[str]) -> tuple[Case, dict[str, str]]:
    """Read what belongs to one original.

    Args:
        pair: where it lies in the sources.
        sources: ORIGINAL, and by method.
        baselines: made here of the original reduced 4 times.

    Returns:
        The case, and why which methods have no result in it: ORIGINAL for all.
    """
    case = Case(pair.name, pair.name, scale=SCALE)
    try:
        truth = decode(sources[ORIGINAL].read(pair.key))
    except (SourceError, ImageError) as error:
        return case, {ORIGINAL: f"the original cannot be read: {error}"}
    height, width = truth.shape[:2]
    if min(height, width) < WINDOW:
        return case, {ORIGINAL: f"{width}x{height}: SSIM needs {WINDOW} pixels a side"}
    case.truth = truth
    if not (height % FACTOR or width % FACTOR):
        case.low = reduce(truth)
        case.results = enlarge(case.low, baselines)
    problems: dict[str, str] = {}
    for method, key in pair.results.items():
        try:
            result = decode(sources[method].read(key))
        except (SourceError, ImageError) as error:
            problems[method] = str(error)
            continue
        if result.shape == truth.shape:
            case.results[method] = result
        else:
            size = f"{result.shape[1]}x{result.shape[0]}"
            problems[method] = f"wrong size: {size}, its original is {width}x{height}"
    return case, problems


class CompareWorker(EvaluationWorker):
    """Measures a unit of pairs. Columns out: METRICS."""

    def __init__(self, config: EvaluationConfig, pairs: Sequence[Pair], sources: Mapping[str, Source]) -> None:
        """Take the evaluation's config, all pairs, and the opened sources: ORIGINAL, and by method."""
        super().__init__(config)
        self.pairs, self.sources = pairs, sources

    def cases(self, unit: RowUnit) -> Iterator[Case]:
        """The pairs of a unit."""
        for pair in self.pairs[unit.start : unit.stop]:
            yield read_pair(pair, self.sources, self.config.baselines)[0]
