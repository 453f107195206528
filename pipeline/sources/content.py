"""What bytes are by how they begin: pictures, and what is called an archive and is none."""

import re

HEAD = 512
"""Bytes that are enough to tell."""
_PICTURES = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"8BPS", b"qoif"),
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"\xff\x0a", b"\0\0\0\x0cJXL ", b"\x76\x2f\x31\x01", b"#?RADIANCE"),
)
"""PNG, JPEG, GIF, BMP, TIFF, BigTIFF, PSD, QOI, JPEG 2000, JPEG XL, OpenEXR, Radiance."""


def is_picture(head: bytes) -> bool:
    """True if bytes begin as those of a picture do."""
    riff = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    heif = head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")
    return head.startswith(_PICTURES) or riff or heif or bool(re.match(rb"P[1-7Ff]\s", head))


def other_than(kind: str, head: bytes) -> str | None:
    """What a file is that is called an archive of one kind and is not, and what to do; None where that is not known.

    Args:
        kind: ending that it is read as: zip, tar, tar.gz …, parquet, tfrecords or h5.
        head: its first bytes.
    """
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"version https://git-lfs.github.com/"):
        return "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page, not an archive: the download failed, get it again"
    if text.startswith(b"<?xml") and b"<error>" in text:
        return "a store's error, not an archive: the download failed, get it again"
    if text.startswith(b'{"'):
        return "JSON, not an archive: the download failed, get it again"
    if is_picture(head):
        return "a picture, not an archive: name it as one"
    found = next((name for name, start in _ARCHIVES.items() if head.startswith(start)), None)
    found = "tar" if found is None and head[257:262] == b"ustar" else found
    if found in (None, kind):
        return None
    if found in ("7z", "rar"):
        return f"a {found} archive by its content, which cannot be read: unpack it"
    return f"a {found} file by its content: rename it to end in .{found}"


_ARCHIVES = {
    "zip": b"PK\x03\x04",
    "7z": b"7z\xbc\xaf\x27\x1c",
    "rar": b"Rar!\x1a\x07",
    "parquet": b"PAR1",
    "h5": b"\x89HDF\r\n\x1a\n",
    "tar.gz": b"\x1f\x8b",
    "tar.bz2": b"BZh",
    "tar.xz": b"\xfd7zXZ\x00",
    "tar.zst": b"\x28\xb5\x2f\xfd",
}
"""Ending of an archive's name -> how its bytes begin."""
