"""A contact sheet: thumbnails with their names and sizes, damaged pictures as marked tiles."""

import io
import textwrap
from pathlib import Path
from unicodedata import combining, normalize

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from pipeline.core.images import Pixels
from pipeline.inspect.survey import THUMB, Look

COLUMNS, TILES = 8, 48
_GAP, _LINE, _EDGE = 12, 15, 16
_PAPER, _INK, _FAINT, _BAD, _BAD_INK = (250, 250, 248), (34, 34, 34), (120, 120, 120), (250, 226, 222), (160, 30, 20)


_ORIGIN = "facesr inspect"
"""Stands in every sheet's file, so that a sheet is told from a picture that must not be replaced."""


def encode(pixels: Pixels, suffix: str) -> bytes:
    """A sheet as PNG or JPEG, marked as ours."""
    buffer = io.BytesIO()
    if suffix == ".png":
        text = PngInfo()
        text.add_text("Software", _ORIGIN)
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=9, pnginfo=text)
    else:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90, comment=_ORIGIN)
    return buffer.getvalue()


def is_sheet(path: Path) -> bool:
    """True if a file is a contact sheet of ours."""
    with Image.open(path) as image:
        return image.info.get("Software") == _ORIGIN or image.info.get("comment") == _ORIGIN.encode()


def choose(looks: list[Look], count: int = TILES) -> list[Look]:
    """An even choice of those looked at, by name; of damaged ones up to a sixth, so that some are seen."""
    bad = [look for look in looks if look.problem][: max(count // 6, 1)]
    good = sorted((look for look in looks if not look.problem), key=lambda look: look.name)
    room = min(count - len(bad), len(good))
    return [good[index * len(good) // room] for index in range(room)] + bad


def draw(looks: list[Look]) -> Pixels:
    """Draw a sheet of COLUMNS tiles a row.

    Returns:
        uint8 (height, width, 3), RGB.
    """
    rows = max(1, -(-len(looks) // COLUMNS))
    columns = min(COLUMNS, max(len(looks), 1))
    cell = THUMB + 2 * _LINE + _GAP
    width = 2 * _EDGE + columns * (THUMB + _GAP) - _GAP
    sheet = Image.new("RGB", (width, 2 * _EDGE + rows * cell - _GAP), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for index, look in enumerate(looks):
        left = _EDGE + index % COLUMNS * (THUMB + _GAP)
        top = _EDGE + index // COLUMNS * cell
        caption = f"{look.size[0]} x {look.size[1]}"
        if look.thumb is None:
            pen.rectangle((left, top, left + THUMB - 1, top + THUMB - 1), _BAD, _BAD_INK)
            text = "\n".join(textwrap.wrap(_plain(look.problem or ""), 21)[:7])
            pen.multiline_text((left + THUMB // 2, top + THUMB // 2), text, _BAD_INK, font, "mm", 3, "center")
            caption = "cannot be used"
        else:
            height, wide = look.thumb.shape[:2]
            sheet.paste(Image.fromarray(look.thumb), (left + (THUMB - wide) // 2, top + (THUMB - height) // 2))
        pen.text((left, top + THUMB + 2), _fitting(pen, _plain(look.name), font), _INK, font=font)
        pen.text((left, top + THUMB + 2 + _LINE), caption, _BAD_INK if look.problem else _FAINT, font=font)
    return np.asarray(sheet)


def _plain(text: str) -> str:
    """Without what the built-in font cannot draw: accents go, other letters become question marks."""
    bare = "".join(letter for letter in normalize("NFKD", text) if not combining(letter))
    return "".join(letter if " " <= letter <= "~" else "?" for letter in bare)


def _fitting(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The end of a name, which tells files apart, where it is too long."""
    if pen.textlength(text, font) <= THUMB:
        return text
    while pen.textlength(f"...{text}", font) > THUMB:
        text = text[1:]
    return f"...{text}"
