"""Read picture files with all that they hold: 8 or 16 bits, grey or colour, alpha, and what they say beside the pixels.

`images.decode` gives what a network wants, always 8-bit RGB; this gives what a result has to keep.
"""

import io
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PpmImagePlugin, TiffImagePlugin

from pipeline.codecs.depth import depth_of
from pipeline.codecs.exif import as_orientation, orientation_of
from pipeline.codecs.metadata import Metadata, read_metadata
from pipeline.codecs.repair import without_bombs
from pipeline.core.images import (
    FEW_ROWS,
    MAX_PIXELS,
    ImageError,
    Planes,
    decoder_errors,
    lossless,
    open_image,
    wide_grey,
)
from pipeline.core.jpeg import with_end_mark
from pipeline.core.png import SIGNATURE, bare_png, lacks_rows, repaired_png
from pipeline.core.tiff import Blocks

if TYPE_CHECKING:
    from PIL import ImageCms

END_MARK = "its end mark is missing"
_SUFFIXES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".jfif": "jpeg", ".webp": "webp"}


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: uint8 or uint16 (height, width, channels), upright; read-only where the decoder owns them.
        metadata: what the file says beside its pixels, fit to go into a copy.
        format: "PNG", "JPEG" … as Pillow names it.
        lossless: True if the file kept every pixel.
        mode: of the file's pixels, "RGB", "P", "CMYK" … as Pillow names it.
        orientation: that was applied, 1-8; 1 is upright.
        damage: what is wrong with the file, so that the pixels may be, too.
        repaired: what had to be done to the file before a decoder took it; its pixels are whole.
        notes: what else is not as it was in the file.
    """

    pixels: Planes
    metadata: Metadata
    format: str
    lossless: bool
    mode: str
    orientation: int
    damage: str | None = None
    repaired: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def remarks(self) -> list[str]:
        """All that is to be told of the file, in words."""
        return [*filter(None, (self.damage, self.repaired)), *self.notes, *self.metadata.lost]


def format_of(name: str) -> str | None:
    """The format that a file's suffix asks for: "png", "jpeg", "webp", or None for any other suffix."""
    return _SUFFIXES.get(PurePath(name).suffix.lower())


def read_picture(data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode an encoded picture without losing depth, alpha or what it says beside its pixels.

    EXIF orientation is applied; the first frame stands for all; palettes become RGB or RGBA, CMYK becomes sRGB.
    16-bit colour needs OpenCV.

    Args:
        data: a complete encoded file.
        max_pixels: bound on width x height, checked from the header before any pixel is decoded.

    Returns:
        pixels uint8 or uint16 (height, width, 1-4) and the rest of what the file holds.

    Raises:
        ImageError: not a picture, truncated, damaged or larger than `max_pixels`.
    """
    damage, repaired = None, None
    if data.startswith(SIGNATURE):
        data, kinds, damage = repaired_png(data)
        repaired = f"damaged {', '.join(kinds)} left out" if kinds else None
    with decoder_errors():
        try:
            picture = _read(data, max_pixels)
            # Pillow, too, sees it only now and then
            repaired = END_MARK if picture.format in ("JPEG", "MPO") and with_end_mark(data) else repaired
        except ValueError:
            if not data.startswith(SIGNATURE):
                raise
            # a text or profile that unpacks to more than Pillow allows says nothing about the pixels
            data, note = without_bombs(data)
            picture = _read(data, max_pixels)
            picture = replace(picture, notes=(*picture.notes, note))
        except OSError:
            ended = with_end_mark(data)
            if ended is None:
                raise
            picture, repaired = _read(ended, max_pixels), END_MARK
    if picture.format == "PNG" and data.rfind(b"IEND") < 0:
        picture = replace(picture, notes=(*picture.notes, END_MARK))
    return replace(picture, damage=damage, repaired=repaired)


def as_planes(image: Image.Image) -> Planes:
    """A PIL image of any mode, turned upright by its EXIF, as uint8 or uint16 (height, width, 1-4).

    Raises:
        ImageError: floating-point pixels, or a picture that cannot be decoded.
    """
    with decoder_errors():
        image.load()
        return np.ascontiguousarray(upright(_eight_bit(image), orientation_of(image)))


def as_image(planes: Planes) -> Image.Image:
    """Planes (height, width, 1-4) as a PIL image.

    Raises:
        ValueError: 16-bit colour or alpha, for which Pillow has no mode.
    """
    if planes.dtype == np.uint16 and planes.shape[2] > 1:
        raise ValueError(
            "Pillow has no 16-bit colour: read the file with pipeline.codecs.reader.read_picture, pass its array"
        )
    return Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)


def _read(data: bytes, max_pixels: int) -> Picture:
    image = open_image(data, max_pixels)
    depth = depth_of(image, data)
    name, mode, levels = image.format or "", image.mode, _levels(image, data)
    pixels: Any
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Pillow turns a TIFF upright while it loads it, and forgets how it lay
        orientation = as_orientation(image.tag_v2.get(0x0112))
        image.load()
        pixels = _tiff_pixels(image, data, levels, orientation)
    else:
        image.load()
        orientation = orientation_of(image)
        if name == "PNG":
            if lacks_rows(data):
                raise ImageError(FEW_ROWS)
            _spread_transparency(image, data)
        pixels = upright(_eight_bit(image) if levels is None else _sixteen_bit(image, data, levels), orientation)
    pixels = np.ascontiguousarray(pixels)
    metadata = read_metadata(image, data, pixels.shape[2], turned=orientation > 4)
    notes = [f"{depth} bit read as 8"] if depth > 8 and pixels.dtype == np.uint8 else []
    if mode == "CMYK" and image.info.get("icc_profile") and _cmyk_transform(image) is None:
        notes.append("colour profile left out: it cannot be used")
    if (frames := _frames(image, data)) > 1:
        notes.append(f"frame 1 of {frames}")
    return Picture(pixels, metadata, name, lossless(data), mode, orientation, notes=tuple(notes))


def _frames(image: Image.Image, data: bytes) -> int:
    """Pictures in a file that may hold several: frames of an animation, pages, what a camera adds."""
    if image.format == "TIFF":
        return Blocks(data).frames()
    if image.format in ("GIF", "PNG", "WEBP", "MPO", "AVIF"):
        with suppress(Exception):  # what is damaged behind the first frame is not looked at
            return int(getattr(image, "n_frames", 1))
    return 1


def _tiff_pixels(image: Image.Image, data: bytes, levels: int | None, orientation: int) -> Planes:
    """Pixels of a TIFF that Pillow turned upright: at 16 bits where OpenCV sees the same picture."""
    eight = _eight_bit(image)
    if levels is None:
        return eight
    sixteen = _sixteen_bit(image, data, levels)
    # OpenCV, too, turns a TIFF upright in some versions, and hands over some kinds raw: associated alpha, for one
    return next((pixels for pixels in (sixteen, upright(sixteen, orientation)) if _agree(pixels, eight)), eight)


def _spread_transparency(image: Image.Image, data: bytes) -> None:
    """Bring the grey that a PNG of 2 or 4 bits calls transparent to 0-255, as Pillow does its pixels."""
    level = image.info.get("transparency")
    if data[24] in (2, 4) and data[25] == 0 and isinstance(level, int):
        image.info["transparency"] = level * 255 // (2 ** data[24] - 1)


def _levels(image: Image.Image, data: bytes) -> int | None:
    """Highest value in a file of 16-bit samples of which Pillow would keep 8 bits; None for all others."""
    if image.format == "PNG":
        return 65535 if data[24] == 16 and image.mode != "I;16" else None
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 65535 if image.mode in ("RGB", "RGBA") and set(image.tag_v2.get(258, ())) == {16} else None
    if isinstance(image, PpmImagePlugin.PpmImageFile) and image.mode == "RGB":
        highest = image.tile[0].args
        highest = highest[-1] if isinstance(highest, tuple) else highest
        return highest if isinstance(highest, int) and highest > 255 else None
    return None


def _sixteen_bit(image: Image.Image, data: bytes, levels: int) -> NDArray[np.uint16]:
    """Colour, or grey with alpha, at 16 bits (height, width, 2-4) by OpenCV, as the file's rows lie."""
    try:
        import cv2  # only here: 8-bit pictures are read where OpenCV is not installed
    except ImportError as error:
        raise ImageError("16-bit colour needs OpenCV: install opencv-python-headless, or save 8 bits") from error
    png = data.startswith(SIGNATURE)
    # without what may make OpenCV turn, blend or add channels
    encoded = np.frombuffer(bare_png(data, (b"IHDR", b"PLTE", b"IDAT")) if png else data, np.uint8)
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what is wrong is told by what comes of it
    try:
        decoded: Any = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if decoded is None or decoded.dtype != np.uint16 or decoded.ndim != 3:
        raise ImageError("damaged picture (its 16-bit samples cannot be decoded)")
    # OpenCV's order is BGR, and grey with alpha comes as three equal channels and alpha
    grey = png and data[25] == 4
    order = [2, 3] if grey else [2, 1, 0, 3][: decoded.shape[2]]
    pixels: NDArray[np.uint16] = decoded[..., order]
    if levels < 65535:
        pixels = ((np.minimum(pixels, levels).astype(np.uint32) * 65535 + levels // 2) // levels).astype(np.uint16)
    return _keyed(pixels, image.info.get("transparency"))


def _agree(sixteen: NDArray[np.uint16], eight: NDArray[Any]) -> bool:
    """True if two readers saw the same picture, one at 16 and one at 8 bits."""
    if sixteen.shape != eight.shape or eight.dtype != np.uint8:
        return False
    # kinds of files differ all over: a sample of the rows tells
    step = max(1, len(sixteen) // 64)
    return bool(np.abs(sixteen[::step] // 257 - eight[::step].astype(np.int32)).max(initial=0) <= 2)


def _eight_bit(image: Image.Image) -> Planes:
    """What Pillow decoded, any mode, as uint8 (or uint16 for grey of more than 8 bits) (height, width, 1-4)."""
    mode = image.mode
    if mode == "F":
        raise ImageError("floating-point pixels, whose range the file does not say")
    if mode.startswith("I"):
        return _keyed(wide_grey(image)[..., None], image.info.get("transparency"))
    alpha = image.has_transparency_data
    if mode in ("1", "L", "LA", "La"):
        image = image.convert("LA" if alpha else "L")
    elif mode == "CMYK":
        image = _from_cmyk(image)
    else:
        image = image.convert("RGBA" if alpha else "RGB")
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _keyed(pixels: Any, key: Any) -> Any:
    """Add alpha that is 0 where pixels equal the colour that a PNG declares transparent."""
    if key is None or pixels.shape[2] not in (1, 3):
        return pixels
    highest = np.iinfo(pixels.dtype).max
    alpha = np.where((pixels == np.asarray(key)).all(axis=2, keepdims=True), 0, highest)
    return np.concatenate([pixels, alpha.astype(pixels.dtype)], axis=2)


def _from_cmyk(image: Image.Image) -> Image.Image:
    """Convert by the profile in the file, if it holds one for CMYK that can be used, else by the plain formula."""
    transform = _cmyk_transform(image)
    return image.convert("RGB") if transform is None else transform.apply(image)


def _cmyk_transform(image: Image.Image) -> "ImageCms.ImageCmsTransform | None":
    profile = image.info.get("icc_profile")
    if not profile or profile[16:20] != b"CMYK":
        return None
    from PIL import ImageCms

    try:
        source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(source, target, "CMYK", "RGB")
    except (ImportError, OSError, ImageCms.PyCMSError):
        return None


def upright(pixels: Any, orientation: int) -> Any:
    """Apply an EXIF orientation, 1-8, to (height, width, channels)."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    # the sides that are exchanged after rows and columns were
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return pixels[rows, columns]
