"""Enlarge shards of inputs: units, rows and shards as every method has them, and the worker of the upscale stage."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.degradation import Degradations, degrade, draw_degradation, reduce
from pipeline.core.errors import FacesrError, first_line
from pipeline.core.images import ImageError, Pixels, decode, encode_png
from pipeline.core.scales import AUGMENTED, METHODS, SIDE, UPSCALED_SCALES
from pipeline.core.schema import UPSCALED, Row, add_result, upscaled_row
from pipeline.core.shards import join_parts, read_folder, read_range, row_ranges, write_rows
from pipeline.models.allocator import keep_freed_memory
from pipeline.runtime.units import RowUnit, Statistics
from pipeline.upscale.upscaler import Upscaler


def plan_units(
    work: Path, inputs: Path, split: str, method: str, scale: str, size: int, limit: int | None
) -> list[RowUnit]:
    """Cut the inputs of a split into units, with their parts below `work/parts`.

    Args:
        work: folder of partial work.
        inputs: folder of the splits.
        split: to be enlarged.
        method: that enlarges it.
        scale: at which.
        size: most inputs of a unit.
        limit: only the first so many inputs; None: all.
    """
    folder = work / "parts" / method / scale
    return [
        RowUnit(str(folder / f"{stem}-{start:07d}.parquet"), start, stop, stem, split, method, scale)
        for stem, start, stop in row_ranges(inputs / split, "*.parquet", size, limit)
    ]


@dataclass(frozen=True)
class Face:
    """An input to enlarge, and its row of the results, failed until it is enlarged."""

    row: Row
    """As UPSCALED."""
    low: Pixels
    """uint8 (h, w, 3)."""


class ShardUpscaler(ABC):
    """Columns in: FACES (inputs). Columns out: UPSCALED, one row per input, ok or failed.

    At 256to1024 the input itself is enlarged; at 64to256 the input reduced 4 times is, if it is 256x256: smaller inputs
    have no row there.
    """

    def __init__(self, inputs: str):
        keep_freed_memory()
        self.inputs = Path(inputs)

    @abstractmethod
    def model(self, unit: RowUnit) -> str:
        """Sha256 of the weights that a unit is enlarged by; empty where there are none."""

    @abstractmethod
    def enlarge(self, unit: RowUnit, faces: Sequence[Face]) -> Iterable[Pixels | str]:
        """Result of each face in order, uint8 (4h, 4w, 3), or why there is none."""

    def __call__(self, unit: RowUnit) -> Statistics:
        """Write the unit's part."""
        stored = list(read_range(self.inputs / unit.split / f"{unit.stem}.parquet", unit.start, unit.stop))
        reduced = unit.scale.startswith(UPSCALED_SCALES[0])
        rows: list[Row] = []
        faces: list[Face] = []
        for source in stored:
            if reduced and source["width"] < SIDE:
                continue
            row = upscaled_row(source, unit.split, unit.scale, unit.method, self.model(unit))
            rows.append(row)
            try:
                low = decode(source["image"]["bytes"])
            except ImageError as error:
                row["error"] = first_line(error)
            else:
                faces.append(Face(row, reduce(low) if reduced else low))
        for face, result in zip(faces, self.enlarge(unit, faces), strict=True):
            if isinstance(result, str):
                face.row["error"] = result
            else:
                add_result(face.row, encode_png(result), *result.shape[:2])
        write_rows(Path(unit.part), rows, UPSCALED)
        return {"images": len(stored), "failed": sum(row["status"] == "failed" for row in rows)}


class UpscaleWorker(ShardUpscaler):
    """Enlarges by our generators; at an augmented scale, inputs that are degraded first.

    Args:
        inputs: folder of the splits.
        models: weights of each method.
        options: of `Upscaler.load`.
        degradations: that inputs of augmented scales are drawn by.
    """

    def __init__(
        self, inputs: str, models: Mapping[str, str], options: Mapping[str, object], degradations: Degradations
    ):
        super().__init__(inputs)
        self.models, self.options, self.degradations = models, options, degradations
        self.upscalers: dict[tuple[str, bool], Upscaler] = {}

    def model(self, unit: RowUnit) -> str:
        """Sha256 of the generator's weights."""
        return str(self._upscaler(unit).metadata["sha256"])

    def enlarge(self, unit: RowUnit, faces: Sequence[Face]) -> Iterator[Pixels | str]:
        """One face after the other, so that one result is in memory at a time."""
        for face in faces:
            try:
                low = face.low
                if unit.scale.endswith(AUGMENTED):
                    drawn = draw_degradation(face.row["id"], unit.scale, self.degradations)
                    face.row["degradation"] = json.dumps(drawn)
                    low = degrade(low, **drawn)
                result = self._upscaler(unit)(low)
            except (FacesrError, RuntimeError) as error:
                yield first_line(error)
            else:
                yield result

    def _upscaler(self, unit: RowUnit) -> Upscaler:
        key = unit.method, unit.scale.endswith(AUGMENTED)
        if key not in self.upscalers:
            options = dict(self.options)
            if METHODS[unit.method] == "realism" or unit.scale.endswith(AUGMENTED):
                options["back_projection"] = 0  # see params; and noise is nothing to agree with
            self.upscalers[key] = Upscaler.load(Path(self.models[unit.method]), **options)  # type: ignore[arg-type]
        return self.upscalers[key]


def assemble(units: Sequence[RowUnit], work: Path) -> list[Row]:
    """Join the parts into `work/out/<method>/<scale>/<stem>.parquet`.

    Returns:
        Method, name, status and error of the rows that failed, also of those that an earlier try had finished.
    """
    for method, scale, stem in dict.fromkeys((unit.method, unit.scale, unit.stem) for unit in units):
        target = work / "out" / method / scale / f"{stem}.parquet"
        join_parts(work / "parts" / method / scale, f"{stem}-*.parquet", target, UPSCALED)
    rows = read_folder(work / "out", ["method", "name", "status", "error"], "**/*.parquet")
    return [row for row in rows if row["status"] == "failed"]
