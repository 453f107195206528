"""Comparison sheets: faces below one another, methods beside one another, whole and in crops at the pixel's own size.

Columns: input (enlarged by repeating pixels), bicubic, the networks, original. Per face a row of whole faces at 256
pixels with the PSNR of each, then crops of an eye, the mouth and the hair, where `crops` has them.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.core.degradation import described
from pipeline.core.images import Pixels, psnr, resize
from pipeline.core.scales import BASELINE
from pipeline.evaluate.cases import Case
from pipeline.report.crops import ALIGNED, CropCentres

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
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


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


def columns(case: Case, methods: Sequence[str], baseline: str = BASELINE) -> dict[str, Pixels | None]:
    """Caption → picture at the true one's size, None where a method failed."""
    shown = {method: case.results.get(method) for method in captions_of(methods, baseline)}
    if case.truth is not None and case.low is not None:
        shown["input"] = _nearest(case.low, case.truth.shape[0] // case.low.shape[0])
    return shown | {"original": case.truth}


def captions_of(methods: Sequence[str], baseline: str) -> list[str]:
    """Columns of a sheet, from left to right."""
    return ["input", *dict.fromkeys([*([baseline] if baseline else []), *methods]), "original"]


def draw(
    cases: Sequence[Case],
    methods: Sequence[str],
    baseline: str = BASELINE,
    crops: Callable[[Case], CropCentres] = lambda case: ALIGNED,
) -> Pixels:
    """Draw a sheet of `cases`, one below the other.

    Args:
        cases: all of one scale; none gives a sheet of captions.
        methods: networks shown between baseline and original, in this order.
        baseline: shown first; "" where there is none.
        crops: where a face's features are.

    Returns:
        uint8 (height, width, 3), RGB; width 64 + 264 per column.
    """
    captions = captions_of(methods, baseline)
    block = _CELL + _LINE + len(ALIGNED) * (_CROP_HEIGHT + _GAP) + _FACE_GAP
    size = (_MARGIN + len(captions) * (_CELL + _GAP), _HEAD + max(1, len(cases)) * block)
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(18), ImageFont.load_default(14)
    lefts = [_MARGIN + column * (_CELL + _GAP) for column in range(len(captions))]
    for left, caption in zip(lefts, captions, strict=True):
        pen.text((left + _CELL // 2, _HEAD // 2), caption, _INK, font=large, anchor="mm")
    for row, case in enumerate(cases):
        top = _HEAD + row * block
        crop_tops = [top + _CELL + _LINE + crop * (_CROP_HEIGHT + _GAP) for crop in range(len(ALIGNED))]
        side = case.truth.shape[1] if case.truth is not None else 4 * _CELL
        zoom = "1:1" if side >= 4 * _CELL else f"{4 * _CELL // side}x"
        _label(pen, top + _CELL // 2, ["whole", "256 px"], small)
        for crop_top, name in zip(crop_tops, ALIGNED, strict=True):
            _label(pen, crop_top + _CROP_HEIGHT // 2, [name, zoom], small)
        for left, (caption, pixels) in zip(lefts, columns(case, methods, baseline).items(), strict=True):
            middle = left + _CELL // 2
            if pixels is None or case.truth is None:
                pen.rectangle((left, top, left + _CELL - 1, crop_tops[-1] + _CROP_HEIGHT - 1), _MISSING)
                pen.text((middle, top + _CELL // 2), "no result", _FAINT, font=large, anchor="mm")
                continue
            # every column is reduced alike: repeated pixels average back to the input's own
            sheet.paste(Image.fromarray(resize(pixels, _CELL, _CELL)), (left, top))
            note = f"{psnr(case.truth, pixels):.2f} dB" if caption not in ("input", "original") else ""
            note = case.id[:8] if caption == "original" else described(case.chain) if caption == "input" else note
            pen.text((middle, top + _CELL + _LINE // 2), note, _FAINT, font=small, anchor="mm")
            for crop_top, centre in zip(crop_tops, crops(case).values(), strict=True):
                sheet.paste(Image.fromarray(_crop(pixels, centre)), (left, crop_top))
    return np.asarray(sheet)


def _label(pen: ImageDraw.ImageDraw, middle: int, lines: Sequence[str], font: _Font) -> None:
    """Lines of text at the left edge, centred on the height `middle`."""
    for number, line in enumerate(lines):
        height = middle + round((number - (len(lines) - 1) / 2) * 18)
        pen.text((8, height), line, _FAINT, font=font, anchor="lm")
