"""Tables and images of what was drawn: for `dvc plots`, and to look at."""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageFont

from pipeline.core.degradation import make_pair
from pipeline.core.files import csv_text, shard_files, write_bytes
from pipeline.core.images import Pixels, decode, encode_png, resize
from pipeline.core.scales import GROUND_TRUTH_SIDE, QUARTER_TURNS
from pipeline.core.shards import read_rows
from pipeline.pairs.statistics import STRENGTHS, PairsSummary, strengths
from pipeline.params.pairs import Pairs

_CELL: Final = 256
_GAP: Final = 8
_LINE: Final = 24
_MARGIN: Final = 88
_PAPER: Final = (255, 255, 255)
_INK: Final = (24, 28, 34)
_BINS: Final = 20

Cell = tuple[str, Pixels]
"""Caption and image."""


def write_report(folder: Path, summary: PairsSummary, manifest: pa.Table, inputs: Path, settings: Pairs) -> None:
    """Write `augmentations.csv`, `strengths-*.csv` and `degradations.png` into `folder`.

    Args:
        folder: for the report.
        summary: of the manifest.
        manifest: with the columns split, augmentation, strength.
        inputs: folder with `train/`, whose first face is shown.
        settings: their ranges of strength.
    """
    shares = [
        (f"{name}, {kind}", name, kind, share)
        for name, counted in summary["augmentations"].items()
        for kind, share in (("asked", counted["asked"]), ("drawn", counted["share"]))
    ]
    header = ("label", "augmentation", "kind", "share")
    write_bytes(folder / "augmentations.csv", csv_text(header, shares).encode())
    train = manifest.filter(pc.equal(manifest["split"], "train"))
    for name, span in settings.degradation().ranges.items():
        bins = _histogram(strengths(train, name), span, whole=name == "jpeg")
        write_bytes(folder / f"strengths-{name}.csv", csv_text(("strength", "pairs"), bins).encode())
    shard = next(iter(shard_files(inputs / "train")), None)
    row = next(read_rows(shard, ["image"]), None) if shard else None
    if row is not None:
        sheet = degradations(decode(row["image"]["bytes"]), settings)
        write_bytes(folder / "degradations.png", encode_png(sheet, level=6))


def _histogram(values: np.ndarray, span: tuple[float, float], whole: bool) -> list[tuple[float, int]]:
    """Middle and count of equal bins over `span`; `whole` numbers have bins of whole numbers."""
    low, high = span
    if whole:
        step = -(-int(high - low + 1) // 30)
        edges = np.arange(low, high + step + 1, step) - 0.5
    else:
        edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    counts, edges = np.histogram(values, edges)
    return list(zip(((edges[:-1] + edges[1:]) / 2).tolist(), counts.tolist(), strict=True))


def degradations(image: Pixels, settings: Pairs) -> Pixels:
    """Draw one input under every augmentation: ground truth, then the low side at rising strength, as large as it.

    Args:
        image: uint8 (s, s, 3), s from 64 up.
        settings: their ranges of strength.

    Returns:
        uint8 (h, w, 3), RGB.
    """
    scale = [scale for scale, side in GROUND_TRUTH_SIDE.items() if side <= min(image.shape[:2])][-1]

    def pair(augmentation: str, strength: float = 0.0) -> tuple[Pixels, Pixels]:
        return make_pair(image, {"scale": scale, "augmentation": augmentation, "strength": strength, "seed": 1})

    truth, clean = pair("none")
    lines: dict[str, list[Cell]] = {}
    for name, (low, high) in settings.degradation().ranges.items():
        weak, strong = (high, low) if name == "jpeg" else (low, high)
        lines[name] = [("ground truth", truth), ("reduced 4x", clean)]
        for strength in (weak, (weak + strong) / 2, strong):
            strength = round(strength, 0 if name == "jpeg" else 3)
            lines[name].append((f"{STRENGTHS[name].split(',')[0]} {strength:g}", pair(name, strength)[1]))
    lines["turned"] = []
    for name in QUARTER_TURNS:
        turned_truth, turned_low = pair(name)
        lines["turned"] += [(f"{name}: truth", turned_truth), ("reduced 4x", turned_low)]
    return _sheet(lines)


def _sheet(lines: dict[str, list[Cell]]) -> Pixels:
    """Draw lines of cells, each with its label."""
    columns = max(map(len, lines.values()))
    size = (_MARGIN + columns * (_CELL + _GAP), len(lines) * (_CELL + _LINE + _GAP) + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for line, (label, cells) in enumerate(lines.items()):
        top = _GAP + line * (_CELL + _LINE + _GAP)
        pen.text((_MARGIN // 2, top + _CELL // 2), label, _INK, font=font, anchor="mm")
        for column, (caption, pixels) in enumerate(cells):
            left = _MARGIN + column * (_CELL + _GAP)
            sheet.paste(Image.fromarray(_enlarged(pixels)), (left, top))
            pen.text((left + _CELL // 2, top + _CELL + _LINE // 2), caption, _INK, font=font, anchor="mm")
    return np.asarray(sheet)


def _enlarged(pixels: Pixels) -> Pixels:
    """Pixels repeated up to the side of a cell."""
    factor = _CELL // pixels.shape[0]
    return resize(np.ascontiguousarray(np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1)), _CELL, _CELL)
