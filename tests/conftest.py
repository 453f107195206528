"""Rules for all tests: a training or an enlargement gives the same bits whatever ran before it."""

from collections.abc import Iterator

import pytest
import torch

from pipeline import sources


@pytest.fixture(autouse=True)
def _fresh_archives() -> Iterator[None]:
    """Open archives are remembered by path, and tests may write another archive to the same path."""
    yield
    for cache in (sources._open_zip, sources._open_parquet, sources._row_group):
        cache.cache_clear()


@pytest.fixture
def fixed_threads() -> Iterator[None]:
    """Sums depend on how many threads share them; what is compared with another process takes one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
