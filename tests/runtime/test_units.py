"""Work over Ray: every result arrives, a dead worker costs its unit only, and nothing is done twice after kill -9."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import torch
from support.pictures import face
from support.stages import KILLED, ROOT, files_of, python, run_stage, watch, write_params
from support.training import write_inputs
from support.workers import Squares

from pipeline.core.images import decode
from pipeline.models.checkpoint import save_generator
from pipeline.models.config import GeneratorConfig
from pipeline.models.networks import Generator
from pipeline.runtime.units import run_units


def runs(folder: Path, number: int) -> int:
    return len((folder / f"runs-{number}").read_text().splitlines())


# one Ray for all that this file asks of it, in an interpreter with a home of its own
ON_RAY = """
import json
import time
from pathlib import Path
import psutil
from support.workers import NoModel, Squares, double
from pipeline.runtime.nodes import node_alive, on_every_node
from pipeline.runtime.ray_session import prepare, session
from pipeline.runtime.units import run_units

def answers(units, **options):
    return sorted(run_units(Squares, (str(Path.cwd()),), units, **options), key=lambda answer: answer["number"])

def error(*arguments, **options):
    try:
        list(run_units(*arguments, **options))
    except Exception as raised:
        return f"{type(raised).__name__}: {raised}"

def pool():
    family = {process.pid for process in psutil.Process().children(recursive=True)}
    return [process.info["name"] for process in psutil.process_iter(["name"])
            if process.pid in family and "MapWorker" in process.info["name"]]

def sockets_of(process):
    try:
        return process.net_connections("inet")
    except psutil.NoSuchProcess:  # a worker that has just ended
        return []

with prepare(None), session(None):
    import ray
    report = {"address": ray.get_runtime_context().gcs_address}
    report["folder"] = ray._private.worker._global_node.get_session_dir_path()
    alive = []
    report["all"] = answers([{"number": n, "seconds": 0.2} for n in range(20)], workers=(2, 9), alive=alive.append)
    report["alive"] = alive
    report["dead"] = answers([{"number": 100 + number, "dies": 3 * (number == 3)} for number in range(8)], workers=2)
    report["none"] = answers([])
    report["error"] = error(Squares, (str(Path.cwd()),), [{"number": 13, "raises": True}], workers=2)
    report["built"] = error(NoModel, ("nowhere.safetensors",), [{}], workers=2)
    report["room"] = error(Squares, ("",), [{"number": 14}], cpus_per_worker=100_000)
    report["nodes"] = on_every_node(double, (21,), None)
    report["gone"] = [node_alive(""), node_alive("0" * 56)]
    for answer in run_units(Squares, (str(Path.cwd()),), [{"number": 200 + n, "seconds": 0.2} for n in range(50)]):
        break
    until = time.monotonic() + 20
    while pool() and time.monotonic() < until:
        time.sleep(0.2)
    report["pool"] = pool()
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    sockets = [socket for process in family for socket in sockets_of(process)]
    report["listening"] = sorted({socket.laddr.ip for socket in sockets if socket.status == "LISTEN"})
report["folder left"] = Path(report["folder"]).parent.exists()
report["left"] = len(psutil.wait_procs(family[1:], timeout=20)[1])
Path("report.json").write_text(json.dumps(report))
"""


@pytest.fixture(scope="module")
def on_ray(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where that happened; the actors run elsewhere and are given its whole path."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "home").mkdir()
    # an address in the environment is for those who ask for a cluster
    done = python(ON_RAY, folder, HOME=str(folder / "home"), RAY_ADDRESS="192.0.2.1:6379", timeout=200)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder


def report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def test_every_unit_gives_its_result_once_and_two_workers_share_them(on_ray: Path) -> None:
    answers = report(on_ray)["all"]
    assert [(answer["number"], answer["square"]) for answer in answers] == [(n, n * n) for n in range(20)]
    assert len({answer["process"] for answer in answers}) == 2
    assert all(runs(on_ray, number) == 1 for number in range(20))


def test_a_unit_whose_worker_dies_three_times_is_run_again_and_costs_no_other(on_ray: Path) -> None:
    assert (on_ray / "died-103").read_text() == "xxx"
    assert [answer["square"] for answer in report(on_ray)["dead"]] == [(100 + n) ** 2 for n in range(8)]
    assert runs(on_ray, 103) == 1


def test_an_error_in_a_worker_reaches_the_caller_as_its_message_alone(on_ray: Path) -> None:
    assert report(on_ray)["error"] == "WorkerError: unit 13 is bad luck"
    assert report(on_ray)["built"] == "WorkerError: no model at nowhere.safetensors"


def test_a_local_ray_leaves_no_folder_of_its_sessions_behind(on_ray: Path) -> None:
    assert Path(report(on_ray)["folder"]).parent.name.startswith("facesr-")
    assert report(on_ray)["folder left"] is False


def test_ray_prints_nothing_of_its_own_where_results_are_printed(on_ray: Path) -> None:
    assert (on_ray / "stdout").read_text() == ""


def test_the_caller_hears_how_many_workers_are_alive(on_ray: Path) -> None:
    assert max(report(on_ray)["alive"]) == 2


def test_a_caller_that_stops_early_ends_the_workers_and_leaving_the_session_ends_ray(on_ray: Path) -> None:
    assert report(on_ray)["pool"] == []
    assert report(on_ray)["left"] == 0


def test_a_function_runs_on_this_machine_as_on_every_node_and_unknown_nodes_count_as_dead(on_ray: Path) -> None:
    assert report(on_ray)["nodes"] == {"127.0.0.1": 42}
    assert report(on_ray)["gone"] == [True, False]


def test_a_worker_larger_than_the_machine_is_an_error_and_not_an_endless_wait(on_ray: Path) -> None:
    assert report(on_ray)["room"].startswith("NoRoomError: no node has 100000 CPUs")


def test_a_local_ray_listens_on_this_machine_alone_and_writes_no_token_into_the_home(on_ray: Path) -> None:
    assert report(on_ray)["address"].startswith("127.0.0.1:")
    assert {ip.removeprefix("::ffff:") for ip in report(on_ray)["listening"]} == {"127.0.0.1"}
    assert not (on_ray / "home" / ".ray" / "auth_token").exists()
    assert "auth_token" not in {path.name for path in (on_ray / "home").rglob("*")}


def test_no_units_and_one_worker_need_no_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it now fails
    assert list(run_units(Squares, (str(tmp_path),), [])) == []
    answers = list(run_units(Squares, (str(tmp_path),), [{"number": n} for n in range(3)], workers=1))
    assert [answer["square"] for answer in answers] == [0, 1, 4]
    assert {answer["process"] for answer in answers} == {os.getpid()}
    with pytest.raises(ImportError):
        list(run_units(Squares, (str(tmp_path),), [{"number": 5}], workers=2))


FOR_EVER = """
from support.workers import Squares
from pipeline.runtime.units import run_units
for answer in run_units(Squares, ("",), [{"number": n, "seconds": 0.5} for n in range(1000)], workers=2):
    print(answer["number"], flush=True)
"""


def test_ctrl_c_ends_the_caller_and_all_of_ray_without_a_word_from_the_workers(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    with subprocess.Popen(
        [sys.executable, "-c", FOR_EVER], cwd=tmp_path, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        running.stdout.readline()
        family = psutil.Process(running.pid).children(recursive=True)
        # to all of them at once, as a terminal does
        os.killpg(running.pid, signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert len(family) > 4
    assert psutil.wait_procs(family, timeout=20)[1] == []
    assert errors.count("Traceback") == 1
    assert errors.splitlines()[-1] == "KeyboardInterrupt"


# the upscale stage

CONFIG = GeneratorConfig((8,), blocks=0, bottleneck=1)
OPTIONS = {"augmented": {}, "kinds": [], "unit": 1, "precision": "fp32"}
KILL_AFTER_THREE = """
import os, signal
import pipeline.runtime.units as units
def three(*arguments, run=units.run_units, **options):
    for index, statistics in enumerate(run(*arguments, **options)):
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield statistics
units.run_units = three
"""


def project(folder: Path, workers: int) -> Path:
    for split, seeds in (("train", range(3)), ("test", range(10, 14))):
        write_inputs(folder / "data/inputs" / split, [face(seed, 64) for seed in seeds], split)
    for seed, name in enumerate(("fidelity", "realism")):
        torch.manual_seed(seed)
        generator = Generator(CONFIG)
        torch.nn.init.normal_(generator.to_rgb.weight, std=0.02)
        save_generator(folder / "models" / f"{name}.safetensors", generator, CONFIG, {}, torch.float16)
    write_params(folder, upscale=OPTIONS | {"workers": workers})
    return folder


def test_an_upscale_killed_midway_takes_up_where_it_was_and_gives_the_same_bytes(tmp_path: Path) -> None:
    whole, broken = project(tmp_path / "whole", 1), project(tmp_path / "broken", 2)
    undisturbed = run_stage("upscale", whole, OMP_NUM_THREADS="1")
    assert undisturbed.returncode == 0, undisturbed.stderr
    killed = run_stage("upscale", broken, KILL_AFTER_THREE, OMP_NUM_THREADS="1")
    assert killed.returncode == KILLED, killed.stderr
    (parts,) = (broken / "work" / "upscale").glob("*/parts")
    finished = set(parts.glob("*/*/[!.]*.parquet"))
    assert 3 <= len(finished) < 28
    assert not (broken / "data" / "upscaled").exists()
    for folder in ("facesr", "facesr-realism"):
        for scale in ("64to256", "256to1024"):
            (parts / folder / scale).mkdir(parents=True, exist_ok=True)
    # as many workers as one likes: what is left is the same work
    write_params(broken, upscale=OPTIONS | {"workers": 1})
    with watch(*parts.glob("*/*")) as seen:
        done = run_stage("upscale", broken, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert seen.arrived
    assert not {Path(path) for path in seen.arrived} & finished
    results = [files_of(folder / "data" / "upscaled") for folder in (whole, broken)]
    assert results[0] == results[1]
    assert set(results[0]) == {
        f"{method}/{scale}/{split}-00000.parquet"
        for method in ("facesr", "facesr-realism")
        for scale in ("64to256", "256to1024")
        for split in ("train", "test")
    }


def test_sigterm_ends_a_stage_on_ray_with_143_and_keeps_what_is_finished(tmp_path: Path) -> None:
    folder = project(tmp_path / "project", 2)
    stopped = run_stage("upscale", folder, KILL_AFTER_THREE.replace("SIGKILL", "SIGTERM"), OMP_NUM_THREADS="1")
    assert stopped.returncode == 143, stopped.stderr
    assert len(list((folder / "work" / "upscale").rglob("[!.]*.parquet"))) >= 3
    assert not (folder / "data" / "upscaled").exists()


def test_a_picture_that_cannot_be_enlarged_is_a_failed_row_and_the_others_are_done(tmp_path: Path) -> None:
    folder = project(tmp_path / "project", 1)
    path = folder / "data/inputs/test/test-00000.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[1]["image"]["bytes"] = rows[1]["image"]["bytes"][:500]
    pq.write_table(table.from_pylist(rows, schema=table.schema), path)
    failed = run_stage("upscale", folder)
    assert failed.returncode == 1
    # by both generators; a face under 256 is not enlarged at 64to256
    assert "2 pictures failed" in " ".join(failed.stderr.split())
    assert not (folder / "data" / "upscaled").exists()
    # every other picture was enlarged, with its row in its place
    rows = [row for part in sorted(folder.glob("work/upscale/*/parts/facesr/256to1024/test-*.parquet"))
            for row in pq.read_table(part).to_pylist()]  # fmt: skip
    assert [row["status"] for row in rows] == ["ok", "failed", "ok", "ok"]
    assert rows[1]["image"] is None or rows[1]["image"]["bytes"] is None
    assert "truncated" in rows[1]["error"]
    assert decode(rows[0]["image"]["bytes"]).shape == (256, 256, 3)
