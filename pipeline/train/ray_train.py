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
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from pipeline.core.errors import FacesrError
from pipeline.params.train import Train
from pipeline.runtime.console import Advance, console, progress
from pipeline.runtime.ray_session import WorkerError, session
from pipeline.train.live_log import SPEED
from pipeline.train.phases import PHASES, train_phases

_STOP = "stop"
"""A file in the work folder: processes that see it save their state and end."""

TRIES = 3
"""Times that processes may die one after the other without a new state in between."""

STOP_SECONDS = 300.0
"""How long a stop waits for the processes to save; some may never have started, or hang on a node that is gone."""

_FINAL = (FacesrError, ValueError, OSError)
"""What a process raises for a reason that stays: a diverged loss, too little memory, a full disk, damaged files."""


def train_on_ray(
    settings: Train,
    inputs: Path,
    manifest: Path,
    work: Path,
    provenance: dict[str, Any],
    should_stop: Callable[[], bool],
    phases: Sequence[str] = PHASES,
    start: Path | None = None,
) -> dict[str, Path] | None:
    """`train_phases` in `settings.workers` processes under Ray Train; arguments and result are the same.

    Raises:
        ValueError: the machine or cluster has no room for so many workers, or a worker raised it.
        DivergedError, OutOfMemoryError: see `Training.run`.
        WorkerError: workers kept dying; the last state is kept.
    """
    results = {phase: work / phase / "generator.safetensors" for phase in phases}
    work.mkdir(parents=True, exist_ok=True)
    stop = work / _STOP
    stop.unlink(missing_ok=True)
    config = {
        "root": str(Path.cwd()),
        "settings": settings.model_dump(mode="json"),
        "inputs": str(inputs),
        "manifest": str(manifest),
        "work": str(work),
        "provenance": provenance,
        "phases": list(phases),
        "start": None if start is None else str(start),
    }
    if all(path.exists() for path in results.values()):
        return results
    with session(settings.address):
        deaths = 0
        while not should_stop():
            states = _states(work)
            error = _try(config, settings, results, stop, should_stop)
            if all(path.exists() for path in results.values()):
                return results
            if isinstance(error, _FINAL):
                raise error
            if stop.exists():
                return None
            deaths = 1 if _states(work) != states else deaths + 1
            if deaths == TRIES:
                raise WorkerError(f"training died {TRIES} times without a new state in {work}: {_line(error)}")
            console.print(f"a training process died, all go on from the last state: {_line(error)}", markup=False)
    return None


def _try(
    config: dict[str, Any],
    settings: Train,
    results: dict[str, Path],
    stop: Path,
    should_stop: Callable[[], bool],
) -> BaseException | None:
    """Start the processes and stay with them until they end, one dies, or a stop has been waited for long enough.

    Returns:
        What a process raised, else what Ray says.
    """
    from ray.train import TrainingFailedError

    trainer, scratch = _trainer(config, settings, stop.parent)
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

    for phase, result in results.items():
        if not result.exists():
            with progress(phase, getattr(settings, phase).steps) as advance:
                _follow(result, alive, advance)
    while alive():
        pass
    shutil.rmtree(scratch, ignore_errors=True)
    return errors[0] if errors else None


def _trainer(config: dict[str, Any], settings: Train, work: Path) -> tuple[Any, Path]:
    """The trainer, and the folder that it keeps its records in: states are the training's own business."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    scratch = work.resolve() / "ray"
    shutil.rmtree(scratch, ignore_errors=True)
    torch_config, variables = None, {}
    if settings.address is None:
        from pipeline.train import rendezvous as loopback

        torch_config, variables = loopback.FileConfig(folder=str(scratch)), loopback.environment()
        # no cloud takes this machine away; an end or a death is noticed a second sooner; and processes that start
        # slowly, because others keep the machine busy, are not killed for it and started again
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    trainer = TorchTrainer(
        _process,
        train_loop_config=config,
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
    return trainer, scratch


def _has_gpus(settings: Train) -> bool:
    """Whether the workers are to take a GPU each, as they do where there are any.

    Raises:
        ValueError: there is no room for so many workers; Ray would wait for it for ever.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (sum(float(node.get(kind, 0)) for node in nodes) for kind in ("CPU", "GPU"))
    places = [node.get("CPU", 0) // settings.cpus_per_worker for node in nodes]
    if gpus:
        places = [min(place, node.get("GPU", 0)) for place, node in zip(places, nodes, strict=True)]
    if settings.workers > sum(map(int, places)):
        each = f"{settings.cpus_per_worker} CPU{'s' * (settings.cpus_per_worker > 1)}{' and a GPU' if gpus else ''}"
        raise ValueError(
            f"train.workers is {settings.workers}, with {each} each, but there is room for {sum(map(int, places))}: "
            f"{len(nodes)} node{'s' * (len(nodes) > 1)} with {cpus:g} CPUs and {gpus:g} GPUs in all"
        )
    return gpus > 0


def _process(config: dict[str, Any]) -> None:
    """What every process does. Ray Train has joined them by torch.distributed and chosen this one's GPU."""
    os.chdir(config["root"])  # so that paths mean what they mean to the driver
    settings = Train.model_validate_json(json.dumps(config["settings"]))
    torch.set_num_threads(settings.cpus_per_worker)
    work, start = Path(config["work"]), config["start"]
    train_phases(
        settings,
        Path(config["inputs"]),
        Path(config["manifest"]),
        work,
        config["provenance"],
        (work / _STOP).exists,
        config["phases"],
        None if start is None else Path(start),
    )


def _follow(result: Path, alive: Callable[[], bool], advance: Advance) -> None:
    """Show on the bar what the phase has logged, until its result is there or no process is left."""
    seen = 0
    more = True
    while more:
        more = alive() and not result.exists()
        log, speed = (_metrics(result.parent / name) for name in ("log", "speed"))
        step, values = int(log.get("step", seen)), log | speed
        shown = [f"{name} {values[name]:.4f}" for name in ("pixel", "valid_psnr", SPEED) if name in values]
        advance(step - seen, " ".join(shown))
        seen = step


def _metrics(log: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):  # not there yet, or being written
        metrics: dict[str, Any] = json.loads((log / "metrics.json").read_text())
        return metrics
    return {}


def _states(work: Path) -> set[Path]:
    return {*work.glob("*/state-*.safetensors"), *work.glob("*/generator.safetensors")}


def _line(error: BaseException | None) -> str:
    """An error on one line; Ray's are pages."""
    if error is None:
        return "no process left a result"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}{'…' * (len(text) > 300)}"
