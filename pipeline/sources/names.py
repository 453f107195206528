"""Names of entries: which files are passed over, which names are refused, and the form in which names are given."""

import hashlib
import re
from collections.abc import Iterable
from itertools import takewhile
from typing import Any
from unicodedata import category

from pipeline.sources.bounds import MAX_NAME

SIDECARS = {
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".html", ".xml", ".yaml", ".yml", ".npy", ".ini"),
    # of WebDataset; pickles among them are never opened
    *(".cls", ".cls2", ".index", ".inx", ".id", ".ids", ".text", ".caption", ".transcript", ".jsn", ".count"),
    *(".npz", ".pyd", ".pickle", ".pkl", ".mp", ".msg", ".ten", ".tb", ".pt", ".pth", ".safetensors", ".mat"),
    *(".bbox", ".lbl", ".labels", ".md5", ".sha1", ".sha256"),
    # what cameras, telephones and programs for photographs put beside pictures
    *(".xmp", ".aae", ".thm", ".lrv", ".pp3", ".dop", ".cos", ".on1", ".lrcat", ".lrdata", ".lrprev", ".lrtemplate"),
    *(".mov", ".mp4", ".m4v", ".avi", ".mts", ".m2ts", ".mkv", ".webm", ".3gp", ".mpg", ".mpeg", ".wmv"),
    *(".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".gpx", ".kml", ".srt", ".vtt"),
    *(".db", ".db-wal", ".db-shm", ".sqlite", ".sqlite3", ".lnk", ".url", ".webloc", ".pdf", ".htm", ".log", ".nfo"),
    *(".doc", ".docx", ".xls", ".xlsx", ".rtf", ".par2", ".sfv"),
}
"""Files beside the pictures that are passed over; anything else is tried, and named if it is no picture."""
SYSTEM_FOLDERS = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "#recycle"}
"""Folders that systems make for themselves, in small letters."""
REPORTS = ("manifest.parquet", "manifest.csv")
"""What this project writes beside pictures: files of these names, or that end in a dot and one of these."""
CELEBA_PICTURES = "CelebA-HQ-img/"
CELEBA_FOLDERS = (f"CelebAMask-HQ/{CELEBA_PICTURES}", CELEBA_PICTURES)
"""Where the pictures of CelebAMask-HQ lie in the archive, and in its unpacked folder: among some 370,000 masks."""
UNNAMED = "unnamed"
"""Stands for a name of which nothing is left."""


def normalized(name: str) -> str:
    """A path without empty parts and `.`: `./a//b.jpg` is `a/b.jpg`; that it is absolute, or has `..`, stays."""
    inner = "/".join(part for part in name.split("/") if part not in ("", "."))
    return f"/{inner}" if name.startswith("/") and inner else inner


def shortened(name: str) -> str:
    """A name of at most MAX_NAME bytes as it is; of a longer one the beginning and a hash."""
    if len(name) <= MAX_NAME and len(name.encode()) <= MAX_NAME:
        return name
    return f"{name[:80].replace('/', '_')}…{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def only_name(name: str) -> str:
    """What of a `path` in a table can serve as a name: paths of another machine are no places on this one.

    Roots, drives, what `..` leads out of, and dots that would hide a file go: `/data/set/a.png` -> `data/set/a.png`.
    Empty where nothing is left.
    """
    if len(name) > MAX_NAME:
        return ""
    text = normalized(re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://", "", printable(name)))
    drive = re.match(r"[A-Za-z]:[\\/]", text) or text.startswith("\\\\")
    parts = normalized(text.replace("\\", "/") if drive else text).split("/")
    parts = parts[1:] if drive and parts[0].endswith(":") else parts
    last_up = max((index for index, part in enumerate(parts) if ".." in part.split("\\")), default=-1)
    kept = [part.lstrip(".") for part in parts[last_up + 1 :]]
    inner = "/".join(part for part in kept if part)
    return inner if inner and shortened(inner) == inner else ""


def ending(name: str) -> str:
    """The last dot of a path's last part and what follows, `.png`; empty for `.png` alone and `a.`."""
    # as text: pathlib would keep every part of a million paths
    last = name.rpartition("/")[2]
    dot = last.rfind(".")
    return last[dot:] if 0 < dot < len(last) - 1 else ""


def is_rooted(name: str) -> bool:
    """True if a path says where it lies on some machine: it is absolute, or an address."""
    return bool(re.match(r"[\\/]|[A-Za-z]:[\\/]|[A-Za-z][A-Za-z0-9+.-]*://", name))


def outside(name: str) -> bool:
    """True if a path leads out of the container it is in, on any system."""
    path = name.replace("\\", "/")  # as text: pathlib keeps every part of a million paths
    return path.startswith("/") or ".." in path.split("/") or bool(re.match(r"[A-Za-z]:[\\/]", name))


def parts_of(path: str) -> list[str]:
    """Parts of a path of any system, or of an address, without its scheme."""
    text = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://", "", path)
    return [part for part in re.split(r"[\\/]", text) if part not in ("", ".")]


def common_start(known: list[str] | None, parts: list[str]) -> list[str]:
    """What two lists of parts have in common at their start; all of the second where there is no first."""
    if known is None:
        return parts
    same = takewhile(lambda pair: pair[0] == pair[1], zip(known, parts, strict=False))
    return [part for part, _ in same]


def below(name: str, root: list[str]) -> str:
    """A path that says where it lies, from `root` on; any other as it is."""
    parts = parts_of(name) if root and is_rooted(name) else []
    return "/".join(parts[len(root) :]) if parts and parts[: len(root)] == root else name


def wanted(name: str, reports: bool = False) -> bool:
    """True if a file may be a picture: neither hidden, nor of a system's own folder, nor one of the SIDECARS.

    Args:
        name: its path.
        reports: count REPORTS in.
    """
    report = not reports and is_report(name)
    return not is_hidden(name) and not report and ending(name).lower() not in SIDECARS


def is_hidden(name: str) -> bool:
    """True if a file, or a folder that it is in, is hidden or of the system."""
    parts = name.replace("\\", "/").split("/")
    return any((part.startswith(".") and part not in (".", "..")) or part.lower() in SYSTEM_FOLDERS for part in parts)


def is_report(name: str) -> bool:
    """True if a file is called as what this project writes beside pictures."""
    return f".{name.rpartition('/')[2].lower()}".endswith(tuple(f".{report}" for report in REPORTS))


def printable(name: str) -> str:
    """A name as text that can be shown and stored; what is no text in it becomes U+FFFD."""
    if name.isprintable():
        return name
    text = name.encode("utf-8", "surrogateescape" if not _lone(name) else "replace").decode("utf-8", "replace")
    return "".join("\ufffd" if category(character) == "Cc" else character for character in text)


def _lone(name: str) -> bool:
    """True if a surrogate in it does not stand for an undecodable byte."""
    return any(category(character) == "Cs" and not "\udc80" <= character <= "\udcff" for character in name)


def pictures_folder(names: Iterable[str]) -> str:
    """Where the pictures of CelebAMask-HQ lie, by the names in an archive; empty where it is something else."""
    return next((folder for name in names for folder in CELEBA_FOLDERS if name.startswith(folder)), "")


def numeric_order(name: str) -> tuple[Any, ...]:
    """Sorts 0.jpg, 1.jpg, … 10.jpg by number, and what has none after them."""
    stem = name.rpartition("/")[2].removesuffix(ending(name))
    return (0, int(stem), name) if stem.isascii() and stem.isdigit() else (1, 0, name)
