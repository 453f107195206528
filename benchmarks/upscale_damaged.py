"""An archive of faces of which some are damaged, each in a way whose reason the manifest must tell."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from upscale_common import Faces


def _cut_jpeg(png: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()[: buffer.tell() // 2]


def _huge(png: bytes) -> bytes:
    header = b"IHDR" + struct.pack(">II", 100_000, 100_000) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def _spoiled(png: bytes) -> bytes:
    at = png.index(b"IDAT") + 2000
    return png[:at] + bytes(value ^ 0x5A for value in png[at : at + 64]) + png[at + 64 :]


def _floats(png: bytes) -> bytes:
    buffer = io.BytesIO()
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"), np.float32) / 255
    Image.fromarray(pixels).save(buffer, "TIFF")
    return buffer.getvalue()


def _same(png: bytes) -> bytes:
    return png


def _encrypted(member: zipfile.ZipInfo) -> None:
    member.flag_bits |= 1


def _other_sum(member: zipfile.ZipInfo) -> None:
    member.CRC ^= 1


Change = Callable[[zipfile.ZipInfo], None]

DAMAGES: tuple[tuple[str, Callable[[bytes], bytes], Change | None, str], ...] = (
    ("cut-{}.jpg", _cut_jpeg, None, "truncated picture"),
    ("cut-{}.png", lambda png: png[: len(png) // 2], None, "truncated picture"),
    ("empty-{}.png", lambda png: b"", None, "empty file"),
    ("words-{}.png", lambda png: b"no picture at all\n" * 40, None, "not a picture of a known format"),
    ("huge-{}.png", _huge, None, "more pixels than allowed"),
    ("spoiled-{}.png", _spoiled, None, "damaged picture"),
    ("floats-{}.tif", _floats, None, "floating-point pixels"),
    ("encrypted-{}.png", _same, _encrypted, "encrypted"),
    ("../outside-{}.png", _same, None, "its path points outside the archive"),
    ("other-sum-{}.png", _same, _other_sum, "damaged in the archive (Bad CRC-32"),
)
"""Name, what is done to the file, what is done to its entry in the archive's directory, how the reason begins."""


def write_damaged(path: Path, faces: Faces, count: int) -> dict[str, str]:
    """Write a zip of `count` files, of which 2 % (one of each kind at least) are damaged, spread over all of it.

    Returns:
        Name of each damaged file -> how the reason begins.
    """
    number = max(len(DAMAGES), round(0.02 * count))
    places = {round((i + 0.5) * count / number): i for i in range(number)}
    expected, changes = {}, []
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(count):
            png = faces.png(index)
            if index not in places:
                archive.writestr(f"face-{index:05d}.png", png)
                continue
            pattern, damage, change, reason = DAMAGES[places[index] % len(DAMAGES)]
            name = pattern.format(f"{index:05d}")
            archive.writestr(name, damage(png))
            expected[name] = reason
            if change:
                changes.append((change, archive.getinfo(name)))
        # the directory is written last: what is read goes by it
        for change, member in changes:
            change(member)
    return expected


def differing(rows: Sequence[dict[str, Any]], expected: dict[str, str]) -> list[str]:
    """What the manifest says otherwise than expected, in words."""
    wrong = []
    for row in rows:
        reason = expected.get(row["name"])
        if reason is None and row["status"] != "ok":
            wrong.append(f"{row['name']}: {row['status']}, {row['error']}")
        if reason is not None and not (row["status"] == "failed" and row["error"].startswith(reason)):
            wrong.append(f"{row['name']}: {row['status']}, {row['error']!r} instead of {reason!r}")
    return wrong
