"""Fine-tune generators on a user's own low-resolution faces, measure the gain, keep the old ones where there is none.

Only the fidelity generator is trained, by L1: adversarial training needs more faces and time than a user has. The
realism generator gets the same change of weights added (task arithmetic: Ilharco et al., ICLR 2023), so the two stay
one family and mix at any `--realism`. Plain torch.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.adapt.dataset import Faces
from pipeline.core.degradation import told_of
from pipeline.core.files import write_bytes
from pipeline.core.images import Pixels, psnr, resize
from pipeline.models.checkpoint import load_generator, save_generator
from pipeline.models.config import DiscriminatorConfig
from pipeline.models.device import choose_device, to_pixels, to_tensor
from pipeline.models.networks import Generator
from pipeline.models.weights_file import ModelError
from pipeline.train.engine.config import TrainConfig
from pipeline.train.engine.dataset import Pairs
from pipeline.train.engine.loop import Log, Training
from pipeline.train.engine.validation import ssim

LEAST_GAIN = 0.01
"""dB of mean PSNR on held-back faces from which new weights replace the old ones."""
CHECKPOINT_MINUTES = 1 / 3
BATCH, CROP, SMOOTHER = 8, 128, 0.5
LEARNING_RATE, WARMUP, EMA = 2e-4, 20, 0.99
"""A released generator is near an optimum already: less than its own training's rate, so that nothing is unlearned."""

Table = NDArray[np.float64]
"""A row (PSNR in dB, SSIM) for each held-back face."""
Told = tuple[float, float]
"""What a generator is told of an input, `core.chain.TOLD`."""
HeldBack = dict[str, tuple[Pairs, list[Told], Table]]
"""By scale: the held-back pairs, what is known of their inputs, and what bicubic reaches on them."""


@dataclass(frozen=True)
class Plan:
    """What is adapted, into what."""

    fidelity: Path
    realism: Path | None
    """None: only the fidelity generator is adapted."""
    out: Path
    realism_out: Path
    seed: int
    steps: int

    def check(self) -> None:
        """Load both generators.

        Raises:
            ModelError: a file cannot be used, or the two have different architectures.
        """
        first, _ = load_generator(self.fidelity)
        if self.realism is not None and load_generator(self.realism)[0].config != first.config:
            raise ModelError(f"{self.realism}: of another architecture than {self.fidelity}, so the two do not mix")


@dataclass(frozen=True)
class Means:
    """Means over the held-back faces of a scale."""

    psnr: float
    """dB."""
    ssim: float


@dataclass(frozen=True)
class ScaleMeans:
    """The held-back faces of a scale enlarged by bicubic, the old generator and the new one."""

    faces: int
    bicubic: Means
    before: Means
    after: Means


@dataclass(frozen=True)
class Adapted:
    """How a generator did on the held-back faces, and where it is."""

    adapted: bool
    """False: it gained too little, and `file` is a copy of the old generator."""
    gain_db: float
    gained: int
    """Faces whose PSNR rose."""
    faces: int
    scales: dict[str, ScaleMeans]
    start: str
    """sha256 of the old generator."""
    file: str


def adapt(
    plan: Plan,
    faces: Faces,
    work: Path,
    log: Log = lambda step, values: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Adapted] | None:
    """Fine-tune on the faces that are not held back, measure before and after on those that are, write the results.

    `plan.out` and (where there is a realism generator) `plan.realism_out` are written in any case: new weights where
    the mean PSNR rose by `LEAST_GAIN`, a copy of the old file where it did not. Each is decided for itself.

    Args:
        plan: what is adapted.
        faces: what it learns from.
        work: folder of training states; a run that was killed goes on from there.
        log: see `Training.run`.
        should_stop: see `Training.run`.

    Returns:
        Numbers by generator; None if it was stopped, with the state saved.

    Raises:
        DivergedError, OutOfMemoryError, ModelError: from training and loading.
    """
    start, _ = load_generator(plan.fidelity)
    trained = _fine_tuned(start, plan, faces, work, log, should_stop)
    if trained is None:
        return None
    tuned, _ = load_generator(trained)
    valid = faces.data("valid")
    held_back: HeldBack = {}
    for scale, count in faces.held_back.items():
        pairs = valid.pairs(scale, count)
        told = [told_of(row) for row in valid.rows[scale][:count]]
        bicubic = _measured(lambda low, _: resize(low, 4 * low.shape[0], 4 * low.shape[1]), pairs, told)
        held_back[scale] = pairs, told, bicubic

    def keep_better(phase: str, old: Path, target: Path, after: Generator) -> Adapted:
        before, described = load_generator(old)
        result = _compared(held_back, before, after, described["sha256"], target)
        if not result.adapted:
            write_bytes(target, old.read_bytes())
            return result
        provenance = {
            "phase": phase,
            "adapted_from": result.start,
            "faces_sha256": faces.sha256,
            "faces": sum(faces.train.values()),
            "held_back": sum(faces.held_back.values()),
            "damage": faces.damage,
            "steps": plan.steps,
            "seed": plan.seed,
            "gain_db": result.gain_db,
            "scales": asdict(result)["scales"],
        }
        save_generator(target, after, after.config, provenance, torch.float16)
        return result

    results: dict[str, Adapted] = {}
    # the fidelity file is what people wait for, so it comes last: where it is, its partner is too
    if plan.realism is not None:
        moved = _moved(load_generator(plan.realism)[0], start, tuned)
        results["realism"] = keep_better("realism", plan.realism, plan.realism_out, moved)
    return {"fidelity": keep_better("fidelity", plan.fidelity, plan.out, tuned)} | results


def _fine_tuned(
    start: Generator, plan: Plan, faces: Faces, work: Path, log: Log, should_stop: Callable[[], bool]
) -> Path | None:
    result = work / "generator.safetensors"
    if result.is_file():
        return result
    config = TrainConfig(
        seed=plan.seed,
        generator=start.config,
        discriminator=DiscriminatorConfig(),
        batch=BATCH,
        crop=CROP,
        scales=faces.scale_chances,
        smoother=SMOOTHER,
        steps=plan.steps,
        learning_rate=LEARNING_RATE,
        warmup=WARMUP,
        ema=EMA,
        log_every=5,
        checkpoint_minutes=CHECKPOINT_MINUTES,
    )
    # nothing held back is shown to the training, not even to choose its best step: the gain would be flattered
    return Training(config, faces.data("train"), [], work, start).run(log, should_stop=should_stop)


def _moved(old: Generator, start: Generator, tuned: Generator) -> Generator:
    """`old` + (`tuned` - `start`), rounded as the file will be, so that what is measured is what is written."""
    moved = Generator(old.config).eval()
    first, last = start.state_dict(), tuned.state_dict()
    moved.load_state_dict(
        {name: (value + last[name] - first[name]).half().float() for name, value in old.state_dict().items()}
    )
    return moved


class _Told:
    """A generator that is told what the pairs' rows know of their inputs."""

    def __init__(self, generator: Generator):
        self.device = choose_device()
        self.generator = generator.to(self.device).eval()

    @torch.inference_mode()
    def __call__(self, low: Pixels, told: Told) -> Pixels:
        """Enlarge uint8 (h, w, 3)."""
        planes = torch.tensor([told], device=self.device)
        result: Pixels = to_pixels(self.generator(to_tensor(low[None], self.device), planes))[0]
        return result


def _measured(enlarge: Callable[[Pixels, Told], Pixels], pairs: Pairs, told: list[Told]) -> Table:
    results = [(enlarge(low, known), truth) for (truth, low), known in zip(pairs, told, strict=True)]
    return np.array([(psnr(*pair), ssim(*pair)) for pair in results])


def _compared(held_back: HeldBack, before: Generator, after: Generator, start: str, target: Path) -> Adapted:
    scales: dict[str, ScaleMeans] = {}
    differences: list[float] = []
    # in float32: rounding to bf16 costs about as much as the gain that decides
    networks = [_Told(generator) for generator in (before, after)]
    for scale, (pairs, told, bicubic) in held_back.items():
        tables = [bicubic, *(_measured(network, pairs, told) for network in networks)]
        means = [Means(float(table[:, 0].mean()), float(table[:, 1].mean())) for table in tables]
        scales[scale] = ScaleMeans(len(pairs), *means)
        differences += (tables[2][:, 0] - tables[1][:, 0]).tolist()
    gain = float(np.mean(differences))
    gained = sum(difference > 0 for difference in differences)
    return Adapted(gain >= LEAST_GAIN, gain, gained, len(differences), scales, start, str(target))
