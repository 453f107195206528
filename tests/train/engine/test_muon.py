"""Convolutions between features learn by orthogonalised momentum, everything else by Adam."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.pictures import face
from support.training import pair_data, tiny_config

from pipeline.models.checkpoint import load_generator
from pipeline.train.engine.adam import Adam
from pipeline.train.engine.batches import PairData
from pipeline.train.engine.loop import Training
from pipeline.train.engine.muon import Muon, orthogonalised
from pipeline.train.engine.process_group import ProcessGroup
from pipeline.train.engine.step import Updates

pytestmark = pytest.mark.usefixtures("fixed_threads")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PairData:
    return pair_data(tmp_path_factory.mktemp("training"), [face(index) for index in range(4)])


@pytest.mark.parametrize(("rows", "columns"), [(16, 144), (144, 16), (32, 32)])
def test_an_update_has_the_directions_of_the_momentum_all_about_equally_strong(rows: int, columns: int) -> None:
    random = torch.Generator().manual_seed(1)
    matrices = torch.randn(3, rows, columns, generator=random)
    matrices[1] *= 1e-6  # the size of gradients does not matter
    for matrix, update in zip(matrices, orthogonalised(matrices), strict=True):
        left, strengths, right = torch.linalg.svd(matrix, full_matrices=False)
        turned = left.T @ update @ right.T
        held = strengths > 0.05 * strengths.max()
        assert held.sum() > 0.8 * len(strengths)
        assert turned.diagonal()[held].min() > 0.5
        assert turned.diagonal().max() < 1.3
        assert (turned - turned.diagonal().diag()).abs().max() < 1e-3


def test_a_gradient_of_zeros_moves_nothing() -> None:
    value = torch.ones(4, 4, 3, 3, requires_grad=True)
    value.grad = torch.zeros_like(value)
    Muon([value], []).step(0.1)
    assert torch.equal(value, torch.ones(4, 4, 3, 3))


def test_a_step_is_as_large_as_adams_whatever_the_shape() -> None:
    random = torch.Generator().manual_seed(1)
    for shape in ((64, 64, 3, 3), (48, 16, 1, 1), (16, 48, 3, 3)):
        value = torch.zeros(shape, requires_grad=True)
        value.grad = torch.randn(shape, generator=random)
        Muon([value], []).step(0.01)
        assert 0.001 < value.detach().square().mean().sqrt() < 0.0025


def test_first_and_last_layer_and_biases_and_the_discriminator_go_by_adam() -> None:
    updates = Updates(replace(tiny_config(), optimizer="muon", adversarial=0.1), ProcessGroup())
    network, optimizer = updates.trained["generator"]
    assert isinstance(optimizer, Muon)
    assert isinstance(updates.trained["discriminator"][1], Adam)
    names = {id(value): name for name, value in network.named_parameters()}
    hidden = {names[id(value)] for value in optimizer.hidden}
    assert hidden
    assert all(name.endswith(".weight") for name in hidden)
    others = set(names.values()) - hidden
    assert {"from_rgb.weight", "from_rgb.bias", "to_rgb.weight", "to_rgb.bias"} <= others
    assert all(name.startswith(("from_rgb", "to_rgb")) or not name.endswith("weight") for name in others)


def test_a_training_taken_up_again_ends_with_the_same_bits(data: PairData, tmp_path: Path) -> None:
    config = replace(tiny_config(steps=6), optimizer="muon", checkpoint_minutes=1e-9, keep=9)
    whole = Training(config, data, [], tmp_path / "whole").run()
    assert whole is not None
    asked: list[int] = []

    def after_three() -> bool:
        asked.append(1)
        return len(asked) == 3

    assert Training(config, data, [], tmp_path / "cut").run(should_stop=after_three) is None
    rest = Training(config, data, [], tmp_path / "cut").run()
    assert rest is not None
    assert rest.read_bytes() == whole.read_bytes()
    adams = Training(replace(config, optimizer="adam"), data, [], tmp_path / "adam").run()
    assert adams is not None
    ours, theirs = load_generator(whole)[0].state_dict(), load_generator(adams)[0].state_dict()
    assert not any(torch.equal(ours[name], theirs[name]) for name in ours if "bottleneck" in name and "weight" in name)
