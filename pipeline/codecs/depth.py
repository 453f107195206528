"""Bits of a file's samples, by what the file itself says: decoders often hand over fewer."""

from PIL import Image, ImageFile

from pipeline.core.tiff import Blocks


def depth_of(image: Image.Image, data: bytes) -> int:
    """Bits of the deepest samples of an opened file; 8 where its format holds no more, or less."""
    match image.format:
        case "PNG":
            return data[24]
        case "TIFF":
            return Blocks(data).samples()[0]
        case "PPM":
            highest = image.tile[0].args if isinstance(image, ImageFile.ImageFile) and image.tile else 255
            highest = highest[-1] if isinstance(highest, tuple) else highest
            return 16 if image.mode == "I" or (isinstance(highest, int) and highest > 255) else 8
        case "JPEG2000":
            return max(jpeg2000_depths(data), default=8)
        case "AVIF":
            start = data.find(b"av1C", 0, 1 << 16)
            flags = data[start + 6] if 0 <= start < len(data) - 6 else 0
            return (12 if flags & 0x20 else 10) if flags & 0x40 else 8
        case "PSD":
            return int.from_bytes(data[22:24], "big")
        case "SGI":
            return 8 * data[3]
    return 8


def jpeg2000_depths(data: bytes) -> list[int]:
    """Bits of each component of a JPEG 2000."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 1 << 16)
    if start < 0:
        return []
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    return [(value & 0x7F) + 1 for value in data[start + 42 : start + 42 + 3 * count : 3]]
