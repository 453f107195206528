"""Both trainings of a train section, fidelity and then realism from it, in one work folder that can be resumed."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline.core.files import content_hash, file_hash
from pipeline.models.checkpoint import load_generator
from pipeline.models.config import GeneratorConfig
from pipeline.models.device import choose_device
from pipeline.models.networks import Generator
from pipeline.models.weights_file import ModelError, Provenance
from pipeline.params.train import Train
from pipeline.runtime.console import console
from pipeline.train.engine.batches import PairData
from pipeline.train.engine.loop import Training, steps_done
from pipeline.train.engine.memory import warning
from pipeline.train.engine.process_group import ProcessGroup
from pipeline.train.from_params import describe_vgg, phase_config
from pipeline.train.live_log import live_log
from pipeline.version import __version__

PHASES = ("fidelity", "realism")

_HOW = {"workers", "cpus_per_worker", "address", "accumulate", "compile", "checkpoint_minutes", "keep"}
"""Settings that say how to run, not what is learned: a run may go on with others."""


def dependencies(settings: Train, inputs: Path, manifest: Path) -> Provenance:
    """What the weights depend on, for provenance: hashes of data and params, and which VGG-19."""
    return {
        "data_sha256": content_hash(inputs / "train", inputs / "valid", manifest),
        "params_sha256": content_hash(settings.model_dump(exclude=_HOW)),
        "vgg19": describe_vgg(settings),
    }


@dataclass(frozen=True)
class TrainRun:
    """Phases of a train section, one after the other, and where their data and results lie."""

    settings: Train
    inputs: Path
    """Folder with `train/` and `valid/` shards."""
    manifest: Path
    """The pairs manifest."""
    work: Path
    """One folder per phase is made in it, with states, `log/`, and `generator.safetensors`."""
    provenance: Provenance
    """Goes into the weights files."""
    phases: Sequence[str] = PHASES
    start: Path | None = None
    """Weights that the first phase starts from instead of random ones."""

    @property
    def results(self) -> dict[str, Path]:
        """Path of each phase's weights."""
        return {phase: self.work / phase / "generator.safetensors" for phase in self.phases}

    def training(self, phase: str, start: Path | None = None) -> Training:
        """The training of one phase on `inputs/train`, validated on `inputs/valid` where that has faces."""
        data = PairData(self.inputs / "train", self.manifest, "train")
        has_valid = any((self.inputs / "valid").glob("*.parquet"))
        count = self.settings.valid_faces
        valid = PairData(self.inputs / "valid", self.manifest, "valid").shown(count) if has_valid else []
        # beside what a run depends on: where the rows of the manifest can be found, and whose code it was
        told = {"phase": phase, "manifest_sha256": file_hash(self.manifest), "facesr": __version__}
        provenance = {**self.provenance, **told}
        generator = None
        if start is not None:
            generator, said = load_generator(start)
            provenance |= {"start_sha256": file_hash(start)} | _learned_before(said["provenance"], provenance)
        config = phase_config(self.settings, getattr(self.settings, phase), provenance)
        if start is not None and generator is not None:
            _refuse_another(generator, config.generator, start)
        return Training(config, data, valid, self.work / phase, generator)


def _learned_before(start: Provenance, now: Provenance) -> Provenance:
    """What weights to start from have learned from, where that is other data: hashes, or `unknown`."""
    before = {*start.get("earlier_data_sha256", []), start.get("data_sha256") or "unknown"}
    before -= {now["data_sha256"]}
    return {"earlier_data_sha256": sorted(before)} if before else {}


def _refuse_another(start: Generator, asked: GeneratorConfig, path: Path) -> None:
    """Refuse weights that do not fit into the network that params ask for; ModelError."""
    have, want = (
        {name: value.shape for name, value in network.state_dict().items()} for network in (start, Generator(asked))
    )
    if have != want:
        there, here = asdict(start.config), asdict(asked)
        words = [f"{name} {there[name]}, asked for {here[name]}" for name in there if there[name] != here[name]]
        raise ModelError(f"{path}: a generator with {'; '.join(words)}")


def train_phases(run: TrainRun, should_stop: Callable[[], bool]) -> dict[str, Path] | None:
    """Train the phases in order, each from the result of the one before; finished ones are kept.

    Args:
        run: what to train.
        should_stop: see `Training.run`.

    Returns:
        Path of each phase's weights; None if it was stopped before the end.
    """
    group, device = ProcessGroup(), choose_device()
    start = run.start
    for phase, result in run.results.items():
        # rank 0's view counts: processes that disagreed about what is left would wait for one another for ever
        if not group.from_rank_0(result.exists(), device):
            training = run.training(phase, start)
            _warn_of_memory(training)
            if group.rank == 0:
                done = steps_done(result.parent)
                with live_log(result.parent / "log", phase, training.config.steps, done) as log:
                    finished = training.run(log.values, log.sample, should_stop)
            else:
                finished = training.run(should_stop=should_stop)
            if finished is None:
                return None
        start = result
    return run.results


def _warn_of_memory(training: Training) -> None:
    updates = training.updates
    # a process holds its share of the batch, as it would hold one of so many parts
    share = replace(training.config, accumulate=training.config.accumulate * training.group.count)
    message = warning(share, updates.device, half=updates.dtype.itemsize == 2)
    if message and training.group.rank == 0:
        console.print(f"warning: {message}", style="yellow")
