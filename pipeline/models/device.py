"""Device and number format: bf16 where the hardware has it, float32 elsewhere."""

from contextlib import AbstractContextManager

import torch


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
        # emulated bf16 is slower than float32, so ask for the instructions themselves
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if native else torch.float32
    if precision not in ("bf16", "fp32"):
        raise ValueError(f"precision must be auto, bf16 or fp32, not {precision!r}")
    return torch.bfloat16 if precision == "bf16" else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Run in `dtype`; in float32 this changes nothing."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
