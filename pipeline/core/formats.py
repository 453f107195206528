"""Which formats are read, and what a file is that is of none of them."""

from itertools import islice

from pipeline.core.png import SIGNATURE, chunks
from pipeline.core.tiff import Blocks

READ = (
    *("AVIF", "BMP", "DDS", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "PSD", "QOI"),
    *("SGI", "SUN", "TGA", "TIFF", "WEBP"),
)
"""Formats of pixels, as Pillow names them. Left out are those that start other programs (EPS runs Ghostscript), need
another library to be plugged in, or hold no picture."""

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_CONVERT = "convert it to PNG or JPEG first"
_BRANDS = {
    b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"hevx": "HEIC", b"heim": "HEIC", b"heis": "HEIC",
    b"hevm": "HEIC", b"hevs": "HEIC", b"mif1": "HEIF", b"mif2": "HEIF", b"msf1": "HEIF", b"jpeg": "HEIF",
}  # fmt: skip
"""Of what ISO base media hold: pictures; others are videos."""
_MAGIC = {
    b"\xff\x0a": ("JPEG XL", _CONVERT),
    b"\0\0\0\x0cJXL \r\n\x87\n": ("JPEG XL", _CONVERT),
    b"%!PS": ("EPS/PostScript", "a program, which is not run: export it as PNG first"),
    b"%!\n": ("EPS/PostScript", "a program, which is not run: export it as PNG first"),
    b"%!\r": ("EPS/PostScript", "a program, which is not run: export it as PNG first"),
    b"\xc5\xd0\xd3\xc6": ("EPS/PostScript", "a program, which is not run: export it as PNG first"),
    b"%PDF-": ("a PDF", "export its pages as PNG first"),
    b"PK\3\4": ("a zip", "unpack it first"),
    b"PK\5\6": ("a zip", "it is empty"),
    b"PK\7\x08": ("a zip", "unpack it first"),
    b"\x1f\x8b": ("a gzip file", "unpack it first"),
    b"BZh": ("a bzip2 file", "unpack it first"),
    b"\xfd7zXZ\0": ("an xz file", "unpack it first"),
    b"\x28\xb5\x2f\xfd": ("a Zstandard file", "unpack it first"),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", "unpack it first"),
    b"Rar!\x1a\7": ("a RAR archive", "unpack it first"),
    b"PAR1": ("a Parquet file", "give it to the command itself"),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", "give it to the command itself"),
    b"version https://git-lfs.github.com/": ("a Git LFS pointer", "git lfs pull gets the picture"),
    b"FUJIFILMCCD-RAW": ("camera raw (RAF)", ""),
    b"IIRO": ("camera raw (ORF)", ""),
    b"IIRS": ("camera raw (ORF)", ""),
    b"MMOR": ("camera raw (ORF)", ""),
    b"IIU\0": ("camera raw (RW2)", ""),
    b"II\x1a\0\0\0HEAPCCDR": ("camera raw (CRW)", ""),
    b"\0MRM": ("camera raw (MRW)", ""),
    b"FOVb": ("camera raw (X3F)", ""),
    b"II\xbc\1": ("JPEG XR", _CONVERT),
    b"BPG\xfb": ("BPG", _CONVERT),
    b"FLIF": ("FLIF", _CONVERT),
    b"gimp xcf": ("XCF", "export it from GIMP as PNG first"),
    b"8BPS\0\2": ("PSB", _CONVERT),
    b"v/1\1": ("OpenEXR", "floating-point pixels, whose range the file does not say: convert it to PNG first"),
    b"#?RADIANCE": ("Radiance HDR", "floating-point pixels: convert it to PNG first"),
    b"SIMPLE  =": ("FITS", _CONVERT),
    b"#define ": ("XBM", _CONVERT),
    b"/* XPM */": ("XPM", _CONVERT),
    b"DanM": ("MSP", _CONVERT),
    b"LinS": ("MSP", _CONVERT),
    b"\xb1\x68\xde\x3a": ("DCX", _CONVERT),
    b"Image type:": ("IM", _CONVERT),
    b"GRIB": ("GRIB", "weather data, which is no picture"),
    b"BUFR": ("BUFR", "weather data, which is no picture"),
    b"\xd7\xcd\xc6\x9a": ("a Windows metafile", "a drawing: export it as PNG first"),
    b"\x1aE\xdf\xa3": ("a video", "take a picture out of it first"),
    b"OggS": ("a video", "take a picture out of it first"),
    b"\0\0\1\xba": ("a video", "take a picture out of it first"),
    b"\0\0\1\xb3": ("a video", "take a picture out of it first"),
    b"FLV\1": ("a video", "take a picture out of it first"),
    b"ID3": ("sound", "there is no picture in it"),
    b"fLaC": ("sound", "there is no picture in it"),
    b"bplist00": ("a property list", "the picture lies elsewhere"),
    b"SQLite format 3\0": ("a database", "the pictures lie elsewhere"),
}
"""How files of other kinds begin, what they are, and what to do."""
_PARTIAL = {b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF", b"8BPS": "PSD", b"DDS ": "DDS"}
_PARTIAL |= {b"\xff\x4f\xff\x51": "JPEG 2000", b"\0\0\0\x0cjP  ": "JPEG 2000", b"icns": "ICNS"}
"""Formats of many kinds, not all of which are read."""


def other_kind(data: bytes) -> str | None:
    """What a file is that is no picture of a format in `READ`, and what to do: in words; None where it may be one."""
    for magic, (kind, advice) in _MAGIC.items():
        if data.startswith(magic):
            return f"{kind} ({advice})" if advice else f"{kind}: develop it first"
    if data.startswith(TIFF):
        tags = Blocks(data)
        raw = tags.raw()
        return f"camera raw ({raw}): develop it first" if raw else _signed(*tags.samples()) or _misread(tags)
    if data.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")):
        return _signed_jpeg2000(data)
    if data[4:8] == b"ftyp":
        return _of_boxes(data)
    if data[4:8] in (b"moov", b"mdat", b"wide") or (data.startswith(b"RIFF") and data[8:12] == b"AVI "):
        return "a video (take a picture out of it first)"
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        return "sound (there is no picture in it)"
    if data[128:132] == b"DICM":
        return f"DICOM ({_CONVERT})"
    if data[257:262] == b"ustar":
        return "a tar (unpack it first)"
    return _of_markup(data)


def unread(data: bytes) -> str:
    """What to say of a file that no decoder takes and that `other_kind` does not know."""
    if data.startswith(SIGNATURE) and not all(chunk.sound for chunk in islice(chunks(data), 1)):
        return "damaged picture (wrong checksum of IHDR)"
    kind = next((kind for magic, kind in _PARTIAL.items() if data.startswith(magic)), None)
    return f"{kind} of a kind that is not read ({_CONVERT})" if kind else "not a picture of a known format"


def _signed(bits: int, signed: bool) -> str | None:
    # those of 32 bits may fit in 16 all the same, which their values will tell
    return f"signed samples of {bits} bits, whose range the file does not say" if signed and bits < 32 else None


def _misread(tags: Blocks) -> str | None:
    """A TIFF that decoders read wrongly without a word."""
    if tags.wide_planes():  # Pillow takes them for 8 bits, OpenCV for interleaved
        return f"uncompressed planes of 16 bits ({_CONVERT})"
    return f"a palette of 8 bits where a TIFF's has 16 ({_CONVERT})" if tags.small_palette() else None


def _signed_jpeg2000(data: bytes) -> str | None:
    start = data.find(b"\xff\x4f\xff\x51", 0, 1 << 16)
    if start < 0:
        return None
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    found = [value for value in data[start + 42 : start + 42 + 3 * count : 3] if value & 0x80]
    return _signed((found[0] & 0x7F) + 1, True) if found else None


def _of_boxes(data: bytes) -> str | None:
    size = int.from_bytes(data[:4], "big")
    brands = [data[8:12], *(data[start : start + 4] for start in range(16, min(size, len(data), 256), 4))]
    if brands[0] == b"crx ":
        return "camera raw (CR3): develop it first"
    if b"avif" in brands or b"avis" in brands:
        from PIL import features

        return None if features.check("avif") else f"AVIF ({_CONVERT})"
    if brands[0] == b"jxl ":
        return f"JPEG XL ({_CONVERT})"
    if brands[0] in (b"jp2 ", b"jpx "):
        return None
    kind = next((_BRANDS[brand] for brand in brands if _BRANDS.get(brand) == "HEIC"), None)
    kind = kind or next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
    return f"{kind} ({_CONVERT})" if kind else "a video (take a picture out of it first)"


def _of_markup(data: bytes) -> str | None:
    start = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()[:2048].lower()
    if not start.startswith(b"<"):
        return None
    if b"<svg" in start:
        return "SVG (a drawing: export it as PNG first)"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or b"<html" in start:
        return "an HTML page (what was fetched was no picture)"
    return "XML (there is no picture in it)" if start.startswith((b"<?xml", b"<!doctype", b"<x:xmpmeta")) else None
