"""Long work says what it is at, and short work says nothing."""

import time

import pytest

from pipeline.runtime.console import slow


def test_what_takes_long_is_said_while_it_is_going_on(capsys: pytest.CaptureFixture[str]) -> None:
    with slow("list [faces].zip", seconds=0.01):
        deadline = time.monotonic() + 10
        said = ""
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
            said = capsys.readouterr().err
    assert said == "list [faces].zip …\n"


def test_what_is_over_at_once_needs_no_words(capsys: pytest.CaptureFixture[str]) -> None:
    with slow("list faces.zip", seconds=60):
        pass
    assert capsys.readouterr().err == ""
