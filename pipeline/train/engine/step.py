"""One update of generator and discriminator: losses, gradients, optimizers, moving average. Plain torch."""

from contextlib import AbstractContextManager
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.core.images import Pixels
from pipeline.models.checkpoint import flatten_optimizer, part, restore_optimizer
from pipeline.models.convolution import layout
from pipeline.models.device import autocast, choose_device, choose_precision, to_pixels
from pipeline.models.networks import Discriminator, Generator
from pipeline.train.engine.batches import Batch
from pipeline.train.engine.config import TrainConfig, learning_rate
from pipeline.train.engine.isotropy import anisotropy
from pipeline.train.engine.losses import PerceptualLoss, adversarial_loss, gradient_penalty, mean_difference
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
        fast = layout(self.device, self.dtype)
        self.generator = self._on_device(Generator(config.generator), fast)
        if start is not None:
            self.generator.load_state_dict(start.state_dict())
        self.ema = self._on_device(Generator(config.generator), fast).requires_grad_(False).eval()
        self.ema.load_state_dict(self.generator.state_dict())
        networks: dict[str, torch.nn.Module] = {"generator": self.generator}
        self.discriminator: Discriminator | None = None
        if config.adversarial > 0:
            self.discriminator = networks["discriminator"] = self._on_device(Discriminator(config.discriminator))
        self.trained = {
            name: (network, torch.optim.Adam(network.parameters(), config.learning_rate, (0.9, 0.99), fused=True))
            for name, network in networks.items()
        }
        """Networks and their optimizers."""
        self.perceptual: PerceptualLoss | None = None
        if config.perceptual > 0:
            self.perceptual = self._on_device(PerceptualLoss(config.layers, config.vgg), fast)
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
        parts: list[Values] = []
        for low, truth, told in zip(*(tensor.chunk(config.accumulate) for tensor in batch), strict=True):
            given, real = self.to_device(low), self.to_device(truth)
            if not real.shape[1]:
                given, real = self._pair_of_results(given, real.shape[-1])
            loss, values = self._generator_loss(given, real, told.to(self.device))
            (loss / config.accumulate).backward()  # type: ignore[no-untyped-call]
            parts.append(values)
        values = self._mean(parts) | {"gradient_norm": self._descend("generator")}
        if self.discriminator is not None:
            values["discriminator_gradient_norm"] = self._descend("discriminator")
        decay = min(config.ema, (1 + step) / (10 + step))  # a short memory while the weights still change fast
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.generator.parameters()), 1 - decay)
        return values

    def _generator_loss(self, low: Tensor, truth: Tensor, told: Tensor) -> tuple[Tensor, Values]:
        config = self.config
        with self.autocast():
            result = self._generate(low, told)
        of_use = truth.shape == low.shape
        # at the scale of use nothing larger is known than the clean input: a result reduced must be that
        compared = F.interpolate(result, scale_factor=0.25, mode="bicubic", antialias=True) if of_use else result
        pixel = mean_difference(compared, truth)
        loss = config.pixel * pixel
        values = {"of_use" if of_use else "pixel": pixel}
        end = "_of_use" if of_use else ""
        if self.discriminator is not None:
            # before VGG, so that never the layers of both are in memory
            towards_real, judged = self._judge(self.discriminator, result, None if of_use else truth)
            loss = loss + config.adversarial * towards_real
            values |= {f"{name}{end}": value for name, value in judged.items()}
        if config.isotropy and of_use:
            values["anisotropy"] = anisotropy(result)
            loss = loss + config.isotropy * values["anisotropy"]
        if config.consistency and not of_use:
            reduced = F.interpolate(result - truth, scale_factor=0.25, mode="bicubic", antialias=True)
            values["consistency"] = reduced.abs().mean()
            loss = loss + config.consistency * values["consistency"]
        if self._extract is not None:
            with self.autocast():
                values[f"perceptual{end}"] = self._extract(compared, truth)
            loss = loss + config.perceptual * values[f"perceptual{end}"]
        return loss, {name: value.detach() for name, value in values.items()}

    @torch.no_grad()
    def _pair_of_results(self, clean: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Inputs and ground truths of `side` pixels made of what the averaged weights make of clean inputs."""
        with self.autocast():
            result = self.ema(clean)
        truth = F.interpolate(result, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
        low = F.interpolate(truth, scale_factor=0.25, mode="bicubic", antialias=True)
        return (low.clamp(0, 1) * 255).round() / 255, truth  # inputs have 8 bits

    def _judge(self, discriminator: Discriminator, result: Tensor, truth: Tensor | None) -> tuple[Tensor, Values]:
        """Add up the discriminator's gradients, and find which way a result has to change to be taken for real.

        The discriminator looks at the result once for both: its weights are the same, the generator's gradient does not
        reach them, and the discriminator's stops at the result. Without a ground truth, at the scale of use, it learns
        what is not real alone: if it learned nothing there, the generator would soon draw patterns that it never saw.

        Returns:
            A scalar whose gradient is the adversarial term's, and the losses.
        """
        seen = result.detach().requires_grad_(True)
        with self.autocast():
            on_fake = discriminator(seen)
        adversarial = adversarial_loss(on_fake, 1.0)
        (towards_real,) = torch.autograd.grad(adversarial, seen, retain_graph=True)
        loss = adversarial_loss(on_fake, 0.0)
        values = {"adversarial": adversarial, "d_fake": torch.stack([scores.mean() for scores in on_fake]).mean()}
        if truth is not None:
            with self.autocast():
                on_real = discriminator(truth)
            loss = loss + adversarial_loss(on_real, 1.0)
            values |= {"discriminator": loss, "d_real": torch.stack([scores.mean() for scores in on_real]).mean()}
        if truth is not None and self.config.r1:
            values["r1"] = gradient_penalty(discriminator, truth)
            loss = loss + self.config.r1 / 2 * values["r1"]
        weights = list(discriminator.parameters())
        (loss / self.config.accumulate).backward(inputs=weights)  # type: ignore[no-untyped-call]
        return (towards_real * result).sum(), values

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

    def _on_device(self, module: Module, as_laid: torch.memory_format = torch.channels_last) -> Module:
        return module.to(self.device).to(memory_format=as_laid)

    def to_device(self, images: Tensor) -> Tensor:
        """uint8 (N, h, w, 3) -> float32 (N, 3, h, w) in [0, 1]; the permuted view is already channels-last."""
        return images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
