"""Enlarge shards of inputs: units, rows and shards as every method has them, and the worker of the upscale stage."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import FacesrError, first_line
from pipeline.core.images import Pixels
from pipeline.core.png import large_png
from pipeline.core.scales import METHODS, inputs_of
from pipeline.core.schema import UPSCALED, Row, add_result
from pipeline.core.shards import join_parts, read_folder, row_ranges, write_rows
from pipeline.models.allocator import keep_freed_memory
from pipeline.runtime.units import RowUnit, Statistics
from pipeline.upscale.measured_inputs import Face, MeasuredInputs, enlarge_degraded

if TYPE_CHECKING:
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


class ShardUpscaler(ABC):
    """Columns in: FACES (inputs). Columns out: UPSCALED, one row per input, ok or failed, see `MeasuredInputs`."""

    def __init__(self, inputs: MeasuredInputs):
        keep_freed_memory()
        self.inputs = inputs

    @abstractmethod
    def model(self, unit: RowUnit) -> str:
        """Sha256 of the weights that a unit is enlarged by; empty where there are none."""

    @abstractmethod
    def enlarge(self, unit: RowUnit, faces: Sequence[Face]) -> Iterable[Pixels | str]:
        """Result of each face in order, uint8 (4h, 4w, 3), or why there is none."""

    def __call__(self, unit: RowUnit) -> Statistics:
        """Write the unit's part."""
        rows: list[Row] = []
        faces: list[Face] = []
        for found in self.inputs.read(unit, self.model(unit)):
            if isinstance(found, Face):
                faces.append(found)
            rows.append(found.row if isinstance(found, Face) else found)
        for face, result in zip(faces, self.enlarge(unit, faces), strict=True):
            if isinstance(result, str):
                face.row["error"] = result
            else:
                add_result(face.row, large_png(result), *result.shape[:2])
        write_rows(Path(unit.part), rows, UPSCALED)
        return {"images": unit.stop - unit.start, "failed": sum(row["status"] == "failed" for row in rows)}


class UpscaleWorker(ShardUpscaler):
    """Enlarges by our generators.

    Args:
        inputs: of the scales.
        models: weights of each method.
        options: of `Upscaler.load`.
    """

    def __init__(self, inputs: MeasuredInputs, models: Mapping[str, str], options: Mapping[str, object]):
        from pipeline.upscale.upscaler import Upscaler  # only here: who plans the work needs no torch

        super().__init__(inputs)
        self.models, self.options, self._load = models, options, Upscaler.load
        self.upscalers: dict[tuple[str, bool], Upscaler] = {}

    def model(self, unit: RowUnit) -> str:
        """Sha256 of the generator's weights."""
        return str(self._upscaler(unit).metadata["sha256"])

    def enlarge(self, unit: RowUnit, faces: Sequence[Face]) -> Iterator[Pixels | str]:
        """One face after the other, so that one result is in memory at a time."""
        for face in faces:
            try:
                result = enlarge_degraded(self._upscaler(unit), face.low, face.chain, face.file)
            except (FacesrError, RuntimeError) as error:
                yield first_line(error)
            else:
                yield result

    def _upscaler(self, unit: RowUnit) -> "Upscaler":
        key = unit.method, bool(inputs_of(unit.scale))
        if key not in self.upscalers:
            upscaler = self._load(Path(self.models[unit.method]), clean_only=True, **self.options)  # type: ignore[arg-type]
            # realism: see params; noise is nothing to agree with, and a blind generator cannot tell
            if METHODS[unit.method] == "realism" or (upscaler.blind and inputs_of(unit.scale)):
                upscaler.back_projection = 0
            self.upscalers[key] = upscaler
        return self.upscalers[key]


def assemble(units: Sequence[RowUnit], work: Path) -> list[Row]:
    """Join the parts into `work/out/<method>/<scale>/<stem>.parquet`.

    Returns:
        Method, name, status and error of the rows that failed, also of those that an earlier try had finished.
    """
    shards = dict.fromkeys((unit.method, unit.scale, unit.stem) for unit in units)
    with ThreadPoolExecutor(4) as pool:
        joined = [
            pool.submit(
                join_parts,
                work / "parts" / method / scale,
                f"{stem}-*.parquet",
                work / "out" / method / scale / f"{stem}.parquet",
                UPSCALED,
            )
            for method, scale, stem in shards
        ]
        for shard in joined:
            shard.result()
    rows = read_folder(work / "out", ["method", "name", "status", "error"], "**/*.parquet")
    return [row for row in rows if row["status"] == "failed"]
