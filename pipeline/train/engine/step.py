"""One update of generator and discriminator: losses, gradients, optimizers, moving average. Plain torch."""

from contextlib import AbstractContextManager
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.models.checkpoint import flatten_optimizer, restore_optimizer
from pipeline.models.device import autocast, choose_device, choose_precision, to_pixels
from pipeline.models.networks import Discriminator, Generator
from pipeline.train.engine.config import TrainConfig, learning_rate
from pipeline.train.engine.losses import PerceptualLoss, adversarial_loss, gradient_penalty
from pipeline.train.engine.process_group import Peers

Module = TypeVar("Module", bound=torch.nn.Module)
Values = dict[str, Tensor]


class Updates:
    """The networks of a run and how a batch changes them.

    Args:
        config: of the run.
        peers: the processes that train together; each calls with its own share of the batch.
        start: weights to start from instead of random ones.
    """

    def __init__(self, config: TrainConfig, peers: Peers, start: Generator | None = None):
        self.config, self.peers = config, peers
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
        # the modules keep their own names for weights files; only the calls go through the compiled ones
        self._generate = torch.compile(self.generator) if config.compile else self.generator
        self._extract = torch.compile(self.perceptual) if config.compile and self.perceptual else self.perceptual

    def __call__(self, step: int, low: Tensor, truth: Tensor) -> Values:
        """Update all networks by one batch.

        Args:
            step: from 0, for the learning rate.
            low: this process' share of the batch, uint8 (n, h, w, 3).
            truth: uint8 (n, 4h, 4w, 3).

        Returns:
            Losses and gradient norms, averaged over the whole batch; they stay on the device, to be read when needed.
        """
        config = self.config
        for optimizer in [self.optimizer] + ([self.judge_optimizer] if self.discriminator else []):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step)
        self.optimizer.zero_grad(set_to_none=True)
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        parts: list[Values] = []
        fakes: list[tuple[Tensor, Tensor]] = []
        for some_low, some_truth in zip(low.chunk(config.accumulate), truth.chunk(config.accumulate), strict=True):
            real = self.to_device(some_truth)
            result, loss, values = self._generator_loss(self.to_device(some_low), real)
            (loss / config.accumulate).backward()  # type: ignore[no-untyped-call]
            parts.append(values)
            fakes.append((result.detach(), real))
        norm = self._descend(self.generator, self.optimizer)
        values = self._mean(parts) | {"gradient_norm": norm}
        if self.discriminator is not None:
            values |= self._judge(self.discriminator, fakes)
        decay = min(config.ema, (1 + step) / (10 + step))  # a short memory while the weights still change fast
        with torch.no_grad():
            for mean, value in zip(self.ema.parameters(), self.generator.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        return values

    def _generator_loss(self, low: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Values]:
        config = self.config
        with self.autocast():
            result = self._generate(low)
        values = {"pixel": (result - truth).abs().mean()}
        loss = config.pixel * values["pixel"]
        if config.consistency:
            reduced = F.interpolate(result - truth, scale_factor=0.25, mode="bicubic", antialias=True)
            values["consistency"] = reduced.abs().mean()
            loss = loss + config.consistency * values["consistency"]
        if self._extract is not None:
            with self.autocast():
                values["perceptual"] = self._extract(result, truth)
            loss = loss + config.perceptual * values["perceptual"]
        if self.discriminator is not None:
            with self.autocast():
                values["adversarial"] = adversarial_loss(self.discriminator(result), 1.0)
            loss = loss + config.adversarial * values["adversarial"]
        return result, loss, {name: value.detach() for name, value in values.items()}

    def _judge(self, discriminator: Discriminator, fakes: list[tuple[Tensor, Tensor]]) -> Values:
        """Update the discriminator by results of the batch and their ground truths."""
        discriminator.requires_grad_(True)
        self.judge_optimizer.zero_grad(set_to_none=True)
        parts: list[Values] = []
        for fake, real in fakes:
            with self.autocast():
                on_real, on_fake = discriminator(real), discriminator(fake)
            loss = adversarial_loss(on_real, 1.0) + adversarial_loss(on_fake, 0.0)
            values = {
                "discriminator": loss,
                "d_real": torch.stack([verdict.mean() for verdict in on_real]).mean(),
                "d_fake": torch.stack([verdict.mean() for verdict in on_fake]).mean(),
            }
            if self.config.r1:
                values["r1"] = gradient_penalty(discriminator, real)
                loss = loss + self.config.r1 / 2 * values["r1"]
            (loss / len(fakes)).backward()  # type: ignore[no-untyped-call]
            parts.append({name: value.detach() for name, value in values.items()})
        norm = self._descend(discriminator, self.judge_optimizer)
        return self._mean(parts) | {"discriminator_gradient_norm": norm}

    def _descend(self, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
        """Average the gradients over all processes, clip them, take the step; returns their norm before clipping."""
        self.peers.average(value.grad for value in network.parameters() if value.grad is not None)
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), self.config.clip)
        optimizer.step()
        return norm

    def _mean(self, parts: list[Values]) -> Values:
        values = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        self.peers.average(values.values())
        return values

    @torch.inference_mode()
    def enlarge(self, low: Tensor) -> Tensor:
        """What the averaged weights make of uint8 (n, h, w, 3): uint8 (n, 4h, 4w, 3) on the CPU."""
        with self.autocast():
            output = self.ema(self.to_device(low))
        return torch.from_numpy(to_pixels(output))

    def state(self) -> dict[str, Tensor]:
        """All tensors that the next update depends on, on the CPU."""
        tensors = {f"generator.{name}": value for name, value in self.generator.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in self.ema.state_dict().items()}
        tensors |= flatten_optimizer(self.optimizer, "optimizer")
        if self.discriminator is not None:
            tensors |= {f"discriminator.{name}": value for name, value in self.discriminator.state_dict().items()}
            tensors |= flatten_optimizer(self.judge_optimizer, "judge_optimizer")
        return {name: value.cpu().contiguous() for name, value in tensors.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""

        def part(prefix: str) -> dict[str, Tensor]:
            start = prefix + "."
            return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}

        self.generator.load_state_dict(part("generator"))
        self.ema.load_state_dict(part("ema"))
        restore_optimizer(self.optimizer, tensors, "optimizer")
        if self.discriminator is not None:
            self.discriminator.load_state_dict(part("discriminator"))
            restore_optimizer(self.judge_optimizer, tensors, "judge_optimizer")

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of the run."""
        return autocast(self.device, self.dtype)

    def _place(self, module: Module) -> Module:
        return module.to(self.device).to(memory_format=torch.channels_last)

    def to_device(self, images: Tensor) -> Tensor:
        """uint8 (N, h, w, 3) -> float32 (N, 3, h, w) in [0, 1]; the permuted view is already channels-last."""
        return images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
