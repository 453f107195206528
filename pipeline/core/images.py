"""Decode, encode and resize images: the one place where bytes become pixels.

Every reduction and the bicubic baseline go through `resize`, which is Pillow's antialiased BICUBIC. Other resizers
(OpenCV INTER_CUBIC, torch without `antialias`) alias when they reduce and shift the bicubic baseline by nearly 1 dB.
"""

import ctypes
import hashlib
import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError, _imaging

from pipeline.core.errors import FacesrError, first_line
from pipeline.core.formats import READ, TIFF, other_kind, unread
from pipeline.core.jpeg import with_end_mark
from pipeline.core.png import SIGNATURE, bare_png, lacks_rows, repaired_png
from pipeline.core.tiff import Blocks

Pixels = NDArray[np.uint8]
"""uint8 array (height, width, 3), RGB, 0-255."""

Planes = NDArray[np.uint8] | NDArray[np.uint16]
"""Array (height, width, channels): 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; 0-255, or 0-65535 in 16 bit."""

MAX_PIXELS = 8192 * 8192
"""Most pixels that a picture may claim: beyond this it is refused before it is decoded."""

PSNR_CAP: Final = 100.0
"""dB given to identical pictures, whose PSNR is infinite: JSON has no infinity. One grey level in one channel of one
pixel of a 1024x1024 picture is 113 dB, which is capped too."""

FEW_ROWS = "damaged picture (its pixels end before its last row)"
"""What is wrong with a PNG that is sound but for that."""


class ImageError(FacesrError):
    """An image that cannot be used; the message is one line that says why."""


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode an encoded picture to RGB.

    EXIF orientation is applied; greyscale, palette and CMYK are converted; alpha is laid on white; 16-bit channels are
    scaled to 8. Damage to what a PNG says beside its pixels, and a JPEG's missing end mark,
    do not matter.

    Args:
        data: a complete encoded file.
        max_pixels: bound on width x height, checked from the header before any pixel is decoded.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        ImageError: not a picture, truncated, damaged or larger than `max_pixels`.
    """
    with decoder_errors():
        try:
            image = open_image(data, max_pixels)
            image.load()
        except (ImageError, ValueError, SyntaxError):
            if not data.startswith(SIGNATURE):
                raise
            image = open_image(bare_png(data), max_pixels)
            image.load()
        except OSError:
            ended = with_end_mark(data)
            if ended is None:
                raise
            image = open_image(ended, max_pixels)
            image.load()
        if lacks_rows(data):
            raise ImageError(FEW_ROWS)
        return np.asarray(_to_rgb(_upright(image), image))


def open_image(data: bytes, max_pixels: int | None = MAX_PIXELS) -> Image.Image:
    """Open an encoded picture of a format that is read; nothing is decoded yet. Every reader of files opens them here.

    What else decoders raise is for `decoder_errors`, around this.

    Raises:
        ImageError: empty, of another format, by its name, or larger than `max_pixels`; None leaves that to the caller.
    """
    if not data:
        raise ImageError("empty file")
    if other := other_kind(data):
        raise ImageError(other)
    if data.startswith(TIFF):
        _quiet()
        if Blocks(data).overlap():
            raise ImageError("damaged picture (its tags claim the same bytes over and over)")
    try:
        image = Image.open(io.BytesIO(data), formats=READ)
    except UnidentifiedImageError as error:
        repaired, kinds, _ = repaired_png(data) if data.startswith(SIGNATURE) else (data, [], None)
        if not kinds:
            raise ImageError(unread(data)) from error
        return open_image(repaired, max_pixels)
    width, height = image.size
    if max_pixels is not None and width * height > max_pixels:
        raise ImageError(f"{width}x{height} is more than the {max_pixels} pixels allowed")
    return image


@cache
def _quiet() -> None:
    """Stop Pillow's own copy of libtiff from printing what it also raises."""
    with suppress(OSError, AttributeError):  # a Pillow that is built otherwise
        library = ctypes.CDLL(str(_imaging.__file__))
        for kind in ("Error", "Warning"):
            getattr(library, f"TIFFSet{kind}Handler")(None)


@contextmanager
def decoder_errors() -> Iterator[None]:
    """Turn whatever a decoder raises into an ImageError that says what is wrong with the file."""
    try:
        with warnings.catch_warnings():
            # of sizes, for which there is our own bound, and of odd metadata, which are passed over
            warnings.simplefilter("ignore")
            yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("more pixels than allowed") from error
    except UnidentifiedImageError as error:
        raise ImageError("not a picture of a known format") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, cv2.error …
        reason = first_line(error)
        kind = "truncated" if "truncated" in reason.lower() else "damaged"
        raise ImageError(f"{kind} picture ({reason})") from error


def lossless(data: bytes) -> bool:
    """True if an encoded image is of a format that keeps every pixel: PNG, BMP, PPM, QOI or lossless WebP.

    A picture that was lossy before it was saved as PNG cannot be told from one that was not.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        # lossless pixels lie in a VP8L chunk: the first one, or behind the header of an extended file
        return b"VP8L" in data[12:64]
    return data.startswith((b"\x89PNG", b"BM", b"P5", b"P6", b"qoif"))


def has_readable_exif(image: Image.Image) -> bool:
    """False for EXIF that claims the same bytes over and over: reading it would take any amount of memory."""
    block = image.info.get("exif") or image.info.get("Raw profile type exif") or b""
    if isinstance(block, str):  # hexadecimal digits, as ImageMagick writes it into text
        block = bytes.fromhex("".join(block.split("\n")[3:])) if len(block) < 1 << 18 else b""
    return not Blocks(block.removeprefix(b"Exif\0\0")).overlap()


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; EXIF that cannot be read says nothing about a picture that can."""
    try:
        return ImageOps.exif_transpose(image) if has_readable_exif(image) else image
    except Exception:  # Pillow raises SyntaxError, struct.error, KeyError …
        return image


def wide_grey(image: Image.Image, opened: Image.Image | None = None) -> NDArray[np.uint16]:
    """Samples of a loaded picture of one of Pillow's modes I, on the whole range of 16 bits: (height, width).

    The depth is what the file says: values below 256 are dark, and not of 8 bits.

    Args:
        image: as Pillow decoded it.
        opened: what knows the file, where `image` was made of it.

    Raises:
        ImageError: samples of 32 bits that do not fit in 16.
    """
    bits, white_is_zero = _grey_kind(image if opened is None else opened)
    values, levels = np.asarray(image), 2**bits - 1
    if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
        raise ImageError("samples of 32 bits that do not fit in 16, whose range the file does not say")
    values = np.minimum(values, levels).astype(np.uint32)
    if white_is_zero:
        values = levels - values  # of up to 8 bits Pillow does it
    return (values if bits == 16 else (values * 65535 + levels // 2) // levels).astype(np.uint16)


def _grey_kind(image: Image.Image) -> tuple[int, bool]:
    """Bits of a sample, 16 or, of a TIFF, fewer: a scanner's 12, which Pillow does not spread; and if 0 is white."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 16, False
    return min(max(image.tag_v2.get(258, (16,))), 16), image.tag_v2.get(262) == 0


def _to_rgb(image: Image.Image, opened: Image.Image) -> Image.Image:
    """Convert any Pillow mode to 8-bit RGB by the rules that `decode` states; `opened` knows the file."""
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise ImageError("floating-point pixels, whose range the file does not say")
    if image.mode.startswith("I"):
        return Image.fromarray(rounded(wide_grey(image, opened) / 257.0)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def encode_png(pixels: Pixels, level: int = 1) -> bytes:
    """Encode RGB uint8 (height, width, 3) as PNG; `level` is zlib's. Level 1 costs a fifth of Pillow's default.

    Raises:
        ImageError: the encoder refused the array.
    """
    import cv2  # only here: training and upscaling also run where OpenCV is not installed

    done, buffer = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, level])
    if not done:
        raise ImageError(f"PNG encoder refused an array of shape {pixels.shape}")
    return buffer.tobytes()


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """Encode RGB uint8 (height, width, 3) as baseline JPEG with 4:2:0 chroma; `quality` 1-100."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=2)
    return buffer.getvalue()


def resize(pixels: Pixels, height: int, width: int, lanczos: bool = False) -> Pixels:
    """Resize by Pillow's antialiased BICUBIC (or LANCZOS): uint8 (h, w, 3) -> uint8 (height, width, 3)."""
    if pixels.shape[:2] == (height, width):
        return pixels
    kernel = Image.Resampling.LANCZOS if lanczos else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(pixels).resize((width, height), kernel))


def resize_floats(planes: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    """As `resize` by bicubic, each channel in floating point and neither rounded nor cut off: float32 (h, w, c)."""
    images = (Image.fromarray(planes[..., channel].astype(np.float32)) for channel in range(planes.shape[2]))
    return np.stack([np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)) for image in images], axis=2)


def eight_bit_rgb(planes: Planes) -> Pixels:
    """uint8 or uint16 (h, w, 1 to 4) -> uint8 (h, w, 3): grey repeated, alpha left out, 65535 as 255."""
    colours: NDArray[Any] = planes[..., :3] if planes.shape[2] >= 3 else np.repeat(planes[..., :1], 3, axis=2)
    scaled = colours if colours.dtype == np.uint8 else np.rint(colours / 257.0)
    return np.ascontiguousarray(scaled, np.uint8)


def on_white(pixels: Planes) -> Planes:
    """Lay colour with alpha on white: (h, w, 2 or 4) -> (h, w, 1 or 3) of the same depth."""
    highest = np.iinfo(pixels.dtype).max
    # the largest product still fits in 32 bits
    colour, alpha = pixels[..., :-1].astype(np.uint32), pixels[..., -1:].astype(np.uint32)
    colour *= alpha
    colour += highest * (highest - alpha) + highest // 2
    colour //= highest
    return colour.astype(np.uint8) if highest == 255 else colour.astype(np.uint16)


def rounded(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Round to the nearest grey level, 0 to 255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def psnr(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(255² / MSE), one MSE over all pixels and channels.

    Args:
        first: 0-255, of any type and shape.
        second: of the same.

    Returns:
        dB, at most `PSNR_CAP` (identical pictures).

    Raises:
        ValueError: types or shapes differ.
    """
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        kinds = " and ".join(f"{image.dtype} {image.shape}" for image in (first, second))
        raise ValueError(f"pictures differ in size or type: {kinds}")
    difference = np.subtract(first, second, dtype=np.float64).ravel()
    # of 8-bit pictures a whole number, and exact
    squared = float(difference @ difference)
    return PSNR_CAP if squared == 0 else min(PSNR_CAP, 10 * math.log10(255**2 * difference.size / squared))


def pixel_hash(pixels: Planes) -> str:
    """First 32 hex digits of sha256 over size and pixels: the same from any container and lossless encoding."""
    digest = hashlib.sha256(f"{pixels.shape[0]}x{pixels.shape[1]}:".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()[:32]
