"""Fine-tune generators on a user's own low-resolution faces, measure the gain, keep the old ones where there is none.

Only the fidelity generator is trained, by L1: adversarial training needs more faces and time than a user has. The
realism generator gets the same change of weights added (task arithmetic: Ilharco et al., ICLR 2023), so the two stay
one family and mix at any `--realism`. Plain torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.adapt.dataset import SCALE_CHANCES, Faces
from pipeline.core.files import write_bytes
from pipeline.core.images import Pixels, psnr, resize
from pipeline.models.checkpoint import ModelError, load_generator, save_generator
from pipeline.models.networks import DiscriminatorConfig, Generator
from pipeline.train.engine.batches import BatchConfig
from pipeline.train.engine.config import TrainConfig
from pipeline.train.engine.loop import Training
from pipeline.train.engine.validation import ssim
from pipeline.upscale.upscaler import Upscaler

LEAST_GAIN = 0.01
"""dB of mean PSNR on held-back faces from which new weights replace the old ones."""
CHECKPOINT_SECONDS = 20.0
BATCH, CROP, SMOOTHER = 8, 128, 0.5
LEARNING_RATE, WARMUP, EMA = 2e-4, 20, 0.99
"""A released generator is near an optimum already: less than its own training's rate, so that nothing is unlearned."""

Pairs = list[tuple[Pixels, Pixels]]
Table = NDArray[np.float64]
"""A row (PSNR in dB, SSIM) for each held-back face."""


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


def steps_done(work: Path) -> int:
    """Training steps that a run in this work folder would not do again."""
    return max((int(path.stem.removeprefix("state-")) for path in work.glob("state-*.safetensors")), default=0)


def adapt(
    plan: Plan,
    faces: Faces,
    work: Path,
    log: Callable[[int, dict[str, float]], None] = lambda step, values: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Fine-tune on the faces that are not held back, measure before and after on those that are, write the results.

    `plan.out` and (where there is a realism generator) `plan.realism_out` are written in any case: new weights where
    the mean PSNR rose by `LEAST_GAIN`, a copy of the old file where it did not. They are judged apart.

    Args:
        plan: what is adapted.
        faces: what it learns from.
        work: folder of training states; a run that was killed goes on from there.
        log: see `Training.run`.
        should_stop: see `Training.run`.

    Returns:
        By generator: `adapted`, `gain_db`, `gained` (held-back faces whose PSNR rose), `faces`, `start` (sha256),
        `file`, and by scale the means of `psnr` (dB) and `ssim` of `bicubic`, `before` and `after`.

    Raises:
        Stopped: the state is saved.
        DivergedError, OutOfMemoryError, ModelError: from training and loading.
    """
    start, described = load_generator(plan.fidelity)
    tuned, _ = load_generator(_fine_tuned(start, plan, faces, work, log, should_stop))
    held_back = _held_back(faces)
    bicubic = {scale: _measured(_bicubic, pairs) for scale, pairs in held_back.items()}
    report: dict[str, Any] = {}
    candidates: list[tuple[str, Path, Path, Generator, Generator, str]] = [
        ("fidelity", plan.fidelity, plan.out, start, tuned, described["sha256"])
    ]
    if plan.realism is not None:
        old, about = load_generator(plan.realism)
        candidates.append(("realism", plan.realism, plan.realism_out, old, _moved(old, start, tuned), about["sha256"]))
    # the fidelity file is what people wait for, so it comes last: where it is, its partner is too
    for phase, old_file, target, before, after, sha256 in reversed(candidates):
        entry = _compared(held_back, bicubic, before, after) | {"start": sha256, "file": str(target)}
        report[phase] = entry
        if not entry["adapted"]:
            write_bytes(target, old_file.read_bytes())
            continue
        provenance = {
            "phase": phase,
            "adapted_from": sha256,
            "faces_sha256": faces.sha256,
            "faces": sum(faces.train.values()),
            "held_back": sum(faces.held_back.values()),
            "steps": plan.steps,
            "seed": plan.seed,
            "gain_db": entry["gain_db"],
            "scales": entry["scales"],
        }
        save_generator(target, after, after.config, provenance, torch.float16)
    return dict(reversed(report.items()))


def _fine_tuned(
    start: Generator,
    plan: Plan,
    faces: Faces,
    work: Path,
    log: Callable[[int, dict[str, float]], None],
    should_stop: Callable[[], bool],
) -> Path:
    result = work / "generator.safetensors"
    if result.is_file():
        return result
    config = TrainConfig(
        generator=start.config,
        discriminator=DiscriminatorConfig(),
        batches=BatchConfig(plan.seed, BATCH, CROP, dict(SCALE_CHANCES), SMOOTHER),
        steps=plan.steps,
        learning_rate=LEARNING_RATE,
        warmup=WARMUP,
        ema=EMA,
        log_every=5,
        checkpoint_seconds=CHECKPOINT_SECONDS,
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


def _held_back(faces: Faces) -> dict[str, Pairs]:
    data = faces.data("valid")
    return {scale: data.pairs(scale, count) for scale, count in faces.held_back.items()}


def _bicubic(low: Pixels) -> Pixels:
    return resize(low, 4 * low.shape[0], 4 * low.shape[1])


def _measured(enlarge: Callable[[Pixels], Pixels], pairs: Pairs) -> Table:
    scores = []
    for truth, low in pairs:
        result = enlarge(low)
        scores.append((psnr(result, truth), ssim(result, truth)))
    return np.array(scores)


def _compared(
    held_back: dict[str, Pairs], bicubic: dict[str, Table], before: Generator, after: Generator
) -> dict[str, Any]:
    """What `adapt` reports of one generator."""
    scales: dict[str, Any] = {}
    differences: list[float] = []
    # in float32: rounding to bf16 costs about as much as the gain that decides
    upscalers = [Upscaler(generator, {}, precision="fp32") for generator in (before, after)]
    for scale, pairs in held_back.items():
        tables = {"bicubic": bicubic[scale]}
        for name, upscaler in zip(("before", "after"), upscalers, strict=True):
            tables[name] = _measured(lambda low, upscaler=upscaler: upscaler([low])[0], pairs)  # type: ignore[misc]
        scales[scale] = {
            name: {"psnr": float(table[:, 0].mean()), "ssim": float(table[:, 1].mean())}
            for name, table in tables.items()
        }
        scales[scale]["faces"] = len(pairs)
        differences += (tables["after"][:, 0] - tables["before"][:, 0]).tolist()
    gain = float(np.mean(differences))
    return {
        "adapted": gain >= LEAST_GAIN,
        "gain_db": gain,
        "gained": sum(difference > 0 for difference in differences),
        "faces": len(differences),
        "scales": scales,
    }
