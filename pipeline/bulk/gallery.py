"""The result of a bulk upscaling as one self-contained HTML page: flagged pictures first, before and after each.

Nobody looks at thousands: the page shows what the checks flagged, a sample of the rest, and why pictures failed.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.bulk.checks import choose, severity
from pipeline.core.errors import FacesrError, first_line, only_names
from pipeline.core.images import ImageError, Pixels, decode, resize
from pipeline.core.scales import FACTOR
from pipeline.core.schema import UPSCALE_MANIFEST, Row
from pipeline.html.pages import EmbeddedImage, details, embed, environment, shareable
from pipeline.sources.base import Entry, Source, SourceError
from pipeline.sources.open import open_archive

LARGEST: Final = 20_000 * 20_000
"""Pixels of a result beyond which it is named and not shown: decoding it takes over 2 GB."""
WHOLE: Final = 768
"""Long side, pixels, of a picture shown whole."""
DETAIL: Final = 384
"""Side, pixels, of the piece of the result that is shown 1:1; of a portrait the eyes, the nose and the mouth."""
_STEPS: Final = ((WHOLE, 88), (WHOLE, 80), (WHOLE, 70), (640, 60), (512, 50), (384, 40), (256, 30))
"""Long side and JPEG quality, tried in this order until a picture takes no more than its share of the page."""
_SHARE: Final = 280_000
"""Bytes of the page for a picture, on average: 56 MB at 200 of them."""
_FEWEST: Final = 200
"""Pictures whose shares are the least that a page may take: a few may be large."""
_REASONS: Final = 1000
"""Failures that are listed; the manifest names all."""

_COLUMNS: Final = {field.name: field.type for field in UPSCALE_MANIFEST}
"""What is read of a manifest; a column that an older one lacks counts as empty."""


class ViewError(FacesrError):
    """A result that cannot be shown; the message is one line that says why and what to do."""


@dataclass(frozen=True)
class Manifest:
    """The outcome of every picture, and of which run."""

    path: Path
    rows: list[Row]
    metadata: dict[str, Any]
    """`facesr` (version), `input`, `output`, `settings`; empty where the manifest does not say."""


@dataclass(frozen=True)
class Card:
    """A picture of the page."""

    row: Row
    rank: float
    images: dict[str, EmbeddedImage]
    """before, after, and where the picture is large detail-before and detail-after."""
    original: bool
    """"before" is the input, not the result reduced."""
    smaller: bool
    """It is shown smaller than others, to fit its share."""


def read_manifest(output: Path) -> Manifest:
    """Find and read the manifest of a result.

    Args:
        output: what `facesr upscale` wrote: a folder (manifest in it), or a file (manifest beside it).

    Raises:
        ViewError: the result or its manifest is missing or cannot be read.
    """
    if not output.exists():
        raise ViewError(f"{output}: no such file or folder")
    start = output / "manifest" if output.is_dir() else output.with_name(f"{output.name}.manifest")
    paths = [start.with_name(start.name + suffix) for suffix in (".parquet", ".csv")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ViewError(f"{output}: not a result of facesr upscale: there is no {paths[0]}")
    try:
        if path.suffix == ".csv":
            # names are text, also where all of them are numbers
            options = pyarrow.csv.ConvertOptions(column_types=_COLUMNS, null_values=[""])
            table = pyarrow.csv.read_csv(path, convert_options=options)
        else:
            table = pq.read_table(path)
        if missing := {"name", "status"} - set(table.column_names):
            raise ViewError(f"{path}: not a manifest of facesr upscale: no column {', '.join(sorted(missing))}")
        kept = [name for name in _COLUMNS if name in table.column_names]
        rows = table.select(kept).cast(pa.schema([(name, _COLUMNS[name]) for name in kept])).to_pylist()
        metadata = json.loads((table.schema.metadata or {}).get(b"facesr", b"{}"))
    except (pa.ArrowException, ValueError, OSError, KeyError, RecursionError) as error:
        raise ViewError(f"{path}: not a readable manifest ({first_line(error)})") from error
    if not isinstance(metadata, dict) or not isinstance(metadata.get("settings") or {}, dict):
        raise ViewError(f"{path}: not a manifest of facesr upscale: its metadata are no record of a run")
    return Manifest(path, [_row(row) for row in rows], metadata)


def _row(row: Row) -> Row:
    """A row as the page shows it: with every column, a name, and nothing of places on the machine that wrote it."""
    texts = {key: only_names(row[key]) for key in ("error", "note") if row.get(key)}
    return dict.fromkeys(_COLUMNS) | row | texts | {"name": row["name"] or "", "status": row["status"] or "unknown"}


def make(
    output: Path,
    manifest: Manifest,
    limit: int,
    before: str | None = None,
    advance: Callable[[int], object] = lambda count: None,
) -> str:
    """Make the page.

    Args:
        output: the result, local.
        manifest: of `read_manifest`.
        limit: pictures to show, at most.
        before: where the inputs lie, if not beside the result under the name that the manifest says.
        advance: told of every picture done.

    Returns:
        HTML that loads nothing from anywhere, under 60 MB at 200 pictures.

    Raises:
        ViewError: `before` cannot be read.
        SourceError: the result cannot be read.
    """
    rows = manifest.rows
    chosen = choose(rows, limit)
    gone: list[Row] = []
    cards: list[Card] = []
    with TemporaryDirectory() as scratch:
        results = _results(output, manifest, Path(scratch))
        inputs, problem = _inputs(output, manifest, before, Path(scratch))
        budget = _SHARE * max(_FEWEST, len(chosen))
        for left, index in zip(range(len(chosen), 0, -1), chosen, strict=True):
            try:
                high = decode(results(index), LARGEST)
            except (SourceError, ImageError, OSError, ValueError) as error:
                why = f"the result cannot be shown: {only_names(str(error))}"
                gone.append(rows[index] | {"status": "not shown", "error": why})
            else:
                cards.append(_card(rows[index], high, _low(inputs, index, high), budget // left))
                budget -= sum(len(image.uri) for image in cards[-1].images.values())
            advance(1)
    # first what the manifest calls good and is not there
    return _render(output, manifest, cards, [*gone, *(row for row in rows if row["status"] != "ok")], problem)


Read = Callable[[int], bytes]
"""Reads the file that belongs to a row of the manifest."""


def _reader(sources: Iterable[Source], names: Iterable[str | None]) -> Read:
    """What reads the entry that belongs to the n-th of `names`: an archive may hold a name twice, in the same order."""
    entries: dict[str | None, list[tuple[Source, Entry]]] = {}
    for source, entry in ((one, entry) for one in sources for entry in one.entries()):
        entries.setdefault(entry.name, []).append((source, entry))
    left = {name: iter(same) for name, same in entries.items()}
    found = [next(left.get(name, iter(())), None) for name in names]

    def read(index: int) -> bytes:
        source, entry = found[index] or (None, None)
        if source is None or entry is None:
            raise SourceError("it is not there any more")
        if entry.problem:
            raise SourceError(entry.problem)
        return source.read(entry.key)

    return read


def _results(output: Path, manifest: Manifest, scratch: Path) -> Read:
    """What reads the result of a row: a file in a folder, else the entry of an archive by its file's or own name."""
    rows, folder = manifest.rows, output.resolve()
    sources = _shards(folder, manifest.path.name, scratch) if output.is_dir() else [open_archive(str(output), scratch)]
    files = _reader(sources, [row["file"] for row in rows])
    # a row without a result has no entry, and is not to take that of another with its name
    names = _reader(sources, [row["name"] if row["status"] == "ok" else None for row in rows])

    def read(index: int) -> bytes:
        file = rows[index]["file"]
        path = (folder / (file or ".")).resolve()
        if output.is_dir() and path.is_relative_to(folder) and path.is_file() and path.suffix != ".parquet":
            return path.read_bytes()
        try:
            return files(index)
        except SourceError:
            return names(index)

    return read


def _shards(folder: Path, manifest: str, scratch: Path) -> list[Source]:
    found = []
    for path in sorted({*folder.glob("*.parquet")} - {folder / manifest}):
        with suppress(SourceError):  # somebody's table
            source = open_archive(str(path), scratch)
            next(iter(source.entries()), None)
            found.append(source)
    return found


def _inputs(output: Path, manifest: Manifest, before: str | None, scratch: Path) -> tuple[Read | None, str | None]:
    """What reads the input of a row, or None and why there is none.

    A manifest may be somebody else's: no address or path in it is opened, only what the user names, or what lies
    beside the result under the input's own name.
    """
    path = before or _beside(output, manifest.metadata.get("input"))
    if path is None:
        return None, "The inputs are not beside the result: name their place with --before"
    try:
        return _reader([open_archive(path, scratch)], [row["name"] for row in manifest.rows]), None
    except (FacesrError, OSError) as error:
        if before:
            raise ViewError(f"--before {before}: {error}") from error
        return None, f"The inputs cannot be read any more ({only_names(str(error))})"


def _beside(output: Path, recorded: object) -> str | None:
    """What has the name of the recorded input and lies beside the result."""
    if not isinstance(recorded, str) or "://" in recorded or "\0" in recorded:
        return None
    name = recorded.replace("\\", "/").rstrip("/").rpartition("/")[2]
    path = output.resolve().parent / name
    return str(path) if name not in ("", ".", "..") and path.exists() and not path.samefile(output) else None


def _low(inputs: Read | None, index: int, high: Pixels) -> Pixels | None:
    """The input of a row, None where it cannot be read or is another by now."""
    if inputs is None:
        return None
    try:
        low = decode(inputs(index))
    except (FacesrError, OSError):
        return None
    return low if high.shape[:2] == (FACTOR * low.shape[0], FACTOR * low.shape[1]) else None


def _card(row: Row, high: Pixels, low: Pixels | None, share: int) -> Card:
    """The pictures of one card in at most `share` bytes, unless even the last of the steps takes more."""
    original = low is not None
    if low is None:
        low = resize(high, max(1, high.shape[0] // FACTOR), max(1, high.shape[1] // FACTOR))
    images = embed(_attempts(high, low), share)
    shown = max(images["after"].width, images["after"].height)
    return Card(row, severity(row), images, original, shown < min(WHOLE, max(high.shape[:2])))


def _attempts(high: Pixels, low: Pixels) -> Iterator[tuple[Mapping[str, Pixels], int]]:
    """A card's pictures and their JPEG quality, smaller from step to step."""
    pieces = details(high, low, DETAIL) if max(high.shape[:2]) > DETAIL else {}

    @cache
    def wholes(height: int, width: int) -> dict[str, Pixels]:
        return {"before": resize(low, height, width), "after": resize(high, height, width)}

    for side, quality in _STEPS:
        scale = min(1.0, side / max(high.shape[:2]))
        height, width = (max(1, round(length * scale)) for length in high.shape[:2])
        yield wholes(height, width) | pieces, quality


def _render(output: Path, manifest: Manifest, cards: list[Card], troubles: list[Row], problem: str | None) -> str:
    metadata = shareable(manifest.metadata)
    settings = metadata.pop("settings", None) or {}
    metadata.pop("listing", None)
    page = environment("pipeline.bulk").get_template("gallery.html.j2")
    return page.render(
        output=output.name or str(output),
        metadata=metadata | {name: value for name, value in settings.items() if name not in ("name", "model")},
        models=sorted({row["model"] for row in manifest.rows if row["model"]}),
        counts=Counter(row["status"] for row in manifest.rows),
        flags=Counter(flag for row in manifest.rows for flag in (row["flags"] or "").split(",") if flag),
        flagged=sum(bool(row["flags"]) for row in manifest.rows),
        cards=cards,
        troubles=troubles[:_REASONS],
        more_troubles=max(0, len(troubles) - _REASONS),
        manifest=manifest.path.name,
        problem=problem,
        lost=0 if problem else sum(not card.original for card in cards),
        reduced=sum(card.smaller for card in cards),
        model=str(settings.get("name") or "model"),
        whole=WHOLE,
        detail=DETAIL,
        factor=FACTOR,
    )
