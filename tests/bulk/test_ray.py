"""`facesr upscale` on Ray: workers that die, pictures that kill them, object stores."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from PIL import PngImagePlugin
from support.stages import ROOT
from support.upscaling import encoded, make_models, manifest, picture, pictures, start, upscale

from pipeline.bulk.crash_journal import CrashJournal
from pipeline.bulk.node_check import Machine, Node, _problems
from pipeline.storage.path import StoragePath

POISON = """
import os, PIL.Image
opened = PIL.Image.open
def deadly(file, *arguments, **options):
    if hasattr(file, "getvalue") and b"kills its worker" in file.getvalue():
        os.kill(os.getpid(), 9)
    return opened(file, *arguments, **options)
PIL.Image.open = deadly
"""
"""A sitecustomize: the picture that holds these words ends the process that decodes it."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


def faces(tmp_path: Path, count: int, side: int = 96) -> Path:
    source = tmp_path / "faces.zip"
    with zipfile.ZipFile(source, "w") as file:
        for index in range(count):
            file.writestr(f"{index:03d}.png", encoded(index, width=side, height=side))
    return source


def test_a_picture_that_kills_its_worker_twice_is_named_and_skipped_and_all_others_are_done(
    model: Path, tmp_path: Path
) -> None:
    source = faces(tmp_path, 36)
    words = PngImagePlugin.PngInfo()
    words.add_text("note", "kills its worker")
    picture(1).save(tmp_path / "poison.png", pnginfo=words)
    with zipfile.ZipFile(source, "a") as file:
        file.write(tmp_path / "poison.png", "poison.png")
        for index in range(4):
            file.writestr(f"after-{index}.png", encoded(50 + index))
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(POISON)
    process = start(
        source, tmp_path / "out", "--model", model, "--workers", 2,
        environment={"PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 1, errors
    rows = manifest(tmp_path / "out")
    assert rows["poison.png"]["status"] == "skipped"
    assert "killed its worker twice" in rows["poison.png"]["error"]
    assert len(rows) == 41
    assert {row["status"] for name, row in rows.items() if name != "poison.png"} == {"ok"}
    upscale(faces(tmp_path, 36), tmp_path / "alone", "--model", model, "--workers", 1)
    there = pictures(tmp_path / "out")
    assert all(there[name] == data for name, data in pictures(tmp_path / "alone").items())


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    return [
        child for child in process.children(recursive=True) if "_Actor" in child.name() or "MapWorker" in child.name()
    ]


@pytest.mark.parametrize("victim", ["a worker", "the run"])
def test_kill_9_of_a_worker_or_of_the_run_changes_no_byte(victim: str, model: Path, tmp_path: Path) -> None:
    source = faces(tmp_path, 96)
    process = start(source, tmp_path / "out", "--model", model, "--workers", 2)
    deadline = time.monotonic() + 150
    while not list((tmp_path / "out/.facesr").glob("parts/*/*.parquet")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    if victim == "a worker":
        found = workers_of(psutil.Process(process.pid))
        assert found, [child.name() for child in psutil.Process(process.pid).children(recursive=True)]
        found[0].kill()
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    else:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (tmp_path / "out/manifest.parquet").exists()
        # with another number of workers: the engine is on record
        upscale(source, tmp_path / "out", "--model", model, "--workers", 1)
    assert {row["status"] for row in manifest(tmp_path / "out").values()} == {"ok"}
    upscale(source, tmp_path / "whole", "--model", model, "--workers", 1)
    assert pictures(tmp_path / "out") == pictures(tmp_path / "whole")
    assert not (tmp_path / "out/.facesr").exists()


# the journal


def alive(node: str) -> bool:
    return node != "lost"


def tries(place: StoragePath, *attempts: tuple[str, str, list[list[int]], bool]) -> None:
    """Tries of which each begins and ends pictures: (run, node, groups begun, closed); the last group is left open."""
    for run, node, groups, closed in attempts:
        journal = CrashJournal(place, run, node, alive)
        for group in groups[:-1]:
            journal.begin(group)
            journal.end(group)
        journal.begin(groups[-1])
        if closed:
            journal.close()


@pytest.mark.parametrize("node", ["node", ""], ids=["on Ray", "without"])
def test_what_was_in_work_at_a_death_is_suspect_and_what_was_alone_at_two_is_poison(node: str, tmp_path: Path) -> None:
    place = StoragePath.of(tmp_path / "journal")
    tries(place, ("run", node, [[0, 1], [2, 3]], False))
    for poison in (set(), set(), {3}):
        journal = CrashJournal(place, "run", node, alive)
        assert (journal.suspects, journal.poison) == ({2, 3} - poison, poison)
        journal.begin([2])
        journal.end([2])
        journal.begin([3])


@pytest.mark.parametrize(
    ("run", "node", "closed"), [("earlier", "node", False), ("run", "lost", False), ("run", "node", True)],
    ids=["the run was killed", "the node was lost", "it stopped by itself"],
)  # fmt: skip
def test_a_death_that_has_a_reason_of_its_own_makes_nobody_suspect(
    run: str, node: str, closed: bool, tmp_path: Path
) -> None:
    place = StoragePath.of(tmp_path / "journal")
    tries(place, (run, node, [[1]], closed), (run, node, [[1]], closed))
    journal = CrashJournal(place, "run", "node", alive)
    assert not journal.suspects | journal.poison


def test_without_ray_deaths_count_over_several_runs(tmp_path: Path) -> None:
    place = StoragePath.of(tmp_path / "journal")
    tries(place, ("a", "", [[0, 1]], False), ("b", "", [[1]], False))
    assert CrashJournal(place, "c", "", alive).suspects == {0, 1}
    tries(place, ("d", "", [[1]], False))
    assert CrashJournal(place, "e", "", alive).poison == {1}


def test_a_journal_cut_off_in_a_line_is_read_up_to_there(tmp_path: Path) -> None:
    place = StoragePath.of(tmp_path / "journal")
    tries(place, ("run", "node", [[4]], False))
    path = tmp_path / "journal"
    path.write_bytes(path.read_bytes() + b'{"end": [')
    assert CrashJournal(place, "run", "node", alive).suspects == {4}


# nodes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"code": "other"}, "another facesr"),
        ({"files": {"w": None}}, "has no w"),
        ({"files": {"w": "b"}}, "other weights"),
        ({"marker": None}, "does not see OUTPUT"),
        ({"input": None}, "does not see INPUT"),
        ({"input": ["file", 8]}, "does not see INPUT"),
        ({}, None),
    ],
)
def test_what_differs_on_a_node_is_said(change: dict[str, object], words: str | None) -> None:
    here = Node(Machine("fp32", 2, 0), "1", "c", {"w": "a"}, "secret", ["file", 7])
    problems = _problems(replace(here, **change), here)
    assert (not problems) if words is None else words in problems[0]


# signals


@pytest.mark.parametrize(
    ("number", "code", "workers"), [(signal.SIGTERM, 143, 2), (signal.SIGHUP, 129, 1)], ids=["on Ray", "without"]
)
def test_a_run_that_is_told_to_end_does_so_at_once_quietly_and_with_its_own_code(
    number: signal.Signals, code: int, workers: int, model: Path, tmp_path: Path
) -> None:
    # Ray's sockets in there would have too long a path
    long = tmp_path / ("x" * 60)
    long.mkdir()
    source = faces(tmp_path, 96)
    options = ("--model", model, "--workers", workers)
    process = start(source, tmp_path / "out", *options, environment={"TMPDIR": str(long)})
    deadline = time.monotonic() + 150
    while not list((tmp_path / "out/.facesr").glob("parts/*/*.parquet")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    # on a busy machine it says what it is at: "load torch …"
    said = [line for line in errors.splitlines() if not line.endswith(" …")]
    assert (process.returncode, output, said) == (code, "", [])
    assert len(family) > 4 or workers == 1
    assert psutil.wait_procs(family, timeout=20)[1] == []
    assert (tmp_path / "out/.facesr/job.json").exists(), "what is done is kept"


def test_what_keeps_hangups_off_a_run_is_left_alone() -> None:
    words = "import signal; from pipeline.runtime.signals import exit_on_sigterm; exit_on_sigterm(); "
    words += "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    for prefix, ignored in ([], b"False"), (["nohup"], b"True"):
        done = subprocess.run([*prefix, sys.executable, "-c", words], cwd=ROOT, capture_output=True, check=True)
        assert done.stdout.strip() == ignored
