"""The training loop: generator and discriminator, EMA, validation, checkpoints, resume. Plain torch.

It takes dataclasses, pairs and callbacks, and imports neither Ray, DVC nor pydantic, so it also runs on a bare GPU
machine. All randomness follows from (seed, step): a run that was killed and resumed ends with the same bits on a CPU.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.batches import BatchConfig, PairData, prefetch
from pipeline.checkpoint import flatten_optimizer, load_state, restore_optimizer, save_generator, save_state
from pipeline.images import Pixels, resize
from pipeline.losses import PerceptualLoss, adversarial_loss
from pipeline.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from pipeline.precision import autocast, choose_device, choose_precision


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a run depends on besides its data."""

    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    batches: BatchConfig
    steps: int
    learning_rate: float = 5e-4
    warmup: int = 50
    """Steps over which the learning rate rises from 0; after that it falls by a half cosine to a hundredth."""
    pixel: float = 1.0
    """Weight of the L1 term."""
    adversarial: float = 0.0
    """Weight of the least-squares adversarial term; 0 trains without a discriminator."""
    perceptual: float = 0.0
    """Weight of the VGG-19 term; 0 does not build it."""
    layers: tuple[str, ...] = ()
    """VGG-19 layers of the perceptual term."""
    vgg: Path | None = None
    """File of VGG-19 weights; None: random ones of a fixed seed."""
    ema: float = 0.999
    """Decay of the moving average of the weights, which is what is kept as the result."""
    clip: float = 1.0
    """Largest norm of each network's gradient."""
    precision: str = "auto"
    """`auto`, `bf16` or `fp32`."""
    log_every: int = 10
    validate_every: int = 100
    checkpoint_seconds: float = 120.0
    keep: int = 2
    """Training states kept."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Copied into the weights file."""


class Diverged(FloatingPointError):
    """A loss became NaN or infinite; the last good state is kept."""


class Stopped(Exception):  # not an error: the state is saved
    """Training was asked to stop and has saved its state."""


Module = TypeVar("Module", bound=torch.nn.Module)
Log = Callable[[int, dict[str, float]], None]
Sample = Callable[[int, Pixels], None]


class Training:
    """One run in one work folder; `run` starts it or takes it up where it was.

    Args:
        config: of the run.
        data: pairs of the train split.
        valid: full pairs (ground truth, low) for validation and sample pictures; may be empty.
        work: folder of states and of the result `generator.safetensors`.
        start: weights to start from instead of random ones.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: PairData,
        valid: Sequence[tuple[Pixels, Pixels]],
        work: Path,
        start: Generator | None = None,
    ):
        self.config, self.data, self.valid, self.work = config, data, list(valid), work
        self.device = choose_device()
        self.dtype = choose_precision(config.precision, self.device)
        torch.manual_seed(config.batches.seed)
        self.generator = self._place(Generator(config.generator))
        if start is not None:
            self.generator.load_state_dict(start.state_dict())
        self.ema = self._place(Generator(config.generator)).requires_grad_(False).eval()
        self.ema.load_state_dict(self.generator.state_dict())
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
        self.discriminator: Discriminator | None = None
        if config.adversarial > 0:
            self.discriminator = self._place(Discriminator(config.discriminator))
            self.judge_optimizer = torch.optim.Adam(
                self.discriminator.parameters(), lr=config.learning_rate, betas=(0.9, 0.99)
            )
        self.perceptual: PerceptualLoss | None = None
        if config.perceptual > 0:
            self.perceptual = self._place(PerceptualLoss(config.layers, config.vgg))
        self.step = 0
        self.history: list[tuple[int, dict[str, float]]] = []

    def run(
        self,
        log: Log = lambda step, values: None,
        sample: Sample = lambda step, sheet: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Path:
        """Train to the last step and return the path of the EMA weights.

        Args:
            log: called with (step, values) every `log_every` steps and at validations; a resumed run calls it for
                the steps before too, so that no log has a gap or a step twice.
            sample: called with (step, sheet uint8 (H, W, 3)) at validations: input, result, ground truth.
            should_stop: asked after every step; a true answer saves the state and raises `Stopped`.

        Raises:
            Diverged: a loss is NaN or infinite.
            Stopped: `should_stop` said so.
        """
        self._resume()
        for entry in self.history:
            log(*entry)
        log = self._remember(log)
        config = self.config
        saved = time.monotonic()
        for step, low, truth in prefetch(self.data, config.batches, self.step, config.steps):
            values = self._train_step(step, self._to_device(low), self._to_device(truth))
            self.step = step + 1
            last = self.step == config.steps
            if self.step % config.log_every == 0 or last:
                log(self.step, self._checked(values))
            if self.step % config.validate_every == 0 or last:
                self._validate(log, sample)
            stop = should_stop() and not last
            if stop or last or time.monotonic() - saved > config.checkpoint_seconds:
                self._checked(values)
                self._save()
                saved = time.monotonic()
            if stop:
                raise Stopped(f"stopped after step {self.step}")
        path = self.work / "generator.safetensors"
        save_generator(path, self.ema, config.generator, config.provenance | {"step": self.step}, torch.float16)
        return path

    def _remember(self, log: Log) -> Log:
        def remember(step: int, values: dict[str, float]) -> None:
            self.history.append((step, values))
            log(step, values)

        return remember

    def _train_step(self, step: int, low: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """One update of generator and discriminator; the values stay on the device, to be read when needed."""
        config = self.config
        for optimizer in [self.optimizer] + ([self.judge_optimizer] if self.discriminator else []):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step)
        with self._autocast():
            result = self.generator(low)
        values = {"pixel": (result - truth).abs().mean()}
        loss = config.pixel * values["pixel"]
        if self.perceptual is not None:
            with self._autocast():
                values["perceptual"] = self.perceptual(result, truth)
            loss = loss + config.perceptual * values["perceptual"]
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
            with self._autocast():
                values["adversarial"] = adversarial_loss(self.discriminator(result), 1.0)
            loss = loss + config.adversarial * values["adversarial"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        values["gradient_norm"] = torch.nn.utils.clip_grad_norm_(self.generator.parameters(), config.clip)
        self.optimizer.step()
        if self.discriminator is not None:
            values |= self._judge_step(self.discriminator, result.detach(), truth)
        decay = min(config.ema, (1 + step) / (10 + step))  # a short memory while the weights still change fast
        with torch.no_grad():
            for mean, value in zip(self.ema.parameters(), self.generator.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        return {name: value.detach() for name, value in values.items()}

    def _judge_step(self, discriminator: Discriminator, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        discriminator.requires_grad_(True)
        with self._autocast():
            verdict_real, verdict_fake = discriminator(real), discriminator(fake)
        loss = adversarial_loss(verdict_real, 1.0) + adversarial_loss(verdict_fake, 0.0)
        self.judge_optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(discriminator.parameters(), self.config.clip)
        self.judge_optimizer.step()
        return {
            "discriminator_gradient_norm": norm,
            "discriminator": loss,
            "d_real": torch.stack([verdict.mean() for verdict in verdict_real]).mean(),
            "d_fake": torch.stack([verdict.mean() for verdict in verdict_fake]).mean(),
        }

    def _validate(self, log: Log, sample: Sample) -> None:
        """PSNR of the EMA weights on the validation pairs, rounded to 8 bits, and a sheet of the first four."""
        if not self.valid:
            return
        scores: list[float] = []
        rows: list[Pixels] = []
        for truth, low in self.valid:
            with torch.inference_mode(), self._autocast():
                output = self.ema(self._to_device(torch.from_numpy(low.copy())[None]))
            result = (output.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()[0]
            error = np.square(result.astype(np.float64) - truth).mean()
            scores.append(10 * math.log10(255**2 / max(error, 1e-9)))
            if len(rows) < 4:
                rows.append(np.concatenate([resize(low, *truth.shape[:2]), result, truth], axis=1))
        log(self.step, {"valid_psnr": float(np.mean(scores))})
        sample(self.step, np.concatenate(rows))

    def _checked(self, values: dict[str, Tensor]) -> dict[str, float]:
        numbers = {name: float(value) for name, value in values.items()}
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise Diverged(
                    f"step {self.step}: the {name} term is {number}; the last good state is in {self.work}. "
                    "Lower learning_rate or the weight of that term, then run again"
                )
        return numbers | {"learning_rate": learning_rate(self.config, self.step - 1)}

    def _states(self) -> list[Path]:
        return sorted(self.work.glob("state-*.safetensors"))

    def _save(self) -> None:
        tensors = {f"generator.{name}": value for name, value in self.generator.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in self.ema.state_dict().items()}
        tensors |= flatten_optimizer(self.optimizer, "optimizer")
        if self.discriminator is not None:
            tensors |= {f"discriminator.{name}": value for name, value in self.discriminator.state_dict().items()}
            tensors |= flatten_optimizer(self.judge_optimizer, "judge_optimizer")
        cpu = {name: value.cpu().contiguous() for name, value in tensors.items()}
        save_state(self.work / f"state-{self.step:08d}.safetensors", cpu, {"step": self.step, "history": self.history})
        for old in self._states()[: -self.config.keep]:
            old.unlink()

    def _resume(self) -> None:
        states = self._states()
        if not states:
            return
        tensors, values = load_state(states[-1])
        self.generator.load_state_dict(_part(tensors, "generator"))
        self.ema.load_state_dict(_part(tensors, "ema"))
        restore_optimizer(self.optimizer, tensors, "optimizer")
        if self.discriminator is not None:
            self.discriminator.load_state_dict(_part(tensors, "discriminator"))
            restore_optimizer(self.judge_optimizer, tensors, "judge_optimizer")
        self.step = int(values["step"])
        self.history = [(step, numbers) for step, numbers in values["history"]]

    def _autocast(self) -> AbstractContextManager[None]:
        return autocast(self.device, self.dtype)

    def _place(self, module: Module) -> Module:
        return module.to(self.device).to(memory_format=torch.channels_last)

    def _to_device(self, images: Tensor) -> Tensor:
        """uint8 (N, h, w, 3) -> float32 (N, 3, h, w) in [0, 1]; the permuted view is already channels-last."""
        return images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of the peak at the last step."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix + "."): value for name, value in tensors.items() if name.startswith(prefix + ".")}
