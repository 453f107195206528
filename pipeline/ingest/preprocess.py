"""Decode, convert to 8-bit sRGB, crop and resize one file; reject with a reason.

The file's own bytes are kept wherever any decoder would see the very pixels that are seen here; else the pixels are
stored as PNG, and what was done to them is recorded.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.codecs.exif import orientation_of
from pipeline.codecs.metadata import fitting_profile
from pipeline.codecs.reader import END_MARK, read_picture, upright
from pipeline.codecs.strict_jpeg import FORMATS, SPACES, strict_jpeg
from pipeline.core.images import (
    ImageError,
    Pixels,
    Planes,
    decoder_errors,
    eight_bit_rgb,
    encode_png,
    on_white,
    open_image,
    resize,
)
from pipeline.core.jpeg import with_end_mark
from pipeline.ingest.color_profile import to_srgb

if TYPE_CHECKING:
    from pipeline.ingest.align import Aligned
    from pipeline.params.ingest import Ingest


Aligner = Callable[[Pixels], Sequence["Aligned"]]
"""Finds faces in a picture."""


@dataclass(frozen=True)
class Face:
    """A face that may be used."""

    pixels: Pixels
    data: bytes
    """Encoded: the file's own bytes, or a PNG of `pixels`."""
    conversion: str
    """What was done to the file's pixels, comma separated; empty where `data` are the file's own bytes."""
    transform: str | None
    """JSON, 2x3, from the upright picture to the face; None where it was not aligned."""


def accept(data: bytes, rules: "Ingest", aligner: Aligner | None = None) -> list[Face]:
    """The faces that a file holds: itself, or what an aligner finds in it.

    Args:
        data: a complete encoded file.
        rules: ingest params, of which `max_pixels`, `not_square`, `larger`, `min_size` and `size` count.
        aligner: finds faces and sets them straight; None takes the picture for one face.

    Raises:
        ImageError: not a picture, damaged, or not as the rules want it; the text before the first " (" is the same for
            all files with that problem.
    """
    pixels, done = read_rgb(data, rules.max_pixels)
    if aligner is None:
        shaped, shape = _shaped(pixels, rules)
        done += shape
        return [Face(shaped, encode_png(shaped) if done else data, ", ".join(done), None)]
    faces = []
    for found in aligner(pixels):
        shaped, shape = _shaped(found.pixels, rules)
        matrix = json.dumps(np.round(found.transform, 6).tolist())
        faces.append(Face(shaped, encode_png(shaped), ", ".join([*done, "aligned", *shape]), matrix))
    return faces


def read_rgb(data: bytes, max_pixels: int) -> tuple[Pixels, list[str]]:
    """Decode to 8-bit sRGB, upright, and say what had to be converted.

    EXIF orientation is applied; grey is repeated; palettes are looked up; CMYK goes by its profile, else by the plain
    formula; 16 bits are rounded to 8; an embedded profile is converted to sRGB; then alpha is laid on white. Of
    several frames the first is taken.

    Args:
        data: a complete encoded file.
        max_pixels: bound on width x height, checked before any pixel is decoded.

    Returns:
        uint8 (h, w, 3); conversions in words, none where a plain decoder would see the same pixels.

    Raises:
        ImageError: not a picture, truncated, damaged (also where decoders would go on with wrong pixels) or too large.
    """
    with decoder_errors():
        image = open_image(data, None)
        if image.width * image.height > max_pixels:
            raise ImageError(f"more pixels than allowed ({image.width}x{image.height}, at most {max_pixels})")
        jpeg = image.format in FORMATS
        repaired = None
        if jpeg and image.mode in SPACES:
            try:
                pixels = strict_jpeg(data, image.mode)
            except ImageError:
                ended = with_end_mark(data)
                if ended is None:
                    raise
                pixels, repaired = strict_jpeg(ended, image.mode), END_MARK
        if jpeg and image.mode == "RGB":
            orientation, mode = orientation_of(image), image.mode
            profile = fitting_profile(image.info.get("icc_profile"), 3)
            planes: Planes = upright(pixels, orientation)
        else:
            picture = read_picture(data, max_pixels)
            planes, profile = picture.pixels, picture.metadata.icc
            orientation, mode = picture.orientation, picture.mode
            if picture.damage:
                raise ImageError(picture.damage)
            repaired = picture.repaired
        done = [repaired] if repaired else []
        done += ["EXIF orientation applied"] if orientation != 1 else []
        rgb, converted = _flat_rgb(planes, profile)
        return rgb, done + _kinds(mode, planes) + converted


def _kinds(mode: str, planes: Planes) -> list[str]:
    """What a file's pixels are, other than 8-bit RGB."""
    named = {"P": "palette", "PA": "palette", "CMYK": "CMYK", "YCbCr": "YCbCr", "LAB": "Lab", "HSV": "HSV"}
    kinds = [named[mode]] if mode in named else []
    if planes.shape[2] < 3:
        kinds.append("greyscale")
    if planes.dtype == np.uint16:
        kinds.append("16 bit")
    if not kinds and mode not in ("RGB", "RGBA", "RGBX"):
        kinds.append(f"mode {mode}")
    return kinds


def _flat_rgb(planes: Planes, profile: bytes | None) -> tuple[Pixels, list[str]]:
    """uint8 or uint16 (h, w, 1-4) to uint8 sRGB (h, w, 3), and which of profile and alpha mattered."""
    done, channels = [], planes.shape[2]
    colours: Planes = eight_bit_rgb(planes)
    if profile is not None:
        converted = to_srgb(colours if channels >= 3 else colours[..., :1], profile)
        if converted is not None:
            colours = converted
            done.append("colour profile")
    if channels in (2, 4):
        alpha = eight_bit_rgb(planes[..., -1:])[..., :1]
        colours = on_white(np.concatenate([colours, alpha], axis=2))
        done.append("alpha on white")
    return np.ascontiguousarray(colours, np.uint8), done


def _shaped(pixels: Pixels, rules: "Ingest") -> tuple[Pixels, list[str]]:
    """Square and of a size that may be used, cropped and reduced where the rules say so."""
    height, width = pixels.shape[:2]
    side, done = min(height, width), []
    if height != width:
        if rules.not_square == "reject":
            raise ImageError(f"not square ({width}x{height}); not_square: crop would take the centre")
        top, left = (height - side) // 2, (width - side) // 2
        pixels = np.ascontiguousarray(pixels[top : top + side, left : left + side])
        done.append("centre crop")
    if side < rules.min_size:
        raise ImageError(f"too small ({width}x{height}, at least {rules.min_size} are needed)")
    if side > rules.size:
        if rules.larger == "reject":
            raise ImageError(f"too large ({width}x{height}); larger: reduce would make it {rules.size}")
        pixels = resize(pixels, rules.size, rules.size)
        done.append("reduced")
    return pixels, done
