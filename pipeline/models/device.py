"""Device and number format: bf16 where the hardware has it, float32 elsewhere; images to the device and back."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor


def choose_device() -> torch.device:
    """The first CUDA device, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """Number format of the networks.

    Args:
        precision: `auto` (bf16 where the hardware computes in it), `bf16` or `fp32`.
        device: where the network runs.

    Raises:
        ValueError: another name.
    """
    if precision == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
        return torch.bfloat16 if cpu_has_bf16() else torch.float32
    if precision not in ("bf16", "fp32"):
        raise ValueError(f"precision must be auto, bf16 or fp32, not {precision!r}")
    return torch.bfloat16 if precision == "bf16" else torch.float32


def cpu_has_bf16() -> bool:
    """True if the processor itself computes in bf16: imitated, it is slower than float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Run in `dtype`; in float32 this changes nothing."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def out_of_memory(error: BaseException) -> bool:
    """True if Python, or torch on GPU or CPU, ran out of memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in words)


def to_tensor(pixels: NDArray[Any], device: torch.device) -> Tensor:
    """Integers (..., h, w, c) of 8 or 16 bit -> float32 (..., c, h, w) in 0..1 on the device."""
    # torch shares memory that it must be allowed to write to
    own = np.ascontiguousarray(pixels) if pixels.flags.writeable else pixels.copy()
    return torch.from_numpy(own).to(device).movedim(-1, -3).float() / float(np.iinfo(pixels.dtype).max)


def to_pixels(x: Tensor, dtype: DTypeLike = np.uint8) -> NDArray[Any]:
    """Floats (..., c, h, w) in 0..1, cut off beyond, on any device -> uint8 or uint16 (..., h, w, c), rounded."""
    most = float(np.iinfo(dtype).max)
    scaled = x.float().mul(most).round_().clamp_(0, most)  # in place, the last of them takes a quarter of the time
    kind = torch.uint8 if dtype == np.uint8 else torch.uint16
    pixels: NDArray[Any] = scaled.to(kind).movedim(-3, -1).contiguous().cpu().numpy()
    return pixels
