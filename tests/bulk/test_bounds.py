"""What has an end: pictures that would hang a run or come out black fail by name; and what is said of it."""

import fcntl
import json
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from support.archives import as_zip
from support.upscaling import encoded, make_models, manifest, said, start, upscale

from pipeline.bulk import picture_job, run
from pipeline.bulk.picture_job import DecodeTimeError, within
from pipeline.bulk.settings import cores, quota
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

    def broken(self: ArrayUpscaler, low: torch.Tensor, told: Any) -> torch.Tensor:
        result = whole(self, low, told).clone()
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


def test_the_quota_of_a_container_bounds_the_cores(tmp_path: Path) -> None:
    proc, root = tmp_path / "cgroup", tmp_path / "fs"
    (root / "a/b").mkdir(parents=True)
    proc.write_text("0::/a/b\n")
    assert quota(proc, root) > 1e5
    (root / "a/b/cpu.max").write_text("max 100000\n")
    assert quota(proc, root) > 1e5
    (root / "a/cpu.max").write_text("250000 100000\n")
    assert quota(proc, root) == 2.5
    (root / "cpu,cpuacct/x").mkdir(parents=True)
    proc.write_text("4:memory:/x\n3:cpu,cpuacct:/x\n")
    (root / "cpu,cpuacct/x/cpu.cfs_quota_us").write_text("50000\n")
    (root / "cpu,cpuacct/x/cpu.cfs_period_us").write_text("100000\n")
    assert quota(proc, root) == 0.5
    assert cores() >= 1


# what is said


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_names_are_shown_as_they_are(options: tuple[str, ...], model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "[bold]in"
    folder.mkdir()
    for name in ("[red]x.png", "[-].png"):
        (folder / name).write_bytes(b"not a picture")
    source = as_zip(tmp_path / "[green]x.zip", {"[/].png": b"x", "[red]y[/red].png": b"y", "a.png": encoded(1)})
    for given, out in ((folder, "[/o].zip"), (source, "[red]")):
        done = upscale(given, tmp_path / out, "--model", model, "--workers", 1, *options, code=None)
        for name in ("[red]x.png", "[-].png") if given == folder else ("[/].png", "[red]y[/red].png"):
            assert name in said(done)
        if not options:
            assert out in said(done)


def test_standard_output_that_takes_ascii_alone_is_no_error(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/caf\u00e9-\U0001f600.png").write_bytes(b"x")
    environment = {"PYTHONIOENCODING": "ascii", "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}
    options = ("--model", model, "--workers", 1, "--json")
    process = start(tmp_path / "in", tmp_path / "out", *options, environment=environment)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    assert json.loads(output)["failures"][0]["name"] == "caf\u00e9-\U0001f600.png"


def test_a_dry_run_refuses_what_the_run_would(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(encoded(1))
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "busy/.facesr").mkdir(parents=True)
    with (tmp_path / "busy/.facesr/lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for out, words in (("busy", "another run is at work"), ("file/out", "nothing can be written into")):
            for options in ((), ("--dry-run",)):
                done = upscale(tmp_path / "in", tmp_path / out, "--model", model, "--workers", 1, *options, code=2)
                assert words in said(done)


@pytest.mark.parametrize("metadata", ["[]", "{", "5", '{"settings": []}', '{"settings": {}, "engine": 5}'])
def test_a_manifest_whose_record_is_none_is_named_on_one_line(metadata: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(encoded(1))
    upscale(tmp_path / "in", tmp_path / "out", "--model", model, "--workers", 1)
    path = tmp_path / "out/manifest.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({"facesr": metadata}), path)
    done = upscale(tmp_path / "in", tmp_path / "out", "--model", model, "--workers", 1, code=2)
    assert "manifest.parquet: not the record of a run" in said(done)
    upscale(tmp_path / "in", tmp_path / "out", "--model", model, "--workers", 1, "--overwrite")
