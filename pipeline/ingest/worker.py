"""What is found in sources: entries decoded, checked and hashed, in parts of a few dozen, good and bad alike."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.core.files import shard_files
from pipeline.core.images import ImageError
from pipeline.core.schema import IMAGE
from pipeline.core.shards import read_columns, write_rows
from pipeline.ingest.preprocess import Aligner, accept
from pipeline.ingest.split_lists import columns as asked_columns
from pipeline.runtime.units import Statistics, Unit
from pipeline.sources.base import Source, SourceError
from pipeline.sources.open import open_source

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

    def __init__(self, config: Mapping[str, Any], scratch: str):
        self.config, self.scratch = config, Path(scratch)
        self.sources: dict[int, Source] = {}
        self.aligner = _aligner(config)

    def __call__(self, unit: EntryUnit) -> Statistics:
        """Write the unit's part; an entry that cannot be used becomes a row with its reason."""
        number = unit.source
        if number not in self.sources:
            self.sources[number] = open_source(described(self.config["sources"][number]), self.scratch)
        rows = [row for entry in unit.entries for row in self._rows(number, *entry)]
        write_rows(Path(unit.part), rows, CANDIDATES)
        failed = {row["name"] for row in rows if row["reason"]}
        return {"images": unit.images, "failed": len(failed)}

    def _rows(
        self, number: int, name: str, key: Any, problem: str, stamp: Any, labels: dict[str, str]
    ) -> list[dict[str, Any]]:
        row: dict[str, Any] = dict.fromkeys(CANDIDATES.names) | {"name": name, "source": number, "reason": problem}
        row |= {"width": 0, "height": 0, "bytes": 0, "conversion": "", "labels": json.dumps(labels, sort_keys=True)}
        if problem:
            return [row]
        try:
            faces = accept(self.sources[number].read(key), self.config, self.aligner)
        except (SourceError, ImageError) as error:
            return [row | {"reason": str(error)}]
        rows = []
        for place, face in enumerate(faces):
            own = name if len(faces) == 1 else f"{name}#{place + 1}"
            height, width = face.pixels.shape[:2]
            facts = {"hash": face.hash, "fingerprint": face.fingerprint, "width": width, "height": height, "name": own}
            picture = {"image": {"bytes": face.data, "path": own}, "bytes": len(face.data)}
            rows.append(row | facts | picture | {"conversion": face.conversion, "transform": face.transform})
        return rows


def candidates(parts: Path) -> list[dict[str, Any]]:
    """All that was found, without the pictures, each with its part and its row in it."""
    found = []
    for part in shard_files(parts):
        for index, row in enumerate(read_columns(parts, _LIGHT, part.name)):
            found.append(row | {"part": part.name, "row": index, "labels": json.loads(row["labels"])})
    return found


def described(source: Mapping[str, Any]) -> dict[str, Any]:
    """A source as `open_source` takes it."""
    return {**source, "columns": asked_columns(source)}


def labels(config: Mapping[str, Any]) -> list[str]:
    """What the sources of params are called, in their order."""
    return [label(description) for description in config["sources"]]


def label(description: Mapping[str, Any]) -> str:
    """What a source is called, in columns and messages."""
    if description["kind"] == "synthetic":
        return f"synthetic (seed {description['seed']})"
    return str(description["path"])


def _aligner(config: Mapping[str, Any]) -> Aligner | None:
    """What finds faces in portraits, where params ask for it."""
    align = config["align"]
    if align["recipe"] == "none":
        return None
    # only here: it brings torch, which takes each worker 200 MB
    from pipeline.ingest.align import Aligner as FaceAligner

    return FaceAligner(
        align["recipe"],
        config["size"],
        align["several"],
        config["min_size"],
        align["max_padding"],
        Path(align["detector"]),
    )
