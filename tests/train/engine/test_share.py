"""A batch that is shared out over threads teaches what it teaches one."""

from typing import Any

import pytest
import torch
from support.training import tiny_config

from pipeline.models.config import DiscriminatorConfig
from pipeline.models.convolution import threads_of_one_core
from pipeline.train.engine import step
from pipeline.train.engine.batches import Batch
from pipeline.train.engine.process_group import ProcessGroup
from pipeline.train.engine.step import Updates

ALL_TERMS: dict[str, Any] = {
    "adversarial": 0.05,
    "perceptual": 0.1,
    "layers": ("relu1_1",),
    "consistency": 1.0,
    "r1": 0.1,
}


def batch_of(count: int, *, of_use: bool = False) -> Batch:
    """Random pictures."""
    torch.manual_seed(0)
    low = torch.randint(0, 256, (count, 16, 16, 3), dtype=torch.uint8)
    truth = torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8)
    return Batch(low, low if of_use else truth, torch.zeros(count, 2))


def trained(
    monkeypatch: pytest.MonkeyPatch, threads: int, batches: list[Batch], **changes: Any
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """What a training on these batches, shared out over so many threads, ends with, and its losses."""
    with monkeypatch.context() as patch:
        patch.setattr(Updates, "_threads", lambda self: threads)
        updates = Updates(tiny_config(**ALL_TERMS, batch=len(batches[0].low), **changes), ProcessGroup())
    values = [updates(number, batch) for number, batch in enumerate(batches)]
    return updates.state(), [{name: float(value) for name, value in one.items()} for one in values]


@pytest.mark.parametrize(("count", "threads", "accumulate"), [(4, 2, 1), (5, 2, 1), (4, 3, 1), (4, 2, 2)])
def test_threads_that_share_a_batch_learn_what_one_learns(
    monkeypatch: pytest.MonkeyPatch, count: int, threads: int, accumulate: int
) -> None:
    batches = [batch_of(count), batch_of(count, of_use=True), batch_of(count)]
    isotropy = 0.3 if accumulate == 1 else 0.0  # it is of what is in memory together
    alone, losses = trained(monkeypatch, 1, batches, isotropy=isotropy)
    shared, others = trained(monkeypatch, threads, batches, isotropy=isotropy, accumulate=accumulate)
    for ours, theirs in zip(losses, others, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3, abs=1e-5)
    for name, value in alone.items():
        # Adam divides tiny gradients by their own size: what differs by a rounding may move by a part of a step
        assert torch.allclose(shared[name].float(), value.float(), atol=2e-4), name


def test_an_error_in_one_thread_ends_the_step_with_that_error_and_no_thread_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Updates, "_threads", lambda self: 2)
    updates = Updates(tiny_config(**ALL_TERMS, isotropy=0.3, batch=4), ProcessGroup())

    def no_memory(*arguments: Any) -> None:
        raise RuntimeError("no memory")

    object.__setattr__(updates.shares[1], "generate", no_memory)
    with pytest.raises(RuntimeError, match="no memory"):
        updates(0, batch_of(4, of_use=True))


def test_the_same_threads_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [batch_of(4), batch_of(4, of_use=True), batch_of(4)]
    first, second = (trained(monkeypatch, 2, batches, isotropy=0.3)[0] for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_batch_is_shared_out_where_convolutions_gain_and_nothing_remembers_what_it_saw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(step, "layout", lambda device, dtype: torch.contiguous_format)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    remembering = DiscriminatorConfig((4, 8), scales=2, spectral_norm=True)
    for changes, expected in (
        ({}, 2),
        ({"batch": 1}, 1),
        ({"batch": 4, "accumulate": 4}, 1),
        ({"discriminator": remembering}, 1),
        ({"discriminator": remembering, "adversarial": 0.0}, 2),
    ):
        assert len(Updates(tiny_config(**ALL_TERMS | changes), ProcessGroup()).shares) == expected, changes
    monkeypatch.setattr(step, "layout", lambda device, dtype: torch.channels_last)
    assert len(Updates(tiny_config(**ALL_TERMS), ProcessGroup()).shares) == 1


def test_each_thread_of_a_pool_computes_on_one_core() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pool = threads_of_one_core(2)
        assert [pool.submit(torch.get_num_threads).result() for _ in range(4)] == [1, 1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
