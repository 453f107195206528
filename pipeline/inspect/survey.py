"""Survey an archive: look at its listing and at a sample spread over it, within a bound of time.

Nothing is unpacked or written. Of a compressed tar, which cannot be read from the middle, the beginning is looked at.
"""

import io
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pipeline.codecs.exif import orientation_of
from pipeline.core.images import MAX_PIXELS, ImageError, Pixels, decoder_errors, open_image, resize
from pipeline.ingest.preprocess import read_rgb
from pipeline.sources.base import Entry, Source, SourceError
from pipeline.sources.folders import Folder, Several
from pipeline.sources.hdf5 import Hdf5
from pipeline.sources.parquet import ParquetFiles
from pipeline.sources.tars import Tar

THUMB = 128
"""Longer side of a thumbnail, pixels."""
EXAMPLES = 5
"""Names that are kept of each problem."""
USES = {
    "originals": "1024 and more: originals, 256→1024 included",
    "inputs": "256 to 1023: inputs for training; 64→256 can be measured",
    "small": "64 to 255: training at the smaller scales only",
    "unusable": "below 64: too small for anything",
}
"""What pictures can serve for -> the sides that do, in words."""
MODES = {"1": "black and white", "L": "grey", "P": "palette", "RGBA": "alpha", "LA": "grey with alpha", "PA": "alpha"}
MODES |= {"YCbCr": "RGB", "F": "floating point", "I": "grey, 16 bit"}

Summary = dict[str, Any]
"""What `facesr inspect --json` prints."""


@dataclass
class Look:
    """One picture that was looked at."""

    name: str
    problem: str | None = None
    size: tuple[int, int] = (0, 0)
    """Width and height in pixels, upright."""
    format: str = ""
    mode: str = ""
    turned: bool = False
    profile: bool = False
    thumb: Pixels | None = None
    """Not larger than THUMB x THUMB."""


@dataclass
class Findings:
    """What was found; counts are of pictures that listing found no fault with."""

    kind: str
    pictures: int = 0
    bytes: int = 0
    """Encoded size of those listed, or of the files they lie in where listing does not know."""
    passed_over: int = 0
    """Files beside the pictures, but for hidden ones."""
    complete: bool = True
    """True if all were listed; else `pictures` is a lower bound."""
    damaged: bool = False
    """True if that is because the rest cannot be read."""
    sampled_first: bool = False
    """True if the sample is the first pictures, not a spread over all."""
    problems: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> names, the first few."""
    details: dict[str, str] = field(default_factory=dict)
    """Reason -> all that is said of the first."""
    counts: Counter[str] = field(default_factory=Counter)
    """Reason -> how many."""
    looks: list[Look] = field(default_factory=list)

    def fault(self, name: str, problem: str) -> None:
        """Note a problem under its kind: what stands before the details."""
        reason = problem.partition(" (")[0] if problem.endswith((")", "read")) else problem
        self.counts[reason] += 1
        self.details.setdefault(reason, problem)
        self.problems[reason] = [*self.problems.get(reason, []), name][:EXAMPLES]

    def add(self, look: Look) -> None:
        """Note a picture that was looked at."""
        self.looks.append(look)
        if look.problem is not None:
            self.fault(look.name, look.problem)

    def summary(self) -> Summary:
        """As JSON."""
        good = [look for look in self.looks if not look.problem]
        sizes = Counter(look.size for look in good)
        return {
            "kind": self.kind,
            "pictures": self.pictures,
            "complete": self.complete,
            "damaged": self.damaged,
            "bytes": self.bytes,
            "passed_over": self.passed_over,
            "sampled": len(self.looks),
            "sampled_first": self.sampled_first,
            "sizes": [{"width": w, "height": h, "count": count} for (w, h), count in sizes.most_common()],
            "uses": {use: sum(use_of(look.size) == use for look in good) for use in USES},
            "formats": dict(Counter(look.format for look in good).most_common()),
            "modes": dict(Counter(look.mode for look in good).most_common()),
            "turned": sum(look.turned for look in good),
            "profiles": sum(look.profile for look in good),
            "not_square": sum(look.size[0] != look.size[1] for look in good),
            "problems": [
                {"reason": reason, "count": count, "names": self.problems[reason], "first": self.details[reason]}
                for reason, count in self.counts.most_common()
            ],
        }


def use_of(size: tuple[int, int]) -> str:
    """What a picture of that width and height can serve for; the shorter side decides."""
    side = min(size)
    return "originals" if side >= 1024 else "inputs" if side >= 256 else "small" if side >= 64 else "unusable"


def kind_of(source: Source) -> str:
    """What kind of container a source is, in words."""
    if isinstance(source, Several):
        kinds = Counter(kind_of(part) for _, part in source.parts)
        return ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common())
    if isinstance(source, Tar):
        return "compressed tar" if source.opener else "tar"
    if isinstance(source, Folder) and source.path.name == "CelebA-HQ-img":
        return "folder (CelebAMask-HQ)"
    names = {"ParquetFiles": "Parquet", "TFRecords": "TFRecord", "Hdf5": "HDF5", "Single": "picture"}
    name = type(source).__name__
    return names.get(name, name.lower())


def survey(source: Source, sample: int, seconds: float) -> tuple[Findings, list[Entry]]:
    """List a source; the findings so far, and the entries to look at with `examine`.

    Compressed tars are looked at here, from their beginning: there is nothing left to examine then.

    Args:
        source: what `open_archive` opened.
        sample: pictures to look at, at most.
        seconds: bound on the time; a picture that is being read is finished.

    Raises:
        SourceError: it cannot be listed at all.
    """
    found, end = Findings(kind_of(source)), time.monotonic() + seconds
    found.sampled_first = any(_is_packed(part) for part in _leaves(source))
    pairs = _stream(source) if found.sampled_first else ((entry, b"") for entry in source.entries())
    kept: list[Entry] = []
    stride = 1
    try:
        for entry, data in pairs:
            if entry.problem is not None:
                found.fault(entry.name, entry.problem)
            else:
                found.pictures += 1
                found.bytes += entry.size
                if found.sampled_first and len(found.looks) < sample:
                    found.add(look_at(entry.name, io.BytesIO(data).read))
                elif not found.sampled_first and (found.pictures - 1) % stride == 0:
                    kept.append(entry)
            if len(kept) >= 16 * sample:  # never all of millions
                kept, stride = kept[::2], stride * 2
            if time.monotonic() > end:
                found.complete = False
                break
    except SourceError as error:
        if not found.pictures:
            raise
        found.fault("the rest", str(error))
        found.complete, found.damaged = False, True
    found.passed_over = source.passed_over
    found.bytes = found.bytes or sum(map(_file_bytes, _leaves(source)))
    return found, spread(kept, sample)


def examine(
    found: Findings, source: Source, entries: list[Entry], seconds: float, advance: Callable[[int], None]
) -> None:
    """Look at entries until all are done or the time is up; `advance` is told of each."""
    end = time.monotonic() + seconds
    for entry in entries:
        found.add(look_at(entry.name, partial(source.read, entry.key)))
        advance(1)
        if time.monotonic() > end:
            break


def spread(entries: list[Entry], count: int) -> list[Entry]:
    """`count` entries at even distances, in an order that spreads any number of the first ones over all of them."""
    count = min(count, len(entries))
    even = [entries[index * len(entries) // count] for index in range(count)]
    bits = max(count - 1, 1).bit_length()
    return [even[index] for index in (int(f"{n:0{bits}b}"[::-1], 2) for n in range(1 << bits)) if index < count]


def look_at(name: str, read: Callable[[], bytes]) -> Look:
    """Decode one picture; what is wrong with it is its `problem`."""
    try:
        data = read()
        pixels, _ = read_rgb(data, MAX_PIXELS)  # as strict as ingestion is
        with decoder_errors(), open_image(data) as image:
            turned = orientation_of(image) != 1
            mode = image.mode.partition(";")[0]
            mode = MODES.get(mode, mode)
            if image.format == "PNG" and data[24] == 16 and not image.mode.startswith("I"):
                mode += ", 16 bit"
            if image.mode in ("RGB", "L") and image.has_transparency_data:
                mode += ", a colour transparent"
            kind, profile = image.format or "?", bool(image.info.get("icc_profile"))
    except (SourceError, ImageError) as error:
        return Look(name, str(error))
    height, width = pixels.shape[:2]
    scale = THUMB / max(height, width)
    small = resize(pixels, max(round(height * scale), 1), max(round(width * scale), 1)) if scale < 1 else pixels
    return Look(name, None, (width, height), kind, mode, turned, profile, small)


def _leaves(source: Source) -> list[Source]:
    """A source, or the single ones that it consists of."""
    return [leaf for _, part in source.parts for leaf in _leaves(part)] if isinstance(source, Several) else [source]


def _file_bytes(source: Source) -> int:
    paths = source.paths if isinstance(source, ParquetFiles) else [source.path] if isinstance(source, Hdf5) else []
    return sum(path.size() for path in paths)


def _is_packed(source: Source) -> bool:
    return isinstance(source, Tar) and source.opener is not None


def _stream(source: Source) -> Iterable[tuple[Entry, bytes]]:
    """Entries with their bytes, compressed tars from their beginning."""
    if isinstance(source, Several):
        for label, part in source.parts:
            for entry, data in _stream(part):
                yield replace(entry, name=f"{label}/{entry.name}"), data
    elif isinstance(source, Tar) and source.opener is not None:
        yield from source.stream()
    else:
        for entry in source.entries():
            try:
                yield entry, source.read(entry.key) if entry.problem is None else b""
            except SourceError as error:
                yield replace(entry, problem=str(error)), b""
