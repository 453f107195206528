"""What people watch of a training tells of this run."""

from pathlib import Path

import pytest

from pipeline.runtime import console
from pipeline.train.live_log import live_log


def test_the_speed_of_a_resumed_training_does_not_count_the_steps_of_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.0)
    with live_log(tmp_path / "log", "fidelity", 1000, done=900) as log:
        for step in (400, 800, 900, 910):  # the log of before is told again
            log.values(step, {"pixel": 0.1})
    *replayed, last = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fidelity: ")]
    assert len(replayed) == 3
    assert all(line.startswith("fidelity: 900/1000 ") and "/s" not in line for line in replayed)
    assert last.startswith("fidelity: 910/1000 ")
    assert " s left" in last


def test_the_log_of_a_resumed_training_has_each_step_once(tmp_path: Path) -> None:
    for done in (0, 20):
        with live_log(tmp_path / "log", "fidelity", 40, done=done) as log:
            for step in (10, 20):
                log.values(step, {"pixel": 0.1})
    lines = (tmp_path / "log" / "plots" / "metrics" / "pixel.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["step", "10", "20"]
