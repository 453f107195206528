"""3x3 convolutions, by Winograd's algorithm where oneDNN, which torch convolves with, has none.

With AVX2 alone oneDNN multiplies all nine weights with every pixel. NNPACK, which torch brings along, transforms tiles
of 8x8 pixels and multiplies 64 numbers for the 36 results of a tile (Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", CVPR 2016). With AVX-512 oneDNN does so itself, or computes in bf16.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier, Lock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

_CHANNELS, _PIXELS = 24, 1600
"""Of an input, from which fewer products outweigh the transforms."""
_TILE = 6
"""Side of the square of results that are worked out together."""

_BUILDING = Lock()


class Convolution(nn.Conv2d):
    """3x3 convolution that keeps the size: (N, in, h, w) -> (N, out, h, w).

    Contiguous images are convolved by Winograd's algorithm where that is faster; results then differ by some millionths
    of the largest one, and have the same bits for any number of threads. Channels-last images never are.
    """

    def __init__(self, width_in: int, width_out: int):
        super().__init__(width_in, width_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of `x`, with gradients of any order."""
        if torch.compiler.is_compiling() or not _uses_winograd(x.device) or not _pays(x):
            return super().forward(x)
        if torch.is_grad_enabled():
            result: Tensor = _Winograd.apply(x, self.weight, self.bias)
            return result
        return _convolved(x, self.weight, self.bias)


def layout(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    """How images and weights of a generator should lie in memory."""
    winograd = dtype == torch.float32 and _uses_winograd(device)
    return torch.contiguous_format if winograd else torch.channels_last


def laid_as(weight: Tensor, x: Tensor) -> Tensor:
    """Images (N, c, h, w) in the layout of the weights (out, in, 3, 3) that convolve them first."""
    last = weight.is_contiguous(memory_format=torch.channels_last)
    return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _uses_winograd(device: torch.device) -> bool:
    return device.type == "cpu" and _has_only_avx2()


@lru_cache(maxsize=1)
def _has_only_avx2() -> bool:
    # by what the processor is and not by a measurement: what is taken up again must give the same bytes
    if torch.backends.cpu.get_cpu_capability() != "AVX2" or not hasattr(torch, "_nnpack_spatial_convolution"):
        return False
    return bool(torch.backends.nnpack.is_available())  # type: ignore[no-untyped-call]


def _pays(x: Tensor) -> bool:
    large = x.shape[1] >= _CHANNELS and x.shape[2] * x.shape[3] >= _PIXELS
    return large and x.is_contiguous() and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolved(x, weight, bias)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # each of these has a gradient, too: a penalty on gradients asks for it
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        of_x, *of_weights = ctx.needs_input_grad  # type: ignore[attr-defined]
        first = None
        if of_x and _pays(gradient):
            first, of_x = _Winograd.apply(gradient, weight.transpose(0, 1).flip(2, 3), None), False
        same, asked = [1, 1], [of_x, *of_weights]
        if not any(asked):
            return first, None, None
        # torch does not offer NNPACK's gradient of weights; contiguous, oneDNN's takes two thirds of the time
        tensors = (gradient.contiguous(), x.contiguous(), weight.contiguous())
        of_input, *rest = torch.ops.aten.convolution_backward(
            *tensors, [len(weight)], same, same, same, False, [0, 0], 1, asked
        )
        return of_input if first is None else first, *rest


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution, pictures and strips of them shared out over threads.

    NNPACK's own threads wait for each other several times in every block of tiles. Strips begin where tiles do, so that
    each tile holds the same numbers as it would without strips.
    """
    x, weight = x.contiguous(), weight.contiguous()
    count, height = len(x), x.shape[2]
    with _BUILDING:
        threads = torch.get_num_threads()
    pool = threads_of_one_core(threads)  # before any call: NNPACK then computes within the thread that calls
    strips = 1 if threads == 1 else -(-threads // count)
    step = -(-height // (strips * _TILE)) * _TILE
    if count == 1 and step >= height:
        return _by_nnpack(x, weight, bias)
    out = x.new_empty(count, len(weight), *x.shape[2:])
    inference = torch.is_inference_mode_enabled()

    def part(which: tuple[int, int]) -> None:
        index, top = which
        bottom = min(top + step, height)
        above = max(top - _TILE, 0)
        with torch.inference_mode(inference), torch.no_grad():
            rows = x[index : index + 1, :, above : min(bottom + 1, height)].contiguous()
            out[index, :, top:bottom] = _by_nnpack(rows, weight, bias)[0, :, top - above : bottom - above]

    # picture by picture in any case: of several at once NNPACK would write down all that it transforms
    parts = [(index, top) for index in range(count) for top in range(0, height, step)]
    for _ in pool.map(part, parts) if threads > 1 else map(part, parts):
        pass
    return out


def _by_nnpack(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    try:
        return torch._nnpack_spatial_convolution(x, weight, bias, [1, 1], [1, 1])
    except RuntimeError:  # it does not say of what; where memory is short, torch does
        return F.conv2d(x, weight, bias, padding=1)


def threads_of_one_core(count: int) -> ThreadPoolExecutor:
    """A pool of threads in which torch computes on one core each.

    While it is made, the process' number of threads is 1: what asks for that number meanwhile holds `_BUILDING`.

    Raises:
        RuntimeError: the system lets this process have no more threads.
    """
    with _BUILDING:
        return _pool(os.getpid(), count)


@lru_cache(maxsize=2)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Of this process, since a fork has none of them."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="convolution")
    together = Barrier(threads)

    def prepare(_: int) -> None:
        torch.get_num_threads()  # a thread's first look at it would take the process' number again
        torch.set_num_threads(1)
        together.wait()  # each thread has to come here

    if threads == 1:
        _settle_nnpack()
        return pool
    try:
        for _ in pool.map(prepare, range(threads)):
            pass
        torch.set_num_threads(1)
        _settle_nnpack()
    except RuntimeError:
        together.abort()  # or those that were started would wait for the others, and the process for them
        pool.shutdown(wait=False)
        raise
    finally:
        torch.set_num_threads(threads)
    return pool


def _settle_nnpack() -> None:
    """How many threads NNPACK itself uses is settled by its first call."""
    _by_nnpack(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3), None)
