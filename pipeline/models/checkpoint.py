"""Weights and training state on disk: safetensors only, atomic, a generator rebuilt from its file alone."""

import errno
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pipeline.core.errors import first_line
from pipeline.core.files import file_hash, write_bytes
from pipeline.models.config import GeneratorConfig
from pipeline.models.networks import Generator
from pipeline.models.weights_file import FORMAT, Metadata, ModelError, Provenance, check_format, described, opened

_BLOCKS = 256
"""More blocks than a file has tensors are not built to see whether they fit."""


def save_generator(
    path: Path, generator: nn.Module, config: GeneratorConfig, provenance: Provenance, dtype: torch.dtype
) -> None:
    """Write weights with the config that rebuilds them and where they come from."""
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in generator.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "config": json.dumps(asdict(config), sort_keys=True),
        "provenance": json.dumps(provenance, sort_keys=True),
    }
    _write(path, tensors, metadata)


def load_generator(path: Path) -> tuple[Generator, Metadata]:
    """Rebuild a generator (float32, evaluation mode) from its file, or the averaged weights from a training state.

    Raises:
        ModelError: missing, damaged, or not a facesr generator.
    """
    with opened(path, "pt") as file:
        metadata = file.metadata() or {}
        if "state" not in metadata:
            check_format(path, metadata.get("format"), FORMAT)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        if "state" in metadata:
            state = json.loads(metadata["state"])
            values, provenance = state["config"], state.get("provenance", {}) | {"step": state.get("step")}
            tensors = part(tensors, "ema")
        else:
            values, provenance = described(path, metadata)
        config = GeneratorConfig.from_dict(values)
        if max(config.blocks, config.bottleneck) > max(len(tensors), _BLOCKS):
            raise ValueError("its settings are of a larger network than its weights")
        tensors = {name: value.float() for name, value in tensors.items()}
        with torch.device("meta"):  # settings that are absurd take no memory there
            Generator(config).load_state_dict(tensors, assign=True)
        generator = Generator(config)
        generator.load_state_dict(tensors)
    except KeyError as error:
        raise ModelError(f"{path}: says nothing of its {error.args[0]}: it is incomplete, get it anew") from error
    except (ValueError, TypeError, RuntimeError, AttributeError, ArithmeticError, MemoryError) as error:
        raise ModelError(
            f"{path}: its settings or weights cannot be used ({_one_line(error)}): name a file that `facesr train` or "
            "`facesr adapt` wrote"
        ) from error
    # a training that diverged, or a file damaged since: its pictures would be black
    broken = [name for name, value in generator.state_dict().items() if not torch.isfinite(value).all()]
    if broken:
        raise ModelError(
            f"{path}: {len(broken)} of its tensors hold NaN or infinite values (such as {broken[0]}): damaged, "
            "or from a training that diverged; take other weights"
        )
    return generator.eval(), {"config": asdict(generator.config), "provenance": provenance, "sha256": file_hash(path)}


def _one_line(error: Exception, most: int = 300) -> str:
    """Torch says on many lines which tensors do not fit."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else f"{text[:most]} …"


def part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors `name.…` of a training state, without that prefix."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def interpolate(low: Generator, high: Generator, share: float) -> Generator:
    """A generator whose weights lie `share` (0..1) of the way from `low` to `high`.

    Raises:
        ModelError: the two have different architectures.
    """
    if low.config != high.config:
        raise ModelError("only two generators of one architecture can be interpolated")
    mixed = Generator(low.config).eval()
    target = high.state_dict()
    mixed.load_state_dict({name: torch.lerp(value, target[name], share) for name, value in low.state_dict().items()})
    return mixed


def save_state(path: Path, tensors: dict[str, Tensor], values: Mapping[str, object]) -> None:
    """Write a training state: tensors, and JSON-like values such as the step."""
    _write(path, tensors, {"state": json.dumps(values, sort_keys=True)})


def load_state(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read back what `save_state` wrote.

    Raises:
        ModelError: damaged file.
    """
    try:
        with safe_open(path, "pt") as file:
            values = json.loads(file.metadata()["state"])
            return {name: file.get_tensor(name) for name in file.keys()}, values  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ModelError(f"{path}: damaged training state ({first_line(error)})") from error


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    data = save(tensors, metadata=metadata)
    size = int.from_bytes(data[:8], "little")
    # safetensors shuffles the metadata anew in every process; the same weights must give the same bytes
    header = json.loads(data[8 : 8 + size]) | {"__metadata__": dict(sorted(metadata.items()))}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    try:
        write_bytes(path, len(text).to_bytes(8, "little") + text + data[8 + size :])
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(errno.ENOSPC, f"the disk is full: {path} was not written, the last state is kept") from error
        raise
