"""Inputs of the measured scales, clean or degraded, and what a generator is told of them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.chain import Chain, degrade_to_file
from pipeline.core.degradation import (
    KINDS,
    Degradations,
    degrade,
    draw_degradation,
    draw_kind,
    reduce,
    reduced_for,
)
from pipeline.core.errors import first_line
from pipeline.core.images import ImageError, Pixels, decode, eight_bit_rgb
from pipeline.core.scales import AUGMENTED, FACTOR, SIDE, UPSCALED_SCALES, base_of, inputs_of
from pipeline.core.schema import Row, upscaled_row
from pipeline.core.shards import read_range
from pipeline.runtime.units import RowUnit

CLEAN_CHAIN = Chain()


@dataclass(frozen=True)
class Face:
    """An input to enlarge, and its row of the results, failed until it is enlarged."""

    row: Row
    """As UPSCALED."""
    low: Pixels
    """uint8 (h, w, 3)."""
    chain: Chain = CLEAN_CHAIN
    """What an input of a kind suffered; nothing where it is clean, or augmented."""
    file: bytes | None = None
    """JPEG that `low` was decoded from, of a kind that is one."""


@dataclass(frozen=True)
class MeasuredInputs:
    """Where inputs of a scale come from: the folder of the splits, and for one kind the originals.

    At 256to1024 the input itself is enlarged; at 64to256 the input reduced 4 times is, if it is 256x256: smaller inputs
    have no row there. A kind that is not reduced by bicubic is made of what its input was reduced from: at 256to1024
    of the original, and a face without one has no row.
    """

    inputs: str
    """Folder of the splits."""
    faces: str = ""
    """Folder of the originals' shards: read for such a kind alone."""
    seed: int = 0
    """Of the noise of kinds."""
    degradations: Degradations | None = None
    """That augmented inputs are drawn by."""

    def read(self, unit: RowUnit, model: str) -> Iterator[Face | Row]:
        """Inputs of a unit; of one that cannot be decoded its failed row, which says why."""
        stored = read_range(Path(self.inputs) / unit.split / f"{unit.stem}.parquet", unit.start, unit.stop)
        small = base_of(unit.scale) == UPSCALED_SCALES[0]
        chain = KINDS.get(inputs_of(unit.scale), CLEAN_CHAIN)
        originals = self._originals(unit) if chain.reduction and not small else None
        for source in stored:
            if small and source["width"] < SIDE:
                continue
            original = originals.get(source["id"]) if originals is not None else source
            if original is None or (originals is not None and not _fits(original, source)):
                continue
            row = upscaled_row(source, unit.split, unit.scale, unit.method, model)
            try:
                low = decode(source["image"]["bytes"])
                truth = low if originals is None else decode(original["image"]["bytes"])
                low = reduce(low) if small else low
            except ImageError as error:
                row["error"] = first_line(error)
                yield row
            else:
                yield self._face(row, low, chain, truth)

    def _face(self, row: Row, low: Pixels, chain: Chain, truth: Pixels) -> Face:
        if inputs_of(row["scale"]) in KINDS:
            drawn = draw_kind(row["id"], row["scale"], self.seed)
            row["degradation"] = json.dumps(drawn)
            low, file = degrade_to_file(reduced_for(low, chain, truth), chain, drawn["seed"])
            return Face(row, low if file is None else decode(file), chain, file)
        if row["scale"].endswith(AUGMENTED) and self.degradations is not None:
            augmentation = draw_degradation(row["id"], row["scale"], self.degradations)
            row["degradation"] = json.dumps(augmentation)
            low = degrade(low, **augmentation)
        return Face(row, low)

    def _originals(self, unit: RowUnit) -> dict[str, Row]:
        """Rows of the faces by id: encoded, since a unit's decoded originals would take 3 MB each."""
        path = Path(self.faces) / f"{unit.stem}.parquet"
        columns = ["id", "image", "width", "height"]
        return {row["id"]: row for row in read_range(path, unit.start, unit.stop, columns)}


def _fits(original: Row, source: Row) -> bool:
    """True if an original is four times its input."""
    return all(original[side] == FACTOR * source[side] for side in ("width", "height"))


def enlarge_degraded(
    enlarge: Callable[[Pixels], Pixels], low: Pixels, chain: Chain = CLEAN_CHAIN, file: bytes | None = None
) -> Pixels:
    """Enlarge an input by a method, ours as `facesr upscale` would a file.

    Args:
        enlarge: uint8 (h, w, 3) -> uint8 (4h, 4w, 3). An `Upscaler` whose generator can be told finds out what.
        low: uint8 (h, w, 3).
        chain: what the input suffered.
        file: JPEG that `low` was decoded from.
    """
    from pipeline.upscale.upscaler import Upscaler  # only here: who plans the work needs no torch

    if not isinstance(enlarge, Upscaler) or chain == CLEAN_CHAIN:
        return enlarge(low)
    if enlarge.blind:
        return enlarge(low, back_projection=0)
    return enlarge(low) if file is None else eight_bit_rgb(enlarge.encoded(file))
