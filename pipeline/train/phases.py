"""Both trainings of a train section, fidelity and then realism from it, in one work folder that can be resumed."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.core.files import content_hash
from pipeline.models.checkpoint import load_generator
from pipeline.models.device import choose_device
from pipeline.models.networks import Generator
from pipeline.params.train import Train
from pipeline.runtime.console import console
from pipeline.train.engine.batches import PairData
from pipeline.train.engine.loop import Stopped, Training
from pipeline.train.engine.memory import warning
from pipeline.train.engine.process_group import Peers
from pipeline.train.from_params import describe_vgg, phase_config
from pipeline.train.live_log import LiveLog

PHASES = ("fidelity", "realism")

_HOW = {"workers", "cpus_per_worker", "address", "accumulate", "compile", "checkpoint_minutes", "keep"}
"""Settings that say how to run, not what is learned: a run may go on with others."""


def dependencies(settings: Train, inputs: Path, manifest: Path) -> dict[str, str]:
    """What the weights depend on, for provenance: hashes of data and params, and which VGG-19."""
    return {
        "data_sha256": content_hash(inputs / "train", inputs / "valid", manifest),
        "params_sha256": content_hash(settings.model_dump(exclude=_HOW)),
        "vgg19": describe_vgg(settings),
    }


def build(
    settings: Train,
    phase: str,
    inputs: Path,
    manifest: Path,
    work: Path,
    provenance: dict[str, Any],
    start: Generator | None = None,
) -> Training:
    """The training of one phase on `inputs/train`, validated on `inputs/valid` where that has faces."""
    data = PairData(inputs / "train", manifest, "train")
    has_valid = any((inputs / "valid").glob("*.parquet"))
    valid = PairData(inputs / "valid", manifest, "valid").shown(settings.valid_faces) if has_valid else []
    config = phase_config(settings, getattr(settings, phase), {**provenance, "phase": phase})
    return Training(config, data, valid, work, start)


def train_phases(
    settings: Train,
    inputs: Path,
    manifest: Path,
    work: Path,
    provenance: dict[str, Any],
    should_stop: Callable[[], bool],
    phases: Sequence[str] = PHASES,
    start: Path | None = None,
) -> dict[str, Path] | None:
    """Train the phases in order, each from the result of the one before; finished ones are kept.

    Args:
        settings: the train section.
        inputs: folder with `train/` and `valid/` shards.
        manifest: the pairs manifest.
        work: one folder per phase is made in it, with states, `log/`, and `generator.safetensors`.
        provenance: goes into the weights files.
        should_stop: see `Training.run`.
        phases: of `PHASES`.
        start: weights that the first phase starts from instead of random ones.

    Returns:
        Path of each phase's weights; None if it was stopped before the end.
    """
    results: dict[str, Path] = {}
    peers, device = Peers(), choose_device()
    for phase in phases:
        folder = work / phase
        results[phase] = folder / "generator.safetensors"
        # rank 0's view counts: processes that disagreed about what is left would wait for one another for ever
        if not peers.agreed(results[phase].exists(), device):
            generator = None if start is None else load_generator(start)[0]
            training = build(settings, phase, inputs, manifest, folder, provenance, generator)
            _warn_of_memory(training)
            if peers.rank == 0:
                with LiveLog(folder / "log", phase, training.config.steps) as log, suppress(Stopped):
                    training.run(log.values, log.sample, should_stop)
            else:
                with suppress(Stopped):
                    training.run(should_stop=should_stop)
            if training.stopped:
                return None
        start = results[phase]
    return results


def _warn_of_memory(training: Training) -> None:
    updates = training.updates
    # a process holds its share of the batch, as it would hold one of so many parts
    share = replace(training.config, accumulate=training.config.accumulate * training.peers.count)
    said = warning(share, updates.device, half=updates.dtype.itemsize == 2)
    if said and training.peers.rank == 0:
        console.print(f"[yellow]warning:[/] {said}")
