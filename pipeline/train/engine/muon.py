"""Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024): orthogonalised momentum.

The update of a convolution between features is its momentum with all singular values brought near one, so that what
few gradients ask for is learned as fast as what most do. `torch.optim.Muon` takes matrices alone, computes in bf16,
which most processors only imitate, and imports torch's compiler when it is made.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from pipeline.train.engine.adam import Adam

_MOMENTUM = 0.95
_TURNS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Newton-Schulz iteration of Jordan et al.: singular values end between about 0.7 and 1.2, which is near enough."""
_ADAMS_SIZE = 0.2
"""Root mean square of an update over the learning rate, as Adam's is about, so that both go by the same rate (Liu et
al., "Muon is scalable for LLM training", 2025)."""


class Muon:
    """Weights between features and their momentum; other parameters go by Adam.

    Biases are no matrices, and the first and the last layer learn better by Adam (Jordan et al.).

    Args:
        hidden: weights (out, in, ...) that are updated as matrices (out, in ...), in place.
        others: updated by Adam.
    """

    def __init__(self, hidden: Iterable[Tensor], others: Iterable[Tensor]):
        self.hidden = list(hidden)
        self._momenta = [torch.zeros_like(value) for value in self.hidden]
        self._others = Adam(others)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move the parameters by their gradients."""
        self._others.step(learning_rate)
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for value, momentum in zip(self.hidden, self._momenta, strict=True):
            if value.grad is not None:
                momentum.mul_(_MOMENTUM).add_(value.grad)
                alike[value.shape].append((value, value.grad.add(momentum, alpha=_MOMENTUM).flatten(1)))
        for shape, pairs in alike.items():
            updates = orthogonalised(torch.stack([update for _, update in pairs]))
            size = _ADAMS_SIZE * max(updates.shape[1:]) ** 0.5
            for (value, _), update in zip(pairs, updates, strict=True):
                value.sub_(update.view(shape), alpha=learning_rate * size)

    def forget_gradients(self) -> None:
        """Before the gradients of the next batch are added up."""
        self._others.forget_gradients()
        for value in self.hidden:
            value.grad = None

    def state(self, prefix: str) -> dict[str, Tensor]:
        """Adam's, and momenta under names `prefix.weight.momentum`; empty before the first step."""
        state = self._others.state(prefix)
        momenta = {f"{prefix}.{index}.momentum": value for index, value in enumerate(self._momenta)}
        return state | momenta if state else {}

    def restore(self, tensors: dict[str, Tensor], prefix: str) -> None:
        """Put back what `state` gave, if anything; `tensors` may hold more."""
        self._others.restore(tensors, prefix)
        for index, value in enumerate(self._momenta):
            if f"{prefix}.{index}.momentum" in tensors:
                value.copy_(tensors[f"{prefix}.{index}.momentum"])


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices (n, rows, columns) with the same singular vectors, singular values near one where not tiny before."""
    tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if tall else matrices  # the smaller Gram matrix
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = _QUINTIC
    for _ in range(_TURNS):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.mT if tall else wide
