"""Processes that train one model together, over torch.distributed; a process alone needs none of it.

Every process holds the whole model and takes its share of each batch; gradients are averaged in one all-reduce. The
model is small (a few megabytes), so nothing is gained by overlapping that with the backward pass, and a plain
all-reduce, unlike a wrapped module, goes well with two networks that train in turns and with accumulated gradients.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


class Peers:
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

    def any(self, wishes: list[bool], device: torch.device) -> list[bool]:
        """For each wish, whether any process has it: so that all of them stop, save or end at the same step."""
        if self.count == 1:
            return wishes
        flags = torch.tensor(wishes, dtype=torch.int32, device=device)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in flags.tolist()]

    def agreed(self, number: int, device: torch.device) -> int:
        """What rank 0 says the number is; no process has the answer before rank 0 has come here.

        What processes find in a folder may differ for a moment, on a shared disk for longer: rank 0's view counts.
        """
        if self.count == 1:
            return number
        said = torch.tensor([number], dtype=torch.int64, device=device)
        dist.broadcast(said, src=0)
        return int(said)
