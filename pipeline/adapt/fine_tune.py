"""Fine-tune generators on a user's own low-resolution faces, measure the gain, keep the old ones where there is none.

Only the fidelity generator is trained, by L1: adversarial training needs more faces and time than a user has. The
realism generator gets the same change of weights added (task arithmetic: Ilharco et al., ICLR 2023), so the two stay
one family and mix at any `--realism`. Weights for sharp pictures stay as they are, where they are still ahead. Plain
torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.adapt.dataset import Faces
from pipeline.core.chain import Chain
from pipeline.core.degradation import told_of
from pipeline.core.files import write_bytes
from pipeline.core.images import Pixels, psnr, resize
from pipeline.core.schema import Row
from pipeline.models.checkpoint import load_generator, save_generator
from pipeline.models.config import DiscriminatorConfig
from pipeline.models.device import choose_device, to_pixels, to_tensor
from pipeline.models.networks import Generator
from pipeline.models.weights_file import ModelError
from pipeline.train.engine.config import TrainConfig
from pipeline.train.engine.dataset import Pairs
from pipeline.train.engine.loop import Log, Training
from pipeline.train.engine.validation import ssim
from pipeline.upscale.generators import load_all
from pipeline.upscale.told import CLEAN, SHARP, Sharp, Told

LEAST_GAIN = 0.01
"""dB of mean PSNR on held-back faces from which new weights replace the old ones."""
CHECKPOINT_MINUTES = 1 / 3
BATCH, CROP, SMOOTHER = 8, 128, 0.5
LEARNING_RATE, WARMUP, EMA = 2e-4, 20, 0.99
"""A released generator is near an optimum already: less than its own training's rate, so that nothing is unlearned."""

Table = NDArray[np.float64]
"""A row (PSNR in dB, SSIM) for each held-back face."""
HeldBack = dict[str, tuple[Pairs, list[Told], Table]]
"""By scale: the held-back pairs, what is known of their inputs, and what bicubic reaches on them."""


@dataclass(frozen=True)
class Plan:
    """What is adapted, into what."""

    fidelity: Path
    realism: Path | None
    """None: only the fidelity generator is adapted."""
    sharp: Path | None
    """Weights for sharp pictures that go with `fidelity`, if there are any."""
    out: Path
    realism_out: Path
    sharp_out: Path
    seed: int
    steps: int

    def check(self) -> None:
        """Load all generators.

        Raises:
            ModelError: a file cannot be used, or architectures differ.
        """
        first, _ = load_generator(self.fidelity)
        load_all(self.fidelity, None, 0)
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
    the mean PSNR rose by `LEAST_GAIN`, a copy of the old file where it did not. Each is decided for itself. Weights for
    sharp pictures are copied to `plan.sharp_out`, unless the new ones are better on held-back faces that are clean.

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
        told = [_told(row) for row in valid.rows[scale][:count]]
        bicubic = _measured(lambda low, _: resize(low, 4 * low.shape[0], 4 * low.shape[1]), pairs, told)
        held_back[scale] = pairs, told, bicubic

    special = None if plan.sharp is None else load_generator(plan.sharp)[0]
    ahead = special is not None and _still_ahead(held_back, special, tuned)

    def keep_better(phase: str, old: Path, target: Path, after: Generator) -> Adapted:
        before, described = load_generator(old)
        # as `facesr upscale` will have it, and had it
        own = special if phase == "fidelity" else None
        networks = _Enlarger(before, own), _Enlarger(after, own if ahead else None)
        result = _compared(held_back, networks, described["sha256"], target)
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
    if plan.sharp is not None:
        write_bytes(plan.sharp_out, plan.sharp.read_bytes())
    fidelity = keep_better("fidelity", plan.fidelity, plan.out, tuned)
    if plan.sharp is not None and fidelity.adapted and not ahead:
        plan.sharp_out.unlink()  # beside the fidelity file it would be used in its place
    return {"fidelity": fidelity} | results


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


def _told(row: Row) -> Told:
    """What a generator is told of a pair's input."""
    return SHARP if Chain.of_row(row) == Chain() and not row["strength"] else Told(*told_of(row))


class _Enlarger:
    """A generator that is told what the pairs' rows know of their inputs, and another one for sharp ones, if any."""

    def __init__(self, generator: Generator, special: Generator | None = None):
        self.device = choose_device()
        self.generator = generator.to(self.device).eval()
        self.special = self.generator if special is None else special.to(self.device).eval()

    @torch.inference_mode()
    def __call__(self, low: Pixels, told: Told) -> Pixels:
        """Enlarge uint8 (h, w, 3)."""
        generator = self.special if isinstance(told, Sharp) else self.generator
        planes = torch.tensor([told], device=self.device)
        result: Pixels = to_pixels(generator(to_tensor(low[None], self.device), planes))[0]
        return result


def _still_ahead(held_back: HeldBack, special: Generator, tuned: Generator) -> bool:
    """True unless the new weights are better at what the special ones are for."""
    differences: list[float] = []
    for pairs, told, _ in held_back.values():
        sharp = [pair for pair, known in zip(pairs, told, strict=True) if isinstance(known, Sharp)]
        tables = [_measured(_Enlarger(one), sharp, [CLEAN] * len(sharp)) for one in (special, tuned)]
        differences += (tables[0] - tables[1])[:, 0].tolist()
    return not differences or float(np.mean(differences)) >= 0


def _measured(enlarge: Callable[[Pixels, Told], Pixels], pairs: Pairs, told: Sequence[Told]) -> Table:
    results = [(enlarge(low, known), truth) for (truth, low), known in zip(pairs, told, strict=True)]
    return np.array([(psnr(*pair), ssim(*pair)) for pair in results]).reshape(-1, 2)


def _compared(held_back: HeldBack, networks: "tuple[_Enlarger, _Enlarger]", start: str, target: Path) -> Adapted:
    """Held-back faces enlarged by two, in float32: rounding to bf16 costs about as much as the gain that decides."""
    scales: dict[str, ScaleMeans] = {}
    differences: list[float] = []
    for scale, (pairs, told, bicubic) in held_back.items():
        tables = [bicubic, *(_measured(network, pairs, told) for network in networks)]
        means = [Means(float(table[:, 0].mean()), float(table[:, 1].mean())) for table in tables]
        scales[scale] = ScaleMeans(len(pairs), *means)
        differences += (tables[2][:, 0] - tables[1][:, 0]).tolist()
    gain = float(np.mean(differences))
    gained = sum(difference > 0 for difference in differences)
    return Adapted(gain >= LEAST_GAIN, gain, gained, len(differences), scales, start, str(target))
