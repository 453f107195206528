"""Processes that train one model together, over torch.distributed; a process alone needs none of it.

Every process holds the whole model and takes its share of each batch; gradients are averaged in one all-reduce. The
model is small (a few megabytes), so nothing is gained by overlapping that with the backward pass, and a plain
all-reduce, unlike a wrapped module, goes well with two networks that train in turns and with accumulated gradients.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


class ProcessGroup:
    """The processes of this training; `rank` 0 writes files and logs."""

    def __init__(self) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if together else 0
        self.count = dist.get_world_size() if together else 1

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in place."""
        if self.count == 1:
            return
        listed = list(tensors)
        flat = torch.cat([tensor.reshape(-1).float() for tensor in listed])
        dist.all_reduce(flat)
        for tensor, part in zip(listed, torch.split(flat, [tensor.numel() for tensor in listed]), strict=True):
            tensor.copy_(part.view_as(tensor) / self.count)

    def any(self, flags: list[bool], device: torch.device) -> list[bool]:
        """True where any process sets the flag: so that all of them stop, save or end at the same step."""
        if self.count == 1:
            return flags
        tensor = torch.tensor(flags, dtype=torch.int32, device=device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in tensor.tolist()]

    def from_rank_0(self, number: int, device: torch.device) -> int:
        """Rank 0's number; no process has it before rank 0 has come here.

        What processes find in a folder may differ for a moment, on a shared disk for longer: rank 0's view counts.
        """
        if self.count == 1:
            return number
        tensor = torch.tensor([number], dtype=torch.int64, device=device)
        dist.broadcast(tensor, src=0)
        return int(tensor)
