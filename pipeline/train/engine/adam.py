"""Adam (Kingma and Ba, ICLR 2015) by torch's function of it, and its moments as tensors of a training state.

`torch.optim.Adam` imports torch's compiler when it is made: 1.3 s and 150 MB of every process that trains.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam

_QUANTITIES = ("step", "exp_avg", "exp_avg_sq")
"""As training states name them."""


class Adam:
    """Parameters, and the moving averages of their gradients (0.9) and of the squares of these (0.99).

    Args:
        parameters: updated in place; all of them have gradients at each step.
    """

    def __init__(self, parameters: Iterable[Tensor]):
        self.parameters = list(parameters)
        # laid out in memory as the parameters are: all are walked through in the same order
        self._means = [torch.zeros_like(value) for value in self.parameters]
        self._squares = [torch.zeros_like(value) for value in self.parameters]
        self._steps = [torch.zeros((), device=value.device) for value in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move the parameters by their gradients."""
        adam(
            self.parameters,
            [value.grad for value in self.parameters if value.grad is not None],
            self._means,
            self._squares,
            max_exp_avg_sqs=[],
            state_steps=self._steps,
            fused=True,
            lr=learning_rate,
            beta1=0.9,
            beta2=0.99,
            eps=1e-8,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )

    def forget_gradients(self) -> None:
        """Before the gradients of the next batch are added up."""
        for value in self.parameters:
            value.grad = None

    def state(self, prefix: str) -> dict[str, Tensor]:
        """Steps and moments under names `prefix.parameter.quantity`; empty before the first step."""
        if not self._steps[0]:
            return {}
        return {
            f"{prefix}.{index}.{name}": value
            for name, values in zip(_QUANTITIES, (self._steps, self._means, self._squares), strict=True)
            for index, value in enumerate(values)
        }

    def restore(self, tensors: dict[str, Tensor], prefix: str) -> None:
        """Put back what `state` gave, if anything; `tensors` may hold more."""
        if f"{prefix}.0.step" not in tensors:
            return
        for name, values in zip(_QUANTITIES, (self._steps, self._means, self._squares), strict=True):
            for index, value in enumerate(values):
                value.copy_(tensors[f"{prefix}.{index}.{name}"])
