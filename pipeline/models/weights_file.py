"""What a weights file says of itself: its format, the generator's settings, where it comes from. No torch needed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pipeline.core.errors import FacesrError, first_line
from pipeline.core.files import file_hash

FORMAT = "facesr-generator-1"


Provenance = dict[str, Any]
"""Where weights come from, as JSON: hashes of data and params, phase, step …"""


Metadata = dict[str, Any]
"""What a weights file says of its generator: `config`, `provenance`, `sha256`."""


class ModelError(FacesrError):
    """A weights file that cannot be used; the message says which and why."""


@contextmanager
def opened(path: Path, framework: str) -> Iterator[Any]:
    """A safetensors file: its metadata, and its tensors as those of `pt` (torch) or `np` (NumPy).

    Raises:
        ModelError: missing, damaged, or larger than memory.
    """
    try:
        with safe_open(path, framework) as file:
            yield file
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such weights file") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({first_line(error)})") from error
    except (RuntimeError, MemoryError) as error:
        raise ModelError(f"{path}: not enough memory to load it ({first_line(error)})") from error


def is_generator(path: Path) -> bool:
    """True if a file is a generator that `save_generator` wrote."""
    try:
        with opened(path, "np") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except ModelError:
        return False


def check_format(path: Path, found: str | None, known: str) -> None:
    """Refuse a file whose format is not `known`, such as `facesr-generator-1`, or an earlier number of it.

    Raises:
        ModelError: of a newer facesr, or not of facesr at all.
    """
    family, _, newest = known.rpartition("-")
    name, _, number = (found or "").rpartition("-")
    if name != family or not number.isdecimal():
        raise ModelError(f"{path}: readable, but not a generator written by facesr")
    if int(number) > int(newest):
        raise ModelError(f"{path}: written by a newer facesr (format {found}, read here is {known}): update facesr")


def described(path: Path, metadata: dict[str, str]) -> tuple[dict[str, Any], Provenance]:
    """Settings and provenance of a generator, by the metadata of its file.

    Raises:
        ModelError: one of them is not there, or is no JSON object.
    """
    found = []
    for name in ("config", "provenance"):
        if name not in metadata:
            raise ModelError(f"{path}: says nothing of its {name}: it is incomplete, get it anew")
        try:
            found.append(json.loads(metadata[name]))
        except ValueError as error:
            raise ModelError(f"{path}: its {name} is no JSON ({first_line(error)}): get it anew") from error
        if not isinstance(found[-1], dict):
            raise ModelError(f"{path}: its {name} is no JSON object: get it anew")
    return found[0], found[1]


def read_metadata(path: Path) -> Metadata:
    """What a weights file says of its generator, without looking at the weights.

    Raises:
        ModelError: missing, damaged, or not a facesr generator.
    """
    with opened(path, "np") as file:
        metadata = file.metadata() or {}
    check_format(path, metadata.get("format"), FORMAT)
    config, provenance = described(path, metadata)
    return {"config": config, "provenance": provenance, "sha256": file_hash(path)}
