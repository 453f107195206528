"""Rules for all tests: a training or an enlargement gives the same bits whatever ran before it."""

import signal
from collections.abc import Iterator

import pytest
import torch

# a suite that runs in the background of a script, or under nohup, would hand on to all that it starts that these are
# ignored
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


@pytest.fixture
def fixed_threads() -> Iterator[None]:
    """Sums depend on how many threads share them; what is compared with another process takes one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
