"""Everything Ray Train, and nothing else: one training in several processes, on one machine or a cluster.

Every process runs `train_phases` as a process alone would; pipeline/train/engine/process_group.py makes one training of
them. The driver starts them, shows how far they are, hands SIGTERM on, and starts them anew from the last state when
one of them dies. All nodes see the project's folder under one path; nothing is written outside `work` and Ray's own
folder.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from pipeline.core.errors import FacesrError
from pipeline.params.train import Train
from pipeline.runtime.console import Advance, console, progress
from pipeline.runtime.ray_patches import without_helpers
from pipeline.runtime.ray_session import NoRoomError, WorkerError, one_line, session
from pipeline.train.engine.loop import steps_done
from pipeline.train.live_log import SHOWN
from pipeline.train.phases import TrainRun, train_phases

_STOP = "stop"
"""A file in the work folder: processes that see it save their state and end."""

TRIES = 3
"""Times that processes may die one after the other without a new state in between."""

STOP_SECONDS = 300.0
"""How long a stop waits for the processes to save; some may never have started, or hang on a node that is gone."""

_FINAL = (FacesrError, ValueError, OSError)
"""What a process raises for a reason that stays: a diverged loss, too little memory, a full disk, damaged files."""


def train_on_ray(run: TrainRun, should_stop: Callable[[], bool]) -> dict[str, Path] | None:
    """`train_phases` in `train.workers` processes under Ray Train; arguments and result are the same.

    Raises:
        NoRoomError: Ray would wait for ever.
        DivergedError, OutOfMemoryError: see `Training.run`.
        WorkerError: workers kept dying; the last state is kept.
    """
    run.work.mkdir(parents=True, exist_ok=True)
    stop = run.work / _STOP
    stop.unlink(missing_ok=True)
    if _finished(run):
        return run.results
    with session(run.settings.address):
        deaths = 0
        while not should_stop():
            states = _states(run.work)
            error = _try(run, stop, should_stop)
            if _finished(run):
                return run.results
            if isinstance(error, _FINAL):
                raise error
            if stop.exists():
                return None
            deaths = 1 if _states(run.work) != states else deaths + 1
            message = "no process left a result" if error is None else one_line(error)
            if deaths == TRIES:
                raise WorkerError(f"training died {TRIES} times without a new state in {run.work}: {message}")
            console.print(f"a training process died, all go on from the last state: {message}", markup=False)
    return None


def _finished(run: TrainRun) -> bool:
    return all(path.exists() for path in run.results.values())


def _try(run: TrainRun, stop: Path, should_stop: Callable[[], bool]) -> BaseException | None:
    """Start the processes and stay with them until they end, one dies, or a stop has been waited for long enough.

    Returns:
        What a process raised, else what Ray says.
    """
    from ray.train import TrainingFailedError

    scratch = run.work.resolve() / "ray"
    trainer = _trainer(run, scratch)
    errors: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except TrainingFailedError as error:
            failures = list(getattr(error, "worker_failures", {}).values())
            # when one process fails, the others lose their connection to it: not what anyone wants to read
            errors.extend(sorted(failures, key=lambda failure: not isinstance(failure, _FINAL)) or [error])
        except BaseException as error:
            errors.append(error)

    # in a thread of its own, so that this one can answer signals and show progress
    thread = Thread(target=fit, daemon=True)
    thread.start()
    deadline = float("inf")

    def alive() -> bool:
        nonlocal deadline
        thread.join(1.0)
        if deadline == float("inf") and should_stop():
            stop.touch()
            deadline = time.monotonic() + STOP_SECONDS
        return thread.is_alive() and time.monotonic() < deadline

    for phase, result in run.results.items():
        if not result.exists():
            done = steps_done(result.parent)
            with progress(phase, getattr(run.settings, phase).steps, done) as advance:
                _follow(result, alive, advance, done)
    while alive():
        pass
    shutil.rmtree(scratch, ignore_errors=True)
    return errors[0] if errors else None


def _trainer(run: TrainRun, scratch: Path) -> Any:
    """The trainer, which keeps its records in `scratch`: states are the training's own business."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    settings = run.settings
    shutil.rmtree(scratch, ignore_errors=True)
    torch_config, variables = None, {}
    if settings.address is None:
        from pipeline.train.rendezvous import FileConfig, environment

        torch_config, variables = FileConfig(folder=str(scratch)), environment()
        # no cloud takes this machine away; an end or a death is noticed a second sooner; and processes that start
        # slowly, because others keep the machine busy, are not killed for it and started again
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
        os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")  # for the dashboard
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    trainer = TorchTrainer(
        _process,
        train_loop_config={"root": Path.cwd(), "run": run},
        torch_config=torch_config,
        scaling_config=ScalingConfig(
            num_workers=settings.workers,
            use_gpu=_has_gpus(settings),
            resources_per_worker={"CPU": settings.cpus_per_worker},
        ),
        run_config=RunConfig(
            name=scratch.name,
            storage_path=str(scratch.parent),
            # none of its own tries: it cannot tell a dead process from a diverged loss
            failure_config=FailureConfig(max_failures=0),
            worker_runtime_env={"env_vars": variables},
        ),
    )
    return without_helpers(trainer) if settings.address is None else trainer


def _has_gpus(settings: Train) -> bool:
    """True if the workers are to take a GPU each, as they do where there are any.

    Raises:
        NoRoomError: there is no room for so many workers.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (sum(float(node.get(kind, 0)) for node in nodes) for kind in ("CPU", "GPU"))
    room = [int(node.get("CPU", 0) // settings.cpus_per_worker) for node in nodes]
    if gpus:
        room = [min(workers, int(node.get("GPU", 0))) for workers, node in zip(room, nodes, strict=True)]
    if settings.workers > sum(room):
        each = f"{settings.cpus_per_worker} CPU{'s' * (settings.cpus_per_worker > 1)}{' and a GPU' if gpus else ''}"
        raise NoRoomError(
            f"train.workers is {settings.workers}, with {each} each, but there is room for {sum(room)}: "
            f"{len(nodes)} node{'s' * (len(nodes) > 1)} with {cpus:g} CPUs and {gpus:g} GPUs in all"
        )
    return gpus > 0


def _process(config: Mapping[str, Any]) -> None:
    """What every process does. Ray Train has joined them by torch.distributed and chosen this one's GPU."""
    os.chdir(config["root"])  # so that paths mean what they mean to the driver
    run: TrainRun = config["run"]
    torch.set_num_threads(run.settings.cpus_per_worker)
    train_phases(run, (run.work / _STOP).exists)


def _follow(result: Path, alive: Callable[[], bool], advance: Advance, seen: int) -> None:
    """Show on the bar what the phase has logged, until its result is there or no process is left.

    `seen`: steps that the bar has already.
    """
    more = True
    while more:
        more = alive() and not result.exists()
        log, speed = (_metrics(result.parent / name) for name in ("log", "speed"))
        step, values = int(log.get("step", seen)), log | speed
        shown = [f"{name} {values[name]:.4f}" for name in SHOWN if name in values]
        advance(max(step - seen, 0), " ".join(shown))  # a resumed training tells of its earlier steps again
        seen = max(step, seen)


def _metrics(log: Path) -> dict[str, float]:
    with suppress(OSError, ValueError):  # not there yet, or being written
        metrics: dict[str, float] = json.loads((log / "metrics.json").read_text())
        return metrics
    return {}


def _states(work: Path) -> set[Path]:
    return {*work.glob("*/state-*.safetensors"), *work.glob("*/generator.safetensors")}
