"""Work on a cluster: nodes that come get work, and what a node that goes had in hand is done elsewhere."""

import json

import pytest
from support.stages import python

# one cluster for all that this file asks of it: a head and two more nodes, all on this machine
ON_CLUSTER = """
import json
import sys
from pathlib import Path
from support import workers
from support.workers import Share, Squares, double, hang
from support.archives import as_zip
from support.pictures import face
from support.stages import files_of
from pipeline.runtime.nodes import on_every_node
from pipeline.runtime.ray_session import session
from pipeline.runtime.units import run_units
from pipeline.core.images import encode_png
from pipeline.ingest.run import ingest
from pipeline.params.ingest import Ingest
from ray.cluster_utils import Cluster

folder = str(Path.cwd())
NODE = {"object_store_memory": 100 * 2**20}
# a lost node is found to be dead within two seconds instead of fifteen
soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 400, "health_check_failure_threshold": 4}
head = {"num_cpus": 1, "include_dashboard": False, "_system_config": soon}
cluster = Cluster(initialize_head=True, head_node_args=head | NODE)
mortal = cluster.add_node(num_cpus=1, **NODE)

def error(*arguments, **options):
    try:
        on_every_node(*arguments, cluster.address, **options)
    except Exception as raised:
        return f"{type(raised).__name__}: {raised}"

report = {"first": mortal.node_id, "answers": [], "alive": []}
with session(cluster.address):
    report["every"] = on_every_node(double, (4,), cluster.address)
    report["late"] = error(hang, (4,), seconds=1)
    # a module that only the driver finds
    Path("elsewhere").mkdir()
    Path("elsewhere/driver_only.py").write_text("def nothing(): pass")
    sys.path.insert(0, str(Path("elsewhere").resolve()))
    import driver_only
    report["missing"] = error(driver_only.nothing, ())

    # many units that take their time, until all has happened: Ray Data looks for new nodes every 20 seconds
    units = [{"number": n, "seconds": 1.0, "nodes": [mortal.node_id, ""]} for n in range(200)]
    for answer in run_units(
        Squares, (folder,), units, workers=(1, 40), address=cluster.address, alive=report["alive"].append
    ):
        report["answers"].append(answer)
        if "joined" not in report:
            report["joined"] = cluster.add_node(num_cpus=2, num_gpus=1, **NODE).node_id
        elif "lost" not in report and answer["node"] == report["joined"]:
            report["lost"] = len(report["answers"])
            cluster.remove_node(mortal, allow_graceful=False)
        elif not answer["alive"][mortal.node_id]:
            Path("fast").touch()
    # with a GPU, all of its node goes with it
    report["share"] = list(run_units(Share, (), [{}], gpus_per_worker=None, address=cluster.address))
    # a relative source, as params name it
    faces = {f"{index:03d}.png": encode_png(face(index)) for index in range(70)}
    as_zip(Path("faces.zip"), faces)
    source = {"kind": "archive", "path": "faces.zip", "splits": {"train": "rest", "test": 9}}
    for out, running in (("far", {"address": cluster.address}), ("near", {"workers": 1})):
        settings = Ingest(sources=[source], size=64, min_size=64, seed=1, max_failed=None, **running)
        ingest(settings, Path(out), Path("work"))
    report["ingested"] = files_of(Path("far")) == files_of(Path("near")) and len(files_of(Path("far"))) == 5
cluster.shutdown()
Path("report.json").write_text(json.dumps(report))
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("cluster")
    done = python(ON_CLUSTER, folder, RAY_AUTH_MODE="disabled", timeout=290)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return json.loads((folder / "report.json").read_text())


def test_a_node_that_joins_gets_work_and_room_that_never_comes_is_not_waited_for(report: dict) -> None:
    assert report["joined"] in {answer["node"] for answer in report["answers"]}
    assert 2 < max(report["alive"]) < 40


def test_a_lost_node_costs_nothing_and_every_result_arrives_once(report: dict) -> None:
    assert sorted(answer["number"] for answer in report["answers"]) == list(range(200))
    # it had done some, and something was left to do
    assert report["first"] in {answer["node"] for answer in report["answers"]}
    assert report["lost"] < 190


def test_a_worker_knows_where_it_runs_and_that_a_lost_node_is_dead(report: dict) -> None:
    first, last = report["answers"][0], report["answers"][-1]
    assert first["alive"] == {report["first"]: True, "": True}
    assert last["alive"] == {report["first"]: False, "": True}
    assert last["node"] not in ("", report["first"])


def test_a_worker_with_a_gpu_gets_the_cores_that_go_with_it(report: dict) -> None:
    (share,) = report["share"]
    assert (share["CPU"], share["GPU"]) == (2, 1)


def test_a_function_runs_once_on_every_node(report: dict) -> None:
    assert len(report["every"]) == 2
    assert set(report["every"].values()) == {8}


def test_a_node_without_the_package_or_without_an_answer_is_named_in_one_line(report: dict) -> None:
    first = next(iter(report["every"]))
    address = first.split()[0]
    assert report["missing"].startswith(f"WorkerError: node {address}")
    assert "cannot import driver_only (No module named 'driver_only'): install the same package" in report["missing"]
    assert report["late"].startswith(f"WorkerError: no answer within 1 s from node {address}")
    assert "\n" not in report["missing"] + report["late"]


def test_a_cluster_ingests_an_archive_to_the_same_bytes_as_this_process(report: dict) -> None:
    assert report["ingested"] is True
