"""A user's archive as training material: square faces of 256, 128 or 64 pixels, a part of them held back.

What comes out are the tables that the pipeline's own training reads (FACES shards and a PAIRS manifest), so that
`PairData` takes them as they are. Plain numpy, Pillow and Arrow.
"""

import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from pipeline.adapt.damage import Damage, chain_of, count, is_damaged, with_damage
from pipeline.core.chain import Chain
from pipeline.core.degradation import Degradations
from pipeline.core.errors import FacesrError, first_line
from pipeline.core.files import content_hash, write_json
from pipeline.core.images import ImageError, Pixels, decode, pixel_hash, resize
from pipeline.core.scales import CHANCES, GROUND_TRUTH_SIDE, SCALE_OF_USE
from pipeline.core.schema import FACES, PAIRS, Row
from pipeline.core.shards import ShardWriter, read_folder, write_batches, write_shards
from pipeline.pairs.manifest import draw_manifest
from pipeline.train.engine.batches import PairData
from pipeline.upscale.estimate import find_degradation

if TYPE_CHECKING:  # the package draws portraits too, with OpenCV, which a bare GPU machine lacks
    from pipeline.sources.base import Entry, Source

LEAST = 50
"""Fewer faces teach nothing, and too few of them could be held back to notice."""
MOST = 4000
"""More would fill the memory: a decoded face takes 0.2 MB."""
SIDES = tuple(sorted(GROUND_TRUTH_SIDE.values(), reverse=True))
_SCALE = {side: scale for scale, side in GROUND_TRUTH_SIDE.items()}
_SHARD_BYTES = 64 << 20

_DRAWS = 4
SCALE_CHANCES: Final = {"16to64": 0.1, "32to128": 0.3, "64to256": 0.6}
OF_USE_CHANCE: Final = 0.5
"""Of the scale of use, beside those, where an archive is damaged: there its compression has blocks as at use."""


class FacesError(FacesrError):
    """An archive that nothing can be learned from; the message says why.

    Attributes:
        unusable: name and reason of each picture that was left out.
    """

    def __init__(self, message: str, unusable: Sequence[Sequence[str]]):
        super().__init__(message)
        self.unusable = unusable


@dataclass(frozen=True)
class Faces:
    """What was taken from an archive; the pictures lie in `folder`."""

    folder: str
    listed: int
    """Pictures that the archive names."""
    left_out: int
    """Of these, not even looked at, because `MOST` faces are enough."""
    duplicates: int
    unusable: list[list[str]]
    """Name and reason of each picture that could not be used."""
    train: dict[str, int]
    """Faces to learn from, by the largest scale whose ground truth they hold."""
    held_back: dict[str, int]
    """Faces to measure on, by the scale that they are measured at."""
    damage: Damage
    """What the pictures have suffered, which the faces to learn from and to measure on are given."""
    sha256: str
    """Hash of all faces and of which are held back."""

    def data(self, split: str) -> PairData:
        """Pairs of `train` (several scales and augmentations) or `valid` (the held-back faces), both with the archive's
        damage.
        """
        return PairData(Path(self.folder) / split, Path(self.folder) / "pairs.parquet", split)

    @property
    def scale_chances(self) -> dict[str, float]:
        """How often a step of training takes each scale."""
        damaged = set(self.damage) - {"clean"}
        return SCALE_CHANCES | ({SCALE_OF_USE: OF_USE_CHANCE} if damaged else {})


def gather(
    source: "Source",
    entries: "Sequence[Entry]",
    folder: Path,
    seed: int,
    hold_back: int | None = None,
    advance: Callable[[int], None] = lambda count: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Faces | None:
    """Write `train/` and `valid/` shards and `pairs.parquet` into `folder`; what is complete there is taken as it is.

    Each picture is cropped to its central square and reduced to the largest of `SIDES` that fits, a damaged one to half
    its side or less, which is clean. A picture that cannot be used is noted and passed over. Which faces are held back
    follows from (seed, pixels) alone, not from names or order. One picture at a time is in memory.

    Args:
        source: the opened archive.
        entries: what it lists.
        folder: for this archive and these options only.
        seed: of all draws.
        hold_back: faces that are never trained on; None: 15 %, from 8 to 48.
        advance: called with 1 for every image that was looked at.
        should_stop: asked before every image.

    Returns:
        What was taken; None if it was stopped, and then nothing is kept.

    Raises:
        FacesError: fewer than `LEAST` usable faces, or more than half of them would be held back.
    """
    record = folder / "faces.json"
    if record.is_file():
        return Faces(**json.loads(record.read_text()) | {"folder": str(folder)})
    shutil.rmtree(folder, ignore_errors=True)
    sides: dict[str, int] = {}
    chains: dict[str, Chain] = {}
    unusable: list[list[str]] = []
    looked_at = duplicates = 0
    order = sorted(range(len(entries)), key=lambda index: _rank(seed, f"{index}"))
    with ShardWriter(folder / "all", lambda index: f"{index:05d}.parquet", FACES, _SHARD_BYTES) as shards:
        while looked_at < len(entries) and len(sides) < MOST:
            # in the archive's order, because neighbours in a Parquet file are read together
            drawn = sorted(order[looked_at : looked_at + MOST - len(sides)])
            looked_at += len(drawn)
            for entry in (entries[index] for index in drawn):
                if should_stop():
                    return None
                advance(1)
                try:
                    pixels, chain = _read(source, entry)
                except FacesrError as error:
                    unusable.append([entry.name, first_line(error)])
                    continue
                identity = pixel_hash(pixels)
                duplicates += identity in sides
                if identity not in sides:
                    sides[identity], chains[identity] = pixels.shape[0], chain
                    shards.add(_row(identity, entry.name, pixels))
    most = _held_back_count(len(sides), hold_back, unusable)
    held_back = set(sorted(sides, key=lambda identity: _rank(seed, identity))[:most])
    splits = {identity: "valid" if identity in held_back else "train" for identity in sides}
    for split in ("train", "valid"):
        rows = (row | {"split": split} for row in read_folder(folder / "all") if splits[row["id"]] == split)
        write_shards(folder / split, lambda index: f"{index:05d}.parquet", rows, FACES, _SHARD_BYTES)
    # sorted, so that the same faces under other names or in another order give the same training
    material = ((identity, split, sides[identity]) for identity, split in sorted(splits.items()))
    # as the released generators were trained: what they withstood, they still do
    degradations = Degradations(seed, CHANCES, noise=(1.0, 6.0), blur=(0.2, 0.6), jpeg=(75, 95))
    manifest = draw_manifest(material, _DRAWS, degradations, of_use=_DRAWS)
    suffered = [chains[identity] for identity in sorted(chains)]
    write_batches(folder / "pairs.parquet", with_damage(manifest, suffered, seed), PAIRS)
    shutil.rmtree(folder / "all")
    faces = Faces(
        folder=str(folder),
        listed=len(entries),
        left_out=len(entries) - looked_at,
        duplicates=duplicates,
        unusable=unusable,
        train=_by_scale(side for identity, side in sides.items() if identity not in held_back),
        held_back=_by_scale(side for identity, side in sides.items() if identity in held_back),
        damage=count(suffered),
        sha256=content_hash(sorted(splits.items())),
    )
    write_json(record, asdict(faces))  # last: it says that all the rest is there
    return faces


def square(pixels: Pixels, damaged: bool = False) -> Pixels:
    """The central square, reduced to the largest of `SIDES` that fits: uint8 (h, w, 3) -> uint8 (s, s, 3).

    A damaged picture is reduced to half its side or less, which takes the damage away; one of under 128 pixels is taken
    as it is.

    Raises:
        ImageError: the short side has fewer than 64 pixels.
    """
    height, width = pixels.shape[:2]
    short = min(height, width)
    if short < SIDES[-1]:
        raise ImageError(f"too small: {width}x{height}, the short side needs {SIDES[-1]} pixels")
    clean = max(SIDES[-1], short // 2) if damaged else short
    side = next(side for side in SIDES if side <= clean)
    top, left = (height - short) // 2, (width - short) // 2
    return resize(np.ascontiguousarray(pixels[top : top + short, left : left + short]), side, side)


def _read(source: "Source", entry: "Entry") -> tuple[Pixels, Chain]:
    """A face to learn from, and what the picture has suffered."""
    if entry.problem:
        raise ImageError(entry.problem)
    data = source.read(entry.key)
    pixels = decode(data)
    chain = chain_of(find_degradation(pixels, data))
    return square(pixels, is_damaged(chain)), chain


def _rank(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()


def _row(identity: str, name: str, pixels: Pixels) -> Row:
    buffer = io.BytesIO()
    # Pillow's own encoder: OpenCV's is faster, but a bare GPU machine lacks it
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    image = {"bytes": buffer.getvalue(), "path": f"{identity}.png"}
    side = pixels.shape[0]
    return {"id": identity, "image": image, "name": name, "source": "", "split": "", "width": side, "height": side}


def _held_back_count(usable: int, hold_back: int | None, unusable: list[list[str]]) -> int:
    if usable < LEAST:
        raise FacesError(f"{usable} usable faces; at least {LEAST} are needed", unusable)
    count = min(48, max(8, round(0.15 * usable))) if hold_back is None else hold_back
    if 2 * count > usable:
        raise FacesError(f"{count} of {usable} faces held back: more than half leaves too few to learn from", unusable)
    return count


def _by_scale(sides: Iterator[int]) -> dict[str, int]:
    counts = Counter(_SCALE[side] for side in sides)
    return {scale: counts[scale] for scale in _SCALE.values() if counts[scale]}
