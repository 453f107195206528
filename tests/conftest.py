"""Rules for all tests: a training or an enlargement gives the same bits whatever ran before it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# a suite that runs in the background of a script, or under nohup, would hand on to all that it starts that these are
# ignored
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


_LONGEST = (
    "train/test_ray_train.py",
    "bulk/test_node_check.py",  # waits more than it computes: beside one whose processes would fill two cores
    "test_end_to_end.py",
    "versioning/test_experiments.py",
    "versioning/test_story.py",
    "bulk/test_ray.py",
    "bulk/test_run.py",
    "runtime/test_units.py",
)
"""Files that take most of a minute or more: begun last, one of them would be waited for alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; the others stay in their order."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture
def fixed_threads() -> Iterator[None]:
    """Sums depend on how many threads share them; what is compared with another process takes one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
