"""Tables and pictures of what was drawn: for `dvc plots`, and to look at."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from PIL import Image, ImageDraw, ImageFont

from pipeline.core.degradation import make_pair
from pipeline.core.files import atomic, shard_files, write_bytes
from pipeline.core.images import Pixels, decode, encode_png, resize
from pipeline.core.scales import GROUND_TRUTH_SIDE
from pipeline.core.shards import read_rows
from pipeline.pairs.statistics import STRENGTHS, strengths
from pipeline.params.pairs import Pairs

_CELL: Final = 256
_GAP: Final = 8
_LINE: Final = 24
_MARGIN: Final = 88
_PAPER: Final = (255, 255, 255)
_INK: Final = (24, 28, 34)
_DRAWN: Final = (40, 98, 168)
_ASKED: Final = (178, 186, 197)
_BINS: Final = 20
_Histogram = tuple[list[float], list[int]]


def write_report(folder: Path, summary: dict[str, Any], manifest: pa.Table, inputs: Path, settings: Pairs) -> None:
    """Write `augmentations.csv`, `strengths-*.csv`, `statistics.png` and `degradations.png` into `folder`.

    Args:
        folder: for the report.
        summary: of `pair_statistics.summarise`.
        manifest: with the columns split, augmentation, strength.
        inputs: folder with `train/`, whose first face is shown.
        settings: their ranges of strength.
    """
    shares = summary["augmentations"]
    rows = [
        {"label": f"{name}, {kind}", "augmentation": name, "kind": kind, "share": values[key]}
        for name, values in shares.items()
        for kind, key in (("asked", "asked"), ("drawn", "share"))
    ]
    _write_csv(folder / "augmentations.csv", rows)
    train = manifest.filter(pc.equal(manifest["split"], "train"))
    histograms: dict[str, _Histogram] = {}
    for name in STRENGTHS:
        histograms[name] = _histogram(strengths(train, name), getattr(settings, name), whole=name == "jpeg")
        bins = [{"strength": middle, "pairs": count} for middle, count in zip(*histograms[name], strict=True)]
        _write_csv(folder / f"strengths-{name}.csv", bins)
    write_bytes(folder / "statistics.png", encode_png(_statistics(shares, histograms, train.num_rows), level=6))
    shard = next((shard for shard in shard_files(inputs / "train")), None)
    row = next(read_rows(shard, ["image"]), None) if shard else None
    if row is not None:
        drawn = degradations(decode(row["image"]["bytes"]), settings)
        write_bytes(folder / "degradations.png", encode_png(drawn, level=6))


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic(path) as temporary:
        pyarrow.csv.write_csv(pa.Table.from_pylist(rows), temporary)


def _histogram(values: np.ndarray, span: tuple[float, float], whole: bool) -> _Histogram:
    """Middles of equal bins over `span`, and counts; `whole` numbers have bins of whole numbers."""
    low, high = span
    if whole:
        step = -(-int(high - low + 1) // 30)
        edges = np.arange(low, high + step + 1, step) - 0.5
    else:
        edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    counts, edges = np.histogram(values, edges)
    return [round(float(middle), 4) for middle in (edges[:-1] + edges[1:]) / 2], counts.tolist()


def _statistics(shares: dict[str, Any], histograms: dict[str, _Histogram], pairs: int) -> Pixels:
    """Bars of asked and drawn shares above histograms of the strengths; uint8 (h, w, 3)."""
    bar, wide, tall = 14, 300, 150
    top = 56
    below = top + len(shares) * (2 * bar + 10) + 40
    sheet = Image.new("RGB", (40 + len(histograms) * (wide + 40), below + tall + 70), _PAPER)
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(18), ImageFont.load_default(13)
    pen.text((40, 22), f"{pairs} training pairs: share of each augmentation", _INK, font=large, anchor="lm")
    for place, (kind, colour) in enumerate((("asked", _ASKED), ("drawn", _DRAWN))):
        left = sheet.width - 220 + place * 90
        pen.rectangle((left, 16, left + 12, 28), colour)
        pen.text((left + 18, 22), kind, _INK, font=small, anchor="lm")
    most = max(max(values["share"], values["asked"]) for values in shares.values()) or 1.0
    for place, (name, values) in enumerate(shares.items()):
        y = top + place * (2 * bar + 10)
        pen.text((110, y + bar), name, _INK, font=small, anchor="rm")
        for row, (key, colour) in enumerate((("asked", _ASKED), ("share", _DRAWN))):
            length = round((sheet.width - 260) * values[key] / most)
            pen.rectangle((120, y + row * bar, 120 + length, y + (row + 1) * bar - 2), colour)
            text = f"{100 * values[key]:.2f} %" + (f" ({values['pairs']})" if key == "share" else "")
            pen.text((126 + length, y + row * bar + bar // 2), text, _INK, font=small, anchor="lm")
    for place, (name, (middles, counts)) in enumerate(histograms.items()):
        left, base = 40 + place * (wide + 40), below + 24 + tall
        pen.text((left, below + 6), f"{name}: {STRENGTHS[name]}", _INK, font=small, anchor="lm")
        step = wide / len(counts)
        for number, count in enumerate(counts):
            height = round(tall * 0.94 * count / max(1, *counts))
            x = left + round(number * step)
            pen.rectangle((x, base - height, x + max(1, round(step) - 2), base), _DRAWN)
        for x, middle, anchor in ((left, middles[0], "lm"), (left + wide, middles[-1], "rm")):
            pen.text((x, base + 14), f"{middle:g}", _INK, font=small, anchor=anchor)
        pen.text((left + wide, below + 6), f"most {max(counts)} a bin", _INK, font=small, anchor="rm")
    return np.asarray(sheet)


def degradations(image: Pixels, settings: Pairs) -> Pixels:
    """One input under every augmentation: ground truth, then the low side at rising strength, as large as it.

    Args:
        image: uint8 (s, s, 3), s from 64 up.
        settings: their ranges of strength.

    Returns:
        uint8 (h, w, 3), RGB.
    """
    fitting = [scale for scale, side in GROUND_TRUTH_SIDE.items() if side <= min(image.shape[:2])]
    scale = max(fitting, key=lambda scale: GROUND_TRUTH_SIDE[scale])
    lines: list[tuple[str, list[tuple[str, Pixels]]]] = []
    for name in STRENGTHS:
        low, high = getattr(settings, name)
        weak, strong = (high, low) if name == "jpeg" else (low, high)
        truth, clean = make_pair(image, _row(scale, "none", 0.0))
        cells = [("ground truth", truth), ("reduced 4x", clean)]
        for strength in (weak, (weak + strong) / 2, strong):
            strength = round(strength) if name == "jpeg" else round(strength, 3)
            cells.append(
                (f"{STRENGTHS[name].split(',')[0]} {strength:g}", make_pair(image, _row(scale, name, strength))[1])
            )
        lines.append((name, cells))
    turned = []
    for name in ("rot90", "rot180", "rot270"):
        truth, low = make_pair(image, _row(scale, name, 0.0))
        turned += [(f"{name}: truth", truth), ("reduced 4x", low)]
    lines.append(("turned", turned))
    columns = max(len(cells) for _, cells in lines)
    size = (_MARGIN + columns * (_CELL + _GAP), len(lines) * (_CELL + _LINE + _GAP) + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for line, (name, cells) in enumerate(lines):
        top = _GAP + line * (_CELL + _LINE + _GAP)
        pen.text((_MARGIN // 2, top + _CELL // 2), name, _INK, font=font, anchor="mm")
        for column, (caption, pixels) in enumerate(cells):
            left = _MARGIN + column * (_CELL + _GAP)
            sheet.paste(Image.fromarray(_enlarged(pixels)), (left, top))
            pen.text((left + _CELL // 2, top + _CELL + _LINE // 2), caption, _INK, font=font, anchor="mm")
    return np.asarray(sheet)


def _row(scale: str, augmentation: str, strength: float) -> dict[str, Any]:
    return {"scale": scale, "augmentation": augmentation, "strength": strength, "seed": 1}


def _enlarged(pixels: Pixels) -> Pixels:
    """Pixels repeated up to the side of a cell."""
    factor = _CELL // pixels.shape[0]
    return resize(np.ascontiguousarray(np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1)), _CELL, _CELL)
