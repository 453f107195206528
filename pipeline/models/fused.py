"""A convolution and what follows it as one operator, where torch has oneDNN's: bf16 on a CPU, without gradients.

An activation or a sum of its own reads and writes all features again. Where the processor multiplies matrices (AMX)
that takes as long as the convolutions.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn

_SAME = ([1, 1], [1, 1], [1, 1], 1)
"""Padding, stride, dilation and groups of a 3x3 convolution that keeps the size."""


def is_fused(x: Tensor, first: nn.Conv2d) -> bool:
    """True if `activated` and `add_convolved` take these features, convolved with weights like those of `first`."""
    return (
        x.device.type == "cpu"
        and x.dtype == first.weight.dtype == torch.bfloat16
        and x.is_contiguous(memory_format=torch.channels_last)
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and _has_operators()
    )


@lru_cache(maxsize=1)
def _has_operators() -> bool:
    """Tried, since nobody promises them: they are what torch's compiler uses, and not every processor has them."""
    x = torch.zeros(1, 16, 4, 4, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    convolution = nn.Conv2d(16, 16, 3, padding=1, dtype=torch.bfloat16)
    try:
        with torch.no_grad():
            add_convolved(x, activated(x, convolution, 0.2), convolution)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True


def activated(x: Tensor, convolution: nn.Conv2d, slope: float) -> Tensor:
    """LeakyReLU of a 3x3 convolution, rounded once: (N, in, h, w) -> (N, out, h, w)."""
    arguments = (x, convolution.weight, convolution.bias, *_SAME)
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(*arguments, "leaky_relu", [slope], "")
    return result


def add_convolved(total: Tensor, x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Add a 3x3 convolution of `x` to `total`, in place, rounded once."""
    arguments = (total, x, convolution.weight, convolution.bias, *_SAME)
    result: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(*arguments, "add", 1.0, None, [], None)
    return result
