"""Pictures that would hang a run or come out black fail by name, and the others are done."""

import threading
import time
from pathlib import Path

import pytest
import torch
from support.upscaling import encoded, make_models, manifest, said, upscale

from pipeline.bulk import picture_job, run
from pipeline.bulk.picture_job import DecodeTimeError, within
from pipeline.codecs.reader import read_picture
from pipeline.upscale.array_upscaler import ArrayUpscaler


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for index in range(4):
        (tmp_path / f"in/{index}.png").write_bytes(encoded(index))
    return tmp_path / "in"


@pytest.mark.parametrize("tile", [512, 64])
def test_a_result_that_is_not_finite_fails_by_name_and_its_neighbours_do_not(
    tile: int, faces: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (faces / "2.png").write_bytes(encoded(2, width=80, height=72))
    (faces / "3.png").write_bytes(encoded(3, width=80, height=72))
    bad = {
        float(torch.from_numpy(read_picture((faces / f"{i}.png").read_bytes()).pixels[0, 0, :1].copy())) for i in (1, 3)
    }
    whole = ArrayUpscaler._whole

    def broken(self: ArrayUpscaler, low: torch.Tensor) -> torch.Tensor:
        result = whole(self, low).clone()
        for index in range(len(low)):
            if any(abs(float(low[index, 0, 0, 0]) * 255 - value) < 0.5 for value in bad):
                result[index, 0, 3, 3] = float("nan") if index else float("inf")
        return result

    monkeypatch.setattr(ArrayUpscaler, "_whole", broken)
    upscale(faces, tmp_path / "out", "--model", model, "--workers", 1, "--tile", tile, code=1)
    rows = manifest(tmp_path / "out")
    assert {name: row["status"] for name, row in rows.items()} == {
        "0.png": "ok", "1.png": "failed", "2.png": "ok", "3.png": "failed",
    }  # fmt: skip
    assert "not finite" in rows["1.png"]["error"]
    assert not (tmp_path / "out/1.png").exists()


def test_a_picture_that_is_not_decoded_in_time_fails_by_name_and_the_worker_lives_on(
    faces: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, over = (faces / "1.png").read_bytes(), threading.Event()

    def read(data: bytes) -> picture_job.Picture:
        if data == slow:
            over.wait(60)
        return read_picture(data)

    monkeypatch.setattr(picture_job, "read_picture", read)
    monkeypatch.setattr(run, "read_picture", read)
    start = time.monotonic()
    done = upscale(faces, tmp_path / "out", "--model", model, "--workers", 1, "--decode-seconds", 1, code=1)
    over.set()
    assert time.monotonic() - start < 30
    assert "3 done, 1 failed" in said(done)
    assert "not decoded within 1 s (--decode-seconds)" in manifest(tmp_path / "out")["1.png"]["error"]
    upscale(faces, tmp_path / "out", "--model", model, "--workers", 1)
    assert {row["status"] for row in manifest(tmp_path / "out").values()} == {"ok"}, "failed ones are tried again"


def test_a_time_limit_passes_results_and_errors_on_and_costs_next_to_nothing() -> None:
    assert within(9, lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        within(9, lambda: 1 / 0)
    with pytest.raises(DecodeTimeError):
        within(0.01, lambda: time.sleep(0.5))
    start = time.monotonic()
    for _ in range(200):
        within(9, int)
    assert time.monotonic() - start < 2
