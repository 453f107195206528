"""CelebAMask-HQ as it is distributed: 30,000 pictures among some 370,000 masks, numbered without leading zeros."""

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

PICTURES = "CelebA-HQ-img/"
FOLDERS = (f"CelebAMask-HQ/{PICTURES}", PICTURES)
"""Where the pictures lie in the archive, and in its unpacked folder."""


def pictures_folder(names: Iterable[str]) -> str:
    """Where the pictures of CelebAMask-HQ lie, by the names in an archive; empty where it is something else."""
    return next((folder for name in names for folder in FOLDERS if name.startswith(folder)), "")


def numeric_order(name: str) -> tuple[Any, ...]:
    """Sorts 0.jpg, 1.jpg, … 10.jpg by number, and what has none after them."""
    stem = PurePosixPath(name).stem
    return (0, int(stem), name) if stem.isascii() and stem.isdigit() else (1, 0, name)
