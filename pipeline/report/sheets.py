"""Comparison sheets: faces below one another, methods beside one another, whole and in crops at the pixel's own size.

Columns: input (enlarged by repeating pixels), bicubic, the networks, original. Per face a row of whole faces at 256
pixels with the PSNR of each, then crops of an eye, the mouth and the hair, where `spots` has them.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.core.images import Pixels, psnr, resize
from pipeline.core.scales import BASELINE
from pipeline.evaluate.cases import Case
from pipeline.report.crops import ALIGNED, Spots

_CELL: Final = 256
_CROP_HEIGHT: Final = 128
_GAP: Final = 8
_MARGIN: Final = 64
_HEAD: Final = 44
_LINE: Final = 24
_FACE_GAP: Final = 28
_PAPER: Final = (255, 255, 255)
_INK: Final = (24, 28, 34)
_FAINT: Final = (92, 99, 110)
_MISSING: Final = (226, 229, 233)


def _nearest(pixels: Pixels, factor: int) -> Pixels:
    return np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1)


def _crop(pixels: Pixels, centre: tuple[float, float]) -> Pixels:
    """A quarter of the width and an eighth of the height around `centre`, kept inside: 1:1 of a 1024 picture.

    Smaller pictures have the same part of the face enlarged by repeating pixels.
    """
    height, width = pixels.shape[0] // 8, pixels.shape[1] // 4
    left = min(max(round(centre[0] * pixels.shape[1]) - width // 2, 0), pixels.shape[1] - width)
    top = min(max(round(centre[1] * pixels.shape[0]) - height // 2, 0), pixels.shape[0] - height)
    part = pixels[top : top + height, left : left + width]
    return _nearest(part, max(1, _CELL // width))[:_CROP_HEIGHT, :_CELL]


def stem(split: str, scale: str) -> str:
    """Name of a split's and scale's files."""
    return "-".join(filter(None, (split, scale)))


def columns(case: Case, methods: list[str], baseline: str = BASELINE) -> dict[str, Pixels | None]:
    """Caption → picture at the true one's size, None where a method failed."""
    captions = captions_of(methods, baseline)
    if case.truth is None:
        return dict.fromkeys(captions)
    low = case.low
    shown = {"input": None if low is None else _nearest(low, case.truth.shape[0] // low.shape[0])}
    shown |= {method: case.results.get(method) for method in captions[1:-1]}
    return shown | {"original": case.truth}


def captions_of(methods: list[str], baseline: str) -> list[str]:
    """Columns of a sheet, from left to right."""
    return ["input", *dict.fromkeys([*([baseline] if baseline else []), *methods]), "original"]


def draw(
    cases: list[Case],
    methods: list[str],
    baseline: str = BASELINE,
    spots: Callable[[Case], Spots] = lambda case: ALIGNED,
) -> Pixels:
    """Draw a sheet of `cases`, one below the other.

    Args:
        cases: all of one scale; none gives a sheet of captions.
        methods: networks shown between baseline and original, in this order.
        baseline: shown first; "" where there is none.
        spots: where a face's features are.

    Returns:
        uint8 (height, width, 3), RGB; width 64 + 264 per column.
    """
    captions = captions_of(methods, baseline)
    block = _CELL + _LINE + len(ALIGNED) * (_CROP_HEIGHT + _GAP) + _FACE_GAP
    size = (_MARGIN + len(captions) * (_CELL + _GAP), _HEAD + max(1, len(cases)) * block)
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(18), ImageFont.load_default(14)
    for place, caption in enumerate(captions):
        middle = _MARGIN + place * (_CELL + _GAP) + _CELL // 2
        pen.text((middle, _HEAD // 2), caption, _INK, font=large, anchor="mm")
    for number, case in enumerate(cases):
        top = _HEAD + number * block
        below = top + _CELL + _LINE
        side = case.truth.shape[1] if case.truth is not None else 4 * _CELL
        zoom = "1:1" if side >= 4 * _CELL else f"{4 * _CELL // side}x"
        _label(pen, top + _CELL // 2, ["whole", "256 px"], small)
        for step, crop in enumerate(ALIGNED):
            middle = below + step * (_CROP_HEIGHT + _GAP) + _CROP_HEIGHT // 2
            _label(pen, middle, [crop, zoom], small)
        for place, (caption, pixels) in enumerate(columns(case, methods, baseline).items()):
            left = _MARGIN + place * (_CELL + _GAP)
            centre = left + _CELL // 2
            if pixels is None or case.truth is None:
                pen.rectangle((left, top, left + _CELL - 1, below + 3 * (_CROP_HEIGHT + _GAP) - _GAP - 1), _MISSING)
                pen.text((centre, top + _CELL // 2), "no result", _FAINT, font=large, anchor="mm")
                continue
            # every column is reduced alike: repeated pixels average back to the input's own
            sheet.paste(Image.fromarray(resize(pixels, _CELL, _CELL)), (left, top))
            note = f"{psnr(case.truth, pixels):.2f} dB" if caption not in ("input", "original") else ""
            note = case.id[:8] if caption == "original" else note
            pen.text((centre, top + _CELL + _LINE // 2), note, _FAINT, font=small, anchor="mm")
            for step, spot in enumerate(spots(case).values()):
                crop_top = below + step * (_CROP_HEIGHT + _GAP)
                sheet.paste(Image.fromarray(_crop(pixels, spot)), (left, crop_top))
    return np.asarray(sheet)


_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _label(pen: ImageDraw.ImageDraw, middle: int, lines: list[str], font: _Font) -> None:
    """Lines of text at the left edge, centred on the height `middle`."""
    for number, line in enumerate(lines):
        height = middle + round((number - (len(lines) - 1) / 2) * 18)
        pen.text((8, height), line, _FAINT, font=font, anchor="lm")
