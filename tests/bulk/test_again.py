"""The same command again: after other options, kills at the very end, a run beside it, patterns that match OUTPUT."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.archives import as_zip
from support.stages import ROOT
from support.upscaling import encoded, make_models, manifest, pictures, said, upscale

from pipeline.bulk import ownership


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


def faces(folder: Path, count: int = 6) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        (folder / f"p{index}.png").write_bytes(encoded(index))
    return folder


def written(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix in (".png", ".jpg")}


@pytest.mark.parametrize(("before", "after"), [("png", "jpeg"), ("jpeg", None)])
def test_resume_ends_a_run_in_its_own_format_whatever_is_asked_for(
    before: str, after: str | None, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, options = faces(tmp_path / "in"), ("--model", model, "--workers", 1)
    asked = (*options, *(("--format", after) if after else ()), "--resume")
    out, end = tmp_path / "out", {"png": ".png", "jpeg": ".jpg"}[before]
    upscale(source, out, *options, "--format", before)
    there = written(out)
    upscale(source, out, *asked)
    assert written(out) == there, "all was done"
    assert {Path(row["file"]).suffix for row in manifest(out).values()} == {end}
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.bulk.run.assemble", lambda *_: (_ for _ in ()).throw(OSError("power loss")))
        upscale(source, tmp_path / "out.zip", *options, "--format", before, code=1)
    upscale(source, tmp_path / "out.zip", *asked)
    shutil.unpack_archive(tmp_path / "out.zip", tmp_path / "unpacked")
    assert pictures(tmp_path / "unpacked") == pictures(out)
    assert {Image.open(path).format for path in (tmp_path / "unpacked").iterdir()} == {before.upper()}


KILLED = """
import os, signal, sys
from pipeline.storage.path import StoragePath

kind = type(StoragePath.of("/tmp"))
remove = kind.remove_tree


def killed(self):
    remove(self)
    if self.uri.endswith("/parts") and os.path.exists(os.environ["MANIFEST"]):
        os.kill(os.getpid(), signal.SIGKILL)


kind.remove_tree = killed
from pipeline.cli import app

app()
"""


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_a_kill_while_a_finished_run_tidies_up_costs_nothing(name: str, model: Path, tmp_path: Path) -> None:
    source, out = faces(tmp_path / "in"), tmp_path / name
    command = [sys.executable, "-c", KILLED, "upscale", source, out, "--model", model, "--workers", "1"]
    done = out / "manifest.parquet" if name == "out" else tmp_path / "out.zip.manifest.parquet"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MANIFEST": str(done)}
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == -9
    work = out / ".facesr" if name == "out" else tmp_path / ".out.zip.facesr"
    assert work.is_dir()
    there = written(out) if name == "out" else out.stat().st_mtime_ns
    assert "nothing was left to do" in said(upscale(source, out, "--model", model, "--workers", 1))
    assert there == (written(out) if name == "out" else out.stat().st_mtime_ns)
    assert not work.exists()


def test_rows_of_a_run_whose_end_was_cut_short_are_not_taken_for_those_of_another(model: Path, tmp_path: Path) -> None:
    source, out = faces(tmp_path / "in"), tmp_path / "out"
    options = ("--model", model, "--workers", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.bulk.run.remove_work", lambda output: output.job.remove())
        upscale(source, out, *options)
    whole = {name: data for name, data in pictures(out).items() if not name.startswith(".")}
    (out / "p1.png").unlink()
    upscale(source, out, *options)
    assert pictures(out) == whole


def test_a_run_that_begins_while_another_tidies_up_waits_its_turn_and_keeps_its_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = faces(tmp_path / "in", 3), tmp_path / "out"
    options = ("--model", model, "--workers", 1)
    refused = []

    def slow(output: ownership.Output) -> None:
        if not refused:
            faces(source, 6)
            refused.append(said(upscale(source, out, *options, code=2)))
        ownership.remove_work(output)

    monkeypatch.setattr("pipeline.bulk.run.remove_work", slow)
    upscale(source, out, *options)
    assert "another run is at work on it" in refused[0]
    upscale(source, out, *options)
    assert len(pictures(out)) == 6
    assert not (out / ".facesr").exists()


def test_a_plan_that_another_run_has_made_old_is_made_anew(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = faces(tmp_path / "in", 3), tmp_path / "out"
    options = ("--model", model, "--workers", 1)
    locked, others = ownership.locked, []

    @contextmanager
    def late(output: ownership.Output) -> Iterator[None]:
        if not others:
            others.append(1)
            upscale(source, out, *options)
            others.append(written(out))
        with locked(output):
            yield

    monkeypatch.setattr("pipeline.bulk.run.locked", late)
    done = upscale(source, out, *options)
    assert "nothing was left to do" in said(done)
    assert written(out) == others[1]


def test_a_pattern_does_not_stand_for_results(model: Path, tmp_path: Path) -> None:
    source, options = faces(tmp_path / "in", 3), ("--model", model, "--workers", 1)
    bad = source / "bad.png"
    bad.write_bytes(b"no picture")
    upscale(source / "*", source / "out", *options, "--strict", code=1)
    bad.unlink()
    upscale(source / "*", source / "out", *options)
    assert "nothing was left to do" in said(upscale(source / "*", source / "out", *options))
    assert "out: made by facesr upscale, passed over" in said(upscale(source / "*", tmp_path / "out2", *options))
    assert pictures(tmp_path / "out2") == pictures(source / "out")

    as_zip(tmp_path / "a.zip", {"a.png": encoded(1)})
    as_zip(tmp_path / "b.zip", {"b.png": encoded(2)})
    upscale(tmp_path / "*.zip", tmp_path / "all.zip", *options)
    assert "nothing was left to do" in said(upscale(tmp_path / "*.zip", tmp_path / "all.zip", *options))
    upscale(tmp_path / "*.zip", tmp_path / "more", *options)
    assert {row["height"] for row in manifest(tmp_path / "more").values()} == {
        4 * np.asarray(Image.open(source / "p0.png")).shape[0]
    }
    assert len(manifest(tmp_path / "more")) == 2


def test_a_pattern_of_results_alone_means_them(model: Path, tmp_path: Path) -> None:
    source, options = faces(tmp_path / "in", 1), ("--model", model, "--workers", 1)
    for name in ("one.zip", "two.zip"):
        upscale(source, tmp_path / name, *options)
    upscale(tmp_path / "*.zip", tmp_path / "again", *options)
    assert len(manifest(tmp_path / "again")) == 2


def test_a_dry_run_leaves_no_folder(model: Path, tmp_path: Path) -> None:
    source = faces(tmp_path / "in", 2)
    shutil.make_archive(str(tmp_path / "in"), "gztar", source)
    before = sorted(tmp_path.rglob("*"))
    upscale(tmp_path / "in.tar.gz", tmp_path / "a/b/c/out", "--model", model, "--workers", 1, "--dry-run")
    upscale(tmp_path / "in.tar.gz", tmp_path / "x/y/out.zip", "--model", model, "--workers", 1, "--dry-run")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_what_is_no_file_is_refused_at_once(kind: str, model: Path, tmp_path: Path) -> None:
    place = tmp_path / "fifo" if kind == "fifo" else Path("/dev/zero")
    if kind == "fifo":
        os.mkfifo(place)
    done = upscale(place, tmp_path / "out", "--model", model, "--workers", 1, code=2)
    assert "a FIFO, socket or device, no file" in said(done)


def test_an_empty_name_is_not_the_current_folder(model: Path, tmp_path: Path) -> None:
    for names in (("", tmp_path / "out"), (faces(tmp_path / "in", 1), "")):
        assert "PUT is empty" in said(upscale(*names, "--model", model, "--workers", 1, code=2))


def test_a_full_disk_is_said_with_its_place_and_what_to_do(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("pipeline.bulk.run.assemble", lambda *_: (_ for _ in ()).throw(full))
    done = upscale(faces(tmp_path / "in", 1), tmp_path / "out.zip", "--model", model, "--workers", 1, code=1)
    assert "out.zip: the disk is full; make room" in said(done)


def test_json_that_nobody_reads_is_no_error(model: Path, tmp_path: Path) -> None:
    source = faces(tmp_path / "in", 1)
    command = [sys.executable, "-m", "pipeline.cli", "upscale", source, tmp_path / "out", "--model", model, "--json"]
    words = " ".join(f"'{word}'" for word in command)
    done = subprocess.run(f"{words} >&-", shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
