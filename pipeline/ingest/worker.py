"""Ingest worker: decodes, checks and hashes a unit of entries; rejected ones become rows with a reason."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.core.files import shard_files
from pipeline.core.images import ImageError, pixel_hash
from pipeline.core.schema import IMAGE, Row
from pipeline.core.shards import read_folder, write_rows
from pipeline.ingest.dedup import fingerprint
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
    ]
)
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

    def __init__(self, settings: "params.Ingest", scratch: Path):
        self.settings, self.scratch = settings, scratch
        self.sources: dict[int, Source] = {}
        self.aligner = _aligner(settings)

    def __call__(self, unit: EntryUnit) -> Statistics:
        """Write the unit's part; an entry that cannot be used becomes a row with its reason."""
        number = unit.source
        if number not in self.sources:
            self.sources[number] = open_source(self.settings.sources[number], self.scratch)
        rows = [row for entry in unit.entries for row in self._rows(number, *entry)]
        write_rows(Path(unit.part), rows, CANDIDATES)
        return {"images": unit.images, "failed": len({row["name"] for row in rows if row["reason"]})}

    def _rows(
        self, number: int, name: str, key: Any, problem: str | None, stamp: Any, labels: dict[str, str]
    ) -> list[Row]:
        row: Row = dict.fromkeys(CANDIDATES.names) | {"name": name, "source": number, "reason": problem or ""}
        row |= {"width": 0, "height": 0, "bytes": 0, "conversion": "", "labels": json.dumps(labels, sort_keys=True)}
        if problem:
            return [row]
        try:
            faces = accept(self.sources[number].read(key), self.settings, self.aligner)
        except (SourceError, ImageError) as error:
            return [row | {"reason": str(error)}]
        rows = []
        for index, face in enumerate(faces):
            own = name if len(faces) == 1 else f"{name}#{index + 1}"
            height, width = face.pixels.shape[:2]
            image = {"bytes": face.data, "path": own}
            known = {"name": own, "image": image, "bytes": len(face.data), "width": width, "height": height}
            made = {"conversion": face.conversion, "transform": face.transform}
            rows.append(row | known | made | {"hash": pixel_hash(face.pixels), "fingerprint": fingerprint(face.pixels)})
        return rows


def candidates(parts: Path) -> list[Row]:
    """All that was found, without the pictures, each with its part and its row in it."""
    return [
        row | {"part": part.name, "row": index, "labels": json.loads(row["labels"])}
        for part in shard_files(parts)
        for index, row in enumerate(read_folder(parts, _LIGHT, part.name))
    ]


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
