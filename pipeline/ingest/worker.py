"""Ingest worker: decodes, checks and hashes a unit of entries; rejected ones become rows with a reason."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.core.files import shard_files
from pipeline.core.images import ImageError, pixel_hash
from pipeline.core.schema import IMAGE, Row
from pipeline.core.shards import read_folder, write_rows
from pipeline.ingest.dedup import fingerprint
from pipeline.ingest.known import entry_key
from pipeline.ingest.preprocess import Aligner, accept
from pipeline.runtime.units import Statistics, Unit
from pipeline.sources.base import Source, SourceError
from pipeline.sources.folders import Synthetic
from pipeline.sources.open import open_archive

if TYPE_CHECKING:
    from pipeline.params import ingest as params

CANDIDATES = pa.schema(
    [
        ("hash", pa.string()),  # of the pixels; null where nothing could be decoded
        ("image", IMAGE),
        ("name", pa.string()),
        ("source", pa.int32()),  # number of the source in params
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("conversion", pa.string()),
        ("transform", pa.string()),
        ("fingerprint", pa.binary()),
        ("labels", pa.string()),  # JSON: what columns of the source say of it
        ("bytes", pa.int64()),  # of the encoded picture
        ("reason", pa.string()),  # empty where accepted
        ("entry", pa.string()),  # JSON: name and stamp; null where the source knows no stamp
    ]
)
FORGOTTEN = "forgotten"
"""Reason of a picture that must not come back; it is in no list."""
_LIGHT = [name for name in CANDIDATES.names if name != "image"]


@dataclass(frozen=True)
class EntryUnit(Unit):
    """Entries of one source: name, key, problem, stamp and labels of each."""

    source: int
    """Number of the source in params."""
    entries: list[list[Any]]

    @property
    def images(self) -> int:
        """Entries."""
        return len(self.entries)


class IngestWorker:
    """Columns in: entries of a source. Columns out: CANDIDATES, a row per face found, and per entry without one."""

    def __init__(self, settings: "params.Ingest", scratch: Path, forgotten: frozenset[str] = frozenset()):
        self.settings, self.scratch, self.forgotten = settings, scratch, forgotten
        self.sources: dict[int, Source] = {}
        self.aligner = _aligner(settings)

    def __call__(self, unit: EntryUnit) -> Statistics:
        """Write the unit's part; an entry that cannot be used becomes a row with its reason."""
        number = unit.source
        if number not in self.sources:
            self.sources[number] = open_source(self.settings.sources[number], self.scratch)
        rows = [row for entry in unit.entries for row in self._rows(number, *entry)]
        write_rows(Path(unit.part), rows, CANDIDATES)
        failed = {row["name"] for row in rows if row["reason"] not in ("", FORGOTTEN)}
        return {"images": unit.images, "failed": len(failed)}

    def _rows(
        self, number: int, name: str, key: Any, problem: str | None, stamp: Any, labels: dict[str, str]
    ) -> list[Row]:
        row: Row = dict.fromkeys(CANDIDATES.names) | {"name": name, "source": number, "reason": problem or ""}
        row |= {"width": 0, "height": 0, "bytes": 0, "conversion": "", "labels": json.dumps(labels, sort_keys=True)}
        row["entry"] = entry_key(name, stamp)
        if problem:
            return [row]
        try:
            faces = accept(self.sources[number].read(key), self.settings, self.aligner)
        except (SourceError, ImageError) as error:
            return [row | {"reason": str(error)}]
        rows = []
        for index, face in enumerate(faces):
            digest = pixel_hash(face.pixels)
            if digest in self.forgotten:
                rows.append(row | {"reason": FORGOTTEN})  # neither its pixels nor their hash
                continue
            own = name if len(faces) == 1 else f"{name}#{index + 1}"
            height, width = face.pixels.shape[:2]
            image = {"bytes": face.data, "path": own}
            known = {"name": own, "image": image, "bytes": len(face.data), "width": width, "height": height}
            made = {"conversion": face.conversion, "transform": face.transform}
            rows.append(row | known | made | {"hash": digest, "fingerprint": fingerprint(face.pixels)})
        return rows


def candidates(parts: Path) -> list[Row]:
    """All that was found, without the pictures, each with its part and its row in it."""
    return [
        row | {"part": part.name, "row": index, "labels": json.loads(row["labels"])}
        for part in shard_files(parts)
        for index, row in enumerate(read_folder(parts, _LIGHT, part.name))
    ]


def in_order(units: Sequence[EntryUnit], found: Sequence[Row]) -> list[Row]:
    """Rows in the order of the sources' entries, whenever they were decoded; without those that were forgotten."""
    entries = ((unit.source, entry_key(entry[0], entry[3])) for unit in units for entry in unit.entries)
    order = {entry: index for index, entry in reversed(list(enumerate(entries)))}
    return sorted(found, key=lambda row: (row["source"], order.get((row["source"], row["entry"]), 0)))


def open_source(source: "params.Source", scratch: Path) -> Source:
    """Open a source of params.

    Raises:
        SourceError: missing, empty or of an unknown kind.
    """
    if source.kind == "synthetic":
        return Synthetic(source.count, source.seed)
    return open_archive(source.path, scratch, source.columns)


def _aligner(settings: "params.Ingest") -> Aligner | None:
    """The aligner that finds faces in portraits, where params ask for it."""
    align = settings.align
    if align.recipe == "none":
        return None
    # only here: it brings torch, which takes each worker 200 MB
    from pipeline.ingest.align import Aligner as FaceAligner

    detector = align.detector and Path(align.detector)
    return FaceAligner(
        align.recipe, settings.size, align.several, settings.min_size, align.max_padding, detector or None
    )
