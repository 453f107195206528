"""Training in several processes gives what one gives, and a stop, a death or a bad setting ends as with one."""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.pictures import face
from support.stages import ROOT, files_of, python, run_stage
from support.training import TINY_TRAIN, tiny_config, train_project, write_inputs, write_manifest

from pipeline.models.checkpoint import load_generator
from pipeline.params.all_sections import load_params
from pipeline.train.engine.batches import PairData
from pipeline.train.engine.loop import Training
from pipeline.train.phases import TrainRun, dependencies, train_phases

pytestmark = [pytest.mark.usefixtures("fixed_threads"), pytest.mark.timeout(1300)]

SETTINGS: dict[str, Any] = TINY_TRAIN | {
    "realism": TINY_TRAIN["realism"] | {"steps": 14},
    "batch": 4,
    "workers": 2,
}

# the phases' folders hold states at their validations, every 10 steps: the moments at which something happens
MISFORTUNES = """
import os, pathlib, signal, time
project = pathlib.Path(PROJECT)
def rename_and_suffer(source, target, rename=os.replace):
    rename(source, target)
    happened = pathlib.Path(__file__).parent / str(target).replace("/", "-")[-40:]
    if str(target).endswith("fidelity/state-00000010.safetensors") and not happened.exists():
        happened.touch()
        os.kill(int(os.environ["DRIVER"]), signal.SIGTERM)
        while not list(project.glob("work/train/*/stop")):
            time.sleep(0.02)
    if str(target).endswith("realism/state-00000010.safetensors") and not happened.exists():
        happened.touch()
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = rename_and_suffer
"""
"""A sitecustomize.py: every interpreter runs it first, also those that Ray starts."""


PATIENCE = 600
"""Seconds: Ray starts a dozen processes, 40 CPU-seconds of imports, and the cores may be busy with other things."""


def project(folder: Path, **changes: Any) -> Path:
    return train_project(folder, **SETTINGS | changes)


class Run:
    """A stage with two workers that got SIGTERM in its first phase, was run again, and then lost a worker."""

    def __init__(self, folder: Path, site: Path):
        self.folder = project(folder)
        self.site = site
        (site / "sitecustomize.py").write_text(MISFORTUNES.replace("PROJECT", repr(str(folder))))

    def stage(self) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join(map(str, (self.site, ROOT, ROOT / "tests")))
        driver = "import os\nos.environ['DRIVER'] = str(os.getpid())\n"
        environment = {"PYTHONPATH": paths, "HOME": str(self.site), "OMP_NUM_THREADS": "1"}
        return run_stage("train", self.folder, driver, timeout=PATIENCE, **environment)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("stage"), tmp_path_factory.mktemp("site"))
    run.stopped = run.stage()
    run.states = ["/".join(path.parts[-2:]) for path in sorted(run.folder.glob("work/train/*/*/state-*"))]
    return run


@pytest.fixture(scope="module")
def troubled(stopped: Run) -> Run:
    stopped.done = stopped.stage()
    return stopped


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_generator(path)[0].state_dict()


SAME = 5e-4
"""Between weights: two steps of the half precision that they are written in."""


def furthest(a: Path, b: Path) -> float:
    """Largest difference of any weight."""
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


PLAIN = """
import os
from pathlib import Path
import torch
import torch.distributed as dist
from pipeline.params.all_sections import load_params
from pipeline.train.phases import TrainRun, dependencies, train_phases
torch.set_num_threads(1)
dist.init_process_group("gloo", f"file://{Path('meeting').resolve()}", rank=int(os.environ["RANK"]), world_size=2)
settings, inputs, manifest = load_params().train, Path("data/inputs"), Path("data/pairs.parquet")
facts = dependencies(settings, inputs, manifest)
assert train_phases(TrainRun(settings, inputs, manifest, Path("plain"), facts), lambda: False)
dist.destroy_process_group()  # gloo's threads, which otherwise may still run when the process ends, and abort it
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of two processes that need no Ray and that nothing happens to."""
    folder = project(tmp_path_factory.mktemp("plain"))
    with ThreadPoolExecutor(2) as pool:
        ranks = [pool.submit(python, PLAIN, folder, timeout=PATIENCE, RANK=str(rank)) for rank in range(2)]
        for rank in ranks:
            assert rank.result().returncode == 0, rank.result().stderr
    return folder / "plain"


# the same result


def test_two_workers_learn_what_one_learns_with_the_same_batch(undisturbed: Path, tmp_path: Path) -> None:
    data = undisturbed.parent / "data"
    settings = load_params(undisturbed.parent / "params.yaml").train.model_copy(update={"workers": 1})
    files = data / "inputs", data / "pairs.parquet"
    facts = dependencies(settings, *files)
    # both from the same fidelity weights: Adam makes whole steps of what they differ by in the last digit
    starts = {"fidelity": None, "realism": undisturbed / "fidelity/generator.safetensors"}
    alone: dict[str, Path] = {}
    for phase, start in starts.items():
        alone |= train_phases(TrainRun(settings, *files, tmp_path, facts, (phase,), start), lambda: False) or {}
    assert alone.keys() == starts.keys()
    for phase, result in alone.items():
        together = undisturbed / phase / "generator.safetensors"
        assert furthest(result, together) < SAME
        assert load_generator(result)[1]["provenance"] == load_generator(together)[1]["provenance"]
    # which says something, since a phase moves the weights much further than that
    assert furthest(*alone.values()) > 10 * SAME


def test_accumulated_gradients_give_the_whole_batchs_result(tmp_path: Path) -> None:
    images = write_inputs(tmp_path / "train", [face(index) for index in range(6)], "train")
    write_manifest(tmp_path / "pairs.parquet", images)
    data = PairData(tmp_path / "train", tmp_path / "pairs.parquet", "train")
    terms = {"adversarial": 0.05, "perceptual": 0.1, "layers": ("relu1_1",), "steps": 10}
    config = tiny_config(**terms, batch=4, precision="fp32")
    whole, parts = (
        Training(replace(config, accumulate=count), data, [], tmp_path / str(count)).run() for count in (1, 4)
    )
    assert furthest(whole, parts) < SAME
    # a batch of one such part is something else
    less = replace(config, batch=1)
    assert furthest(whole, Training(less, data, [], tmp_path / "less").run()) > 10 * SAME


# stopped, killed


def test_sigterm_to_a_stage_with_two_workers_saves_the_state_and_exits_143(stopped: Run) -> None:
    assert stopped.stopped.returncode == 143, stopped.stopped.stderr
    # validation saves every tenth step; the one after it is the stop's
    assert stopped.states == ["fidelity/state-00000010.safetensors", "fidelity/state-00000011.safetensors"]


def test_a_worker_that_is_killed_is_replaced_and_the_training_goes_on_from_the_last_state(troubled: Run) -> None:
    assert troubled.done.returncode == 0, troubled.done.stderr
    assert [line for line in troubled.done.stderr.splitlines() if "a training process died" in line]


def test_a_run_stopped_and_killed_ends_with_the_bits_of_an_undisturbed_one(troubled: Run, undisturbed: Path) -> None:
    for phase in ("fidelity", "realism"):
        result = troubled.folder / f"models/{phase}.safetensors"
        assert result.read_bytes() == (undisturbed / phase / "generator.safetensors").read_bytes()
        logs = troubled.folder / "reports/train" / phase, undisturbed / phase / "log"
        for pattern in ("*.json", "plots/**/*"):  # sheets of before a stop are not drawn again
            assert files_of(logs[0], pattern) == files_of(logs[1], pattern) != {}


def test_the_driver_shows_how_far_the_workers_are(troubled: Run) -> None:
    assert "fidelity: 20/20" in troubled.done.stderr
    assert "realism: 14/14" in troubled.done.stderr


def test_training_on_ray_leaves_nothing_beside_its_results_and_nothing_at_home(troubled: Run) -> None:
    names = {name.split("/")[0] for name in files_of(troubled.folder)}
    assert names == {"data", "models", "reports", "params.yaml"}
    assert not [name for name in files_of(troubled.site) if "ray" in name]


def test_a_process_that_helps_leaves_it_to_rank_0_to_end_early(tmp_path: Path) -> None:
    images = write_inputs(tmp_path / "train", [face(0)], "train")
    write_manifest(tmp_path / "pairs.parquet", images)
    data = PairData(tmp_path / "train", tmp_path / "pairs.parquet", "train")
    helper = Training(tiny_config(steps=6, validate_every=2, patience=1), data, data.pairs("16to64", 1), tmp_path)
    helper.group.rank, helper._share = 1, lambda: slice(None)
    helper.best = (0, 99.0)  # as resumed from a state that is no longer the newest
    helper.run()
    assert helper.step == 6


# what cannot work

HOPELESS = """
import os, threading, time
import psutil
from pipeline.runtime.ray_session import session
from pipeline.runtime.stage import run_stage
from pipeline.params.train import Train
from stages.train import main

listening = set()
def look():
    while True:
        for process in psutil.Process().children(recursive=True):
            try:
                sockets = process.net_connections("inet")
            except psutil.Error:
                continue
            listening.update(socket.laddr.ip for socket in sockets if socket.status == "LISTEN")
        time.sleep(1)

with session(None):
    threading.Thread(target=look, daemon=True).start()
    for name in ("crowded", "diverging"):
        os.chdir(name)
        try:
            run_stage(main, train=Train)
        except SystemExit as end:
            print(name, end.code)
        os.chdir("..")
print("listening", *sorted({ip.removeprefix("::ffff:") for ip in listening}))
"""


@pytest.fixture(scope="module")
def hopeless(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    folder = tmp_path_factory.mktemp("hopeless")
    project(folder / "crowded", workers=500, batch=500)
    project(folder / "diverging", fidelity=SETTINGS["fidelity"] | {"pixel": 1e300})
    return python(HOPELESS, folder, timeout=PATIENCE, OMP_NUM_THREADS="1")


def test_more_workers_than_the_machine_has_room_for_are_an_error_and_not_an_endless_wait(
    hopeless: subprocess.CompletedProcess[str],
) -> None:
    assert "crowded 1" in hopeless.stdout, hopeless.stderr
    assert "NoRoomError: train.workers is 500, with 1 CPU each, but there is room for" in hopeless.stderr


def test_a_diverging_run_says_step_and_term_in_one_line_and_is_not_tried_again(
    hopeless: subprocess.CompletedProcess[str],
) -> None:
    assert "diverging 1" in hopeless.stdout, hopeless.stderr
    (line,) = [line for line in hopeless.stderr.splitlines() if "DivergedError" in line]
    assert line.startswith("DivergedError: step 1: the gradient_norm term is ")
    assert "Traceback" not in hopeless.stderr
    assert "a training process died" not in hopeless.stderr


def test_training_on_one_machine_listens_on_that_machine_alone(hopeless: subprocess.CompletedProcess[str]) -> None:
    assert hopeless.stdout.splitlines()[-1] == "listening 127.0.0.1"


def test_one_worker_needs_no_ray(tmp_path: Path) -> None:
    folder = project(tmp_path, workers=1, fidelity={**SETTINGS["fidelity"], "steps": 1}, realism=SETTINGS["fidelity"])
    done = run_stage("train", folder, "import sys\nsys.modules['ray'] = None\n", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "reports/train/fidelity/metrics.json").read_text())["step"] == 1
