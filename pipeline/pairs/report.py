"""Tables and images of what was drawn: for `dvc plots`, and to look at."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageFont

from pipeline.core.chain import CHAIN_COLUMNS, Chain
from pipeline.core.degradation import described, make_pair
from pipeline.core.files import csv_text, shard_files, write_bytes
from pipeline.core.images import Pixels, decode, encode_png, resize
from pipeline.core.scales import GROUND_TRUTH_SIDE, QUARTER_TURNS, SCALE_OF_USE
from pipeline.core.shards import read_rows
from pipeline.pairs.statistics import LINKS, STRENGTHS, PairsSummary, link_strengths, strengths
from pipeline.params.pairs import Pairs

_CELL: Final = 256
_GAP: Final = 8
_LINE: Final = 24
_MARGIN: Final = 88
_PAPER: Final = (255, 255, 255)
_INK: Final = (24, 28, 34)
_BINS: Final = 20
_CHAINS: Final = 12
"""Chains that are shown."""
_ACROSS: Final = 6

Cell = tuple[str, Pixels]
"""Caption and image."""


def write_report(folder: Path, summary: PairsSummary, manifest: pa.Table, inputs: Path, settings: Pairs) -> None:
    """Write `augmentations.csv`, `strengths-*.csv`, `links.csv` and `degradations.png` into `folder`.

    Where there are chains, `links-*.csv` besides: how strong their links are.

    Args:
        folder: for the report.
        summary: of the manifest.
        manifest: with the columns split, scale, augmentation, strength, seed and those of chains.
        inputs: folder with `train/`, whose first face is shown.
        settings: their ranges of strength.
    """
    _write_shares(folder / "augmentations.csv", "augmentation", summary["augmentations"])
    nothing = {name: {"asked": 0.0, "share": 0.0} for name in CHAIN_COLUMNS}
    _write_shares(folder / "links.csv", "link", summary["chains"]["links"] if "chains" in summary else nothing)
    train = manifest.filter(pc.equal(manifest["split"], "train"))
    for name, span in settings.degradation().ranges.items():
        bins = _histogram(strengths(train, name), span, whole=name == "jpeg")
        write_bytes(folder / f"strengths-{name}.csv", csv_text(("strength", "pairs"), bins).encode())
    for name in LINKS if settings.chain is not None else ():
        values = link_strengths(train, name)
        span = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
        whole = pa.types.is_integer(train[name].type)
        bins = _histogram(values, getattr(settings.chain, name, span), whole)
        write_bytes(folder / f"links-{name}.csv", csv_text(("strength", "pairs"), bins).encode())
    shard = next(iter(shard_files(inputs / "train")), None)
    row = next(read_rows(shard, ["image"]), None) if shard else None
    if row is not None:
        sheet = degradations(decode(row["image"]["bytes"]), settings, _drawn_chains(train))
        write_bytes(folder / "degradations.png", encode_png(sheet, level=6))


def _write_shares(path: Path, kind: str, counted: Mapping[str, Mapping[str, float]]) -> None:
    """Write two lines of each: the share of the training pairs that was asked for, and that was drawn."""
    shares = [
        (f"{name}, {which}", name, which, share)
        for name, counts in counted.items()
        for which, share in (("asked", counts["asked"]), ("drawn", counts["share"]))
    ]
    write_bytes(path, csv_text(("label", kind, "kind", "share"), shares).encode())


def _drawn_chains(train: pa.Table) -> list[Mapping[str, Any]]:
    """The first rows that have a chain, half of them at the scale of use where there are any."""
    some = np.zeros(train.num_rows, bool)
    for name in CHAIN_COLUMNS:
        some |= train[name].is_valid().to_numpy()
    use = pc.equal(train["scale"], SCALE_OF_USE).to_numpy(zero_copy_only=False).astype(bool)
    of_use, others = np.flatnonzero(some & use), np.flatnonzero(some & ~use)
    few = min(len(of_use), _CHAINS // 2)
    rows: list[Mapping[str, Any]] = train.take(np.concatenate([others[: _CHAINS - few], of_use[:few]])).to_pylist()
    return rows


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


def degradations(image: Pixels, settings: Pairs, chains: Sequence[Mapping[str, Any]] = ()) -> Pixels:
    """Draw one input under every augmentation: ground truth, then the low side at rising strength, as large as it.

    Args:
        image: uint8 (s, s, 3), s from 64 up.
        settings: their ranges of strength.
        chains: rows of the manifest whose chains are shown on this input.

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
    cells: list[Cell] = []
    for row in chains:
        own = row["scale"] if row["scale"] == SCALE_OF_USE else scale
        chain = Chain.of_row(row)
        caption = ("as is, " if own == SCALE_OF_USE else "") + described(chain)
        cells.append((caption, make_pair(image, {**row, "scale": own, "augmentation": "none", "strength": 0.0})[1]))
    for start in range(0, len(cells), _ACROSS):
        lines[f"chains {start + 1}"] = cells[start : start + _ACROSS]
    return _sheet(lines)


def _sheet(lines: dict[str, list[Cell]]) -> Pixels:
    """Draw lines of cells, each with its label."""
    columns = max(map(len, lines.values()))
    size = (_MARGIN + columns * (_CELL + _GAP), len(lines) * (_CELL + _LINE + _GAP) + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    pen, fonts = ImageDraw.Draw(sheet), (ImageFont.load_default(14), ImageFont.load_default(11))
    for line, (label, cells) in enumerate(lines.items()):
        top = _GAP + line * (_CELL + _LINE + _GAP)
        pen.text((_MARGIN // 2, top + _CELL // 2), label, _INK, font=fonts[0], anchor="mm")
        for column, (caption, pixels) in enumerate(cells):
            left = _MARGIN + column * (_CELL + _GAP)
            sheet.paste(Image.fromarray(_enlarged(pixels)), (left, top))
            # what a chain does takes two lines
            middle = left + _CELL // 2, top + _CELL + _LINE // 2
            text, font = fill(caption, 46), fonts[len(caption) > 36]
            pen.text(middle, text, _INK, font=font, anchor="mm", align="center", spacing=0)
    return np.asarray(sheet)


def _enlarged(pixels: Pixels) -> Pixels:
    """Pixels repeated up to the side of a cell."""
    factor = _CELL // pixels.shape[0]
    return resize(np.ascontiguousarray(np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1)), _CELL, _CELL)
