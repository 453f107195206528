"""One update of generator and discriminator: losses, gradients, optimizers, moving average. Plain torch."""

from contextlib import AbstractContextManager
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.core.images import Pixels
from pipeline.models.checkpoint import flatten_optimizer, part, restore_optimizer
from pipeline.models.device import autocast, choose_device, choose_precision, to_pixels
from pipeline.models.networks import Discriminator, Generator
from pipeline.train.engine.batches import Batch
from pipeline.train.engine.config import TrainConfig, learning_rate
from pipeline.train.engine.losses import PerceptualLoss, adversarial_loss, gradient_penalty
from pipeline.train.engine.process_group import ProcessGroup

Module = TypeVar("Module", bound=torch.nn.Module)
Values = dict[str, Tensor]

_OPTIMIZERS = {"generator": "optimizer", "discriminator": "judge_optimizer"}
"""Network -> name of its optimizer in training states, which others of before can be taken up by."""


class Updates:
    """The networks of a run and how a batch changes them.

    Args:
        config: of the run.
        group: the processes that train together; each calls with its own share of the batch.
        start: weights to start from instead of random ones.
    """

    def __init__(self, config: TrainConfig, group: ProcessGroup, start: Generator | None = None):
        self.config, self.group = config, group
        self.device = choose_device()
        self.dtype = choose_precision(config.precision, self.device)
        torch.manual_seed(config.seed)
        self.generator = self._on_device(Generator(config.generator))
        if start is not None:
            self.generator.load_state_dict(start.state_dict())
        self.ema = self._on_device(Generator(config.generator)).requires_grad_(False).eval()
        self.ema.load_state_dict(self.generator.state_dict())
        networks: dict[str, torch.nn.Module] = {"generator": self.generator}
        self.discriminator: Discriminator | None = None
        if config.adversarial > 0:
            self.discriminator = networks["discriminator"] = self._on_device(Discriminator(config.discriminator))
        self.trained = {
            name: (network, torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99)))
            for name, network in networks.items()
        }
        """Networks and their optimizers."""
        self.perceptual: PerceptualLoss | None = None
        if config.perceptual > 0:
            self.perceptual = self._on_device(PerceptualLoss(config.layers, config.vgg))
        # the modules keep their own names for weights files; only the calls go through the compiled ones
        self._generate = torch.compile(self.generator) if config.compile else self.generator
        self._extract = torch.compile(self.perceptual) if config.compile and self.perceptual else self.perceptual

    def __call__(self, step: int, batch: Batch) -> Values:
        """Update all networks by one batch.

        Args:
            step: from 0, for the learning rate.
            batch: this process' share of it.

        Returns:
            Losses and gradient norms, averaged over the whole batch; they stay on the device, to be read when needed.
        """
        config = self.config
        for _, optimizer in self.trained.values():
            optimizer.zero_grad(set_to_none=True)
            for parameters in optimizer.param_groups:
                parameters["lr"] = learning_rate(config, step)
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        parts: list[Values] = []
        fakes: list[tuple[Tensor, Tensor]] = []
        for low, truth, told in zip(*(tensor.chunk(config.accumulate) for tensor in batch), strict=True):
            given, real = self.to_device(low), self.to_device(truth)
            if not real.shape[1]:
                given, real = self._pair_of_results(given, real.shape[-1])
            result, loss, values = self._generator_loss(given, real, told.to(self.device))
            (loss / config.accumulate).backward()  # type: ignore[no-untyped-call]
            parts.append(values)
            if result.shape == real.shape:
                fakes.append((result.detach(), real))
        values = self._mean(parts) | {"gradient_norm": self._descend("generator")}
        if self.discriminator is not None and fakes:
            values |= self._update_discriminator(self.discriminator, fakes)
        decay = min(config.ema, (1 + step) / (10 + step))  # a short memory while the weights still change fast
        with torch.no_grad():
            for mean, value in zip(self.ema.parameters(), self.generator.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        return values

    def _generator_loss(self, low: Tensor, truth: Tensor, told: Tensor) -> tuple[Tensor, Tensor, Values]:
        config = self.config
        with self.autocast():
            result = self._generate(low, told)
        of_use = truth.shape == low.shape
        if of_use:
            # nothing larger is known than the clean input: a result reduced must be that
            compared = F.interpolate(result, scale_factor=0.25, mode="bicubic", antialias=True)
            values = {"of_use": (compared - truth).abs().mean()}
            loss = config.pixel * values["of_use"]
        else:
            compared = result
            values = {"pixel": (result - truth).abs().mean()}
            loss = config.pixel * values["pixel"]
        if config.consistency and not of_use:
            reduced = F.interpolate(result - truth, scale_factor=0.25, mode="bicubic", antialias=True)
            values["consistency"] = reduced.abs().mean()
            loss = loss + config.consistency * values["consistency"]
        end = "_of_use" if of_use else ""
        if self._extract is not None:
            with self.autocast():
                values[f"perceptual{end}"] = self._extract(compared, truth)
            loss = loss + config.perceptual * values[f"perceptual{end}"]
        if self.discriminator is not None:
            with self.autocast():
                values[f"adversarial{end}"] = adversarial_loss(self.discriminator(result), 1.0)
            loss = loss + config.adversarial * values[f"adversarial{end}"]
        return result, loss, {name: value.detach() for name, value in values.items()}

    @torch.no_grad()
    def _pair_of_results(self, clean: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Inputs and ground truths of `side` pixels made of what the averaged weights make of clean inputs."""
        with self.autocast():
            result = self.ema(clean)
        truth = F.interpolate(result, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
        low = F.interpolate(truth, scale_factor=0.25, mode="bicubic", antialias=True)
        return (low.clamp(0, 1) * 255).round() / 255, truth  # inputs have 8 bits

    def _update_discriminator(self, discriminator: Discriminator, fakes: list[tuple[Tensor, Tensor]]) -> Values:
        """Update the discriminator by results of the batch and their ground truths."""
        discriminator.requires_grad_(True)
        parts: list[Values] = []
        for fake, real in fakes:
            with self.autocast():
                on_real, on_fake = discriminator(real), discriminator(fake)
            loss = adversarial_loss(on_real, 1.0) + adversarial_loss(on_fake, 0.0)
            values = {
                "discriminator": loss,
                "d_real": torch.stack([scores.mean() for scores in on_real]).mean(),
                "d_fake": torch.stack([scores.mean() for scores in on_fake]).mean(),
            }
            if self.config.r1:
                values["r1"] = gradient_penalty(discriminator, real)
                loss = loss + self.config.r1 / 2 * values["r1"]
            (loss / len(fakes)).backward()  # type: ignore[no-untyped-call]
            parts.append({name: value.detach() for name, value in values.items()})
        return self._mean(parts) | {"discriminator_gradient_norm": self._descend("discriminator")}

    def _descend(self, name: str) -> Tensor:
        """Average a network's gradients over all processes, clip them, take the step; their norm before clipping."""
        network, optimizer = self.trained[name]
        self.group.average(value.grad for value in network.parameters() if value.grad is not None)
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), self.config.clip)
        optimizer.step()
        return norm

    def _mean(self, parts: list[Values]) -> Values:
        values = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        self.group.average(values.values())
        return values

    @torch.inference_mode()
    def enlarge(self, low: Pixels) -> Pixels:
        """What the averaged weights make of uint8 (h, w, 3): uint8 (4h, 4w, 3)."""
        with self.autocast():
            output = self.ema(self.to_device(torch.from_numpy(low.copy())[None]))
        return to_pixels(output)[0]

    def state(self) -> dict[str, Tensor]:
        """All tensors that the next update depends on, on the CPU."""
        tensors = {f"ema.{name}": value for name, value in self.ema.state_dict().items()}
        for name, (network, optimizer) in self.trained.items():
            tensors |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
            tensors |= flatten_optimizer(optimizer, _OPTIMIZERS[name])
        return {name: value.cpu().contiguous() for name, value in tensors.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""
        self.ema.load_state_dict(part(tensors, "ema"))
        for name, (network, optimizer) in self.trained.items():
            network.load_state_dict(part(tensors, name))
            restore_optimizer(optimizer, tensors, _OPTIMIZERS[name])

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of the run."""
        return autocast(self.device, self.dtype)

    def _on_device(self, module: Module) -> Module:
        return module.to(self.device).to(memory_format=torch.channels_last)

    def to_device(self, images: Tensor) -> Tensor:
        """uint8 (N, h, w, 3) -> float32 (N, 3, h, w) in [0, 1]; the permuted view is already channels-last."""
        return images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
