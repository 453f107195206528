"""Rules for all tests: a training or an enlargement gives the same bits whatever ran before it."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def fixed_threads() -> Iterator[None]:
    """Sums depend on how many threads share them; what is compared with another process takes one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
