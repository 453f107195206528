"""Updates by Adam without what torch's class of it brings."""

from pathlib import Path

import pytest
import torch
from support.stages import python
from torch import Tensor

from pipeline.train.engine.adam import Adam


def parameters() -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    kernels = torch.randn(8, 4, 3, 3, generator=random).to(memory_format=torch.channels_last)
    return [kernels.requires_grad_(), torch.randn(8, generator=random).requires_grad_()]


def set_gradients(values: list[Tensor], step: int) -> None:
    random = torch.Generator().manual_seed(step)
    for value in values:
        value.grad = torch.randn(value.shape, generator=random)


@pytest.mark.parametrize("stopped_after", [None, 2])
def test_updates_are_those_of_torchs_optimizer_also_in_a_run_that_was_taken_up_again(stopped_after: int | None) -> None:
    ours, theirs = parameters(), parameters()
    adam, reference = Adam(ours), torch.optim.Adam(theirs, betas=(0.9, 0.99), fused=True)
    for step in range(5):
        if step == stopped_after:
            state = {name: value.clone() for name, value in adam.state("optimizer").items()}
            adam = Adam(ours)
            adam.restore(state, "optimizer")
        reference.param_groups[0]["lr"] = 0.01 / (step + 1)
        set_gradients(theirs, step)
        reference.step()
        set_gradients(ours, step)
        adam.step(0.01 / (step + 1))
        assert all(map(torch.equal, ours, theirs))
    named = {
        f"optimizer.{index}.{name}": value
        for index, entry in reference.state_dict()["state"].items()
        for name, value in entry.items()
    }
    state = adam.state("optimizer")
    assert set(state) == set(named)
    assert all(torch.equal(state[name], value) for name, value in named.items())


def test_nothing_is_kept_before_the_first_step_and_gradients_are_forgotten_when_asked() -> None:
    values = parameters()
    adam = Adam(values)
    assert adam.state("optimizer") == {}
    adam.restore({}, "optimizer")
    set_gradients(values, 0)
    adam.forget_gradients()
    assert all(value.grad is None for value in values)


TRAINING = """
import sys
from pathlib import Path
from support.training import tiny_config
from pipeline.train.engine.memory import warning
from pipeline.train.engine.process_group import ProcessGroup
from pipeline.train.engine.step import Updates
from pipeline.train.engine.batches import Batch
import torch
config = tiny_config(adversarial=0.1, perceptual=0.1, layers=("relu1_2",))
updates = Updates(config, ProcessGroup())
warning(config, updates.device, half=False)
low, truth = (torch.zeros(2, side, side, 3, dtype=torch.uint8) for side in (16, 64))
updates(0, Batch(low, truth, torch.zeros(2, 2)))
assert updates.state()
print("imported:", *sorted({"torch._dynamo"} & set(sys.modules)))
"""


def test_a_training_begins_without_torchs_compiler(tmp_path: Path) -> None:
    done = python(TRAINING, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"
