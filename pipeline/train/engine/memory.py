"""How much memory a training needs, and what to do when there is too little."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from pipeline.core.errors import FacesrError, first_line
from pipeline.models.device import out_of_memory
from pipeline.models.networks import Discriminator, Generator
from pipeline.train.engine.config import TrainConfig
from pipeline.train.engine.losses import PerceptualLoss

ADVICE = "lower train.batch or train.crop, or raise train.accumulate, which gives the same result in more time"

_SIDE = 64
"""Of the ground truth that is counted with, pixels."""


class OutOfMemoryError(FacesrError):
    """The device has too little memory; the message says which setting to change."""


@contextmanager
def as_out_of_memory() -> Iterator[None]:
    """Turn torch's errors about memory, of GPU and CPU, into `OutOfMemoryError`."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise OutOfMemoryError(f"out of memory: {ADVICE} ({first_line(error)})") from error
        raise


def needed(config: TrainConfig, *, half: bool) -> int:
    """Bytes that one update of a run holds at its peak, without the program itself: weights, gradients, optimizers,
    and what the backward pass keeps. Counted in the forward pass of one small picture: what is kept grows as pixels do.

    Args:
        config: of the run, for one process.
        half: True if networks run in bf16, which halves what they keep.
    """
    batch = max(1, config.batches.batch // config.accumulate)
    side = config.batches.crop
    # what is drawn for these networks must not change what is drawn after them
    with torch.random.fork_rng(devices=[]):
        generator, discriminator = Generator(config.generator), Discriminator(config.discriminator)
        vgg = PerceptualLoss(config.layers) if config.perceptual else None
    low, truth = torch.zeros(1, 3, _SIDE // 4, _SIDE // 4), torch.zeros(1, 3, _SIDE, _SIDE)
    # value, gradient, two moments of Adam, and the generator's moving average
    held = 5 * _size(generator)
    kept, result = _kept(lambda: generator(low))
    if vgg is not None:
        held += _size(vgg)
        kept += _kept(lambda: vgg(result, truth))[0]
        with torch.no_grad():
            kept += sum(feature.nbytes for feature in vgg.extract(truth))
    if config.adversarial:
        held += 4 * _size(discriminator)
        kept += 2 * _kept(lambda: torch.stack([score.mean() for score in discriminator(result)]))[0]
    times = batch * side**2 / _SIDE**2
    return held + int(times * ((kept // 2 if half else kept) + 4 * truth.nbytes))


def available(device: torch.device) -> int | None:
    """Bytes that are free on the device; None where that cannot be found out."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = []
    try:
        meminfo = Path("/proc/meminfo").read_text().splitlines()
        limits.append(next(int(line.split()[1]) * 1024 for line in meminfo if line.startswith("MemAvailable")))
        # a container may be allowed less than the machine has
        group = Path("/sys/fs/cgroup")
        limits.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError, StopIteration):
        pass
    if not limits and hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=None)


def warning(config: TrainConfig, device: torch.device, *, half: bool) -> str | None:
    """A sentence for the user when a run looks too large for the device, before it starts."""
    need, free = needed(config, half=half), available(device)
    if free is None or need < free:
        return None
    return f"training needs about {need / 1e9:.1f} GB and {free / 1e9:.1f} GB are free on {device.type}: {ADVICE}"


def _kept(run: Callable[[], Tensor]) -> tuple[int, Tensor]:
    """Bytes that autograd keeps for the backward pass of `run()`, each storage once; and what it returned."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    return sum(tensor.nbytes for tensor in kept.values() if not isinstance(tensor, torch.nn.Parameter)), result


def _size(module: torch.nn.Module) -> int:
    return sum(value.nbytes for value in module.parameters())
