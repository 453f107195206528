"""A share of a batch: losses, and gradients added up, in one thread with networks of its own. Plain torch."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.models.convolution import threads_of_one_core
from pipeline.models.device import autocast
from pipeline.models.networks import Discriminator, Generator
from pipeline.train.engine.batches import Batch
from pipeline.train.engine.config import TrainConfig
from pipeline.train.engine.isotropy import MeanOfAll, anisotropy
from pipeline.train.engine.losses import adversarial_loss, gradient_penalty, mean_difference

Module = TypeVar("Module", bound=torch.nn.Module)
Values = dict[str, Tensor]


@dataclass(frozen=True)
class BatchShare:
    """What a thread computes with."""

    config: TrainConfig
    device: torch.device
    dtype: torch.dtype
    generator: Generator
    discriminator: Discriminator | None
    ema: Generator
    """The averaged weights, which only give results."""
    generate: Callable[[Tensor, Tensor], Tensor]
    """The generator, or what a compiler made of it."""
    perceptual: Callable[[Tensor, Tensor], Tensor] | None
    """VGG-19's loss, which has no gradients of its own."""

    def another(self) -> "BatchShare":
        """For one thread more: networks whose weights are these, in the same memory, and whose gradients are not."""
        generator = _with_own_gradients(self.generator)
        discriminator = None if self.discriminator is None else _with_own_gradients(self.discriminator)
        return replace(self, generator=generator, discriminator=discriminator, generate=generator)

    def add_gradients(self, batch: Batch, weight: float, mean_of_all: MeanOfAll | None = None) -> Values:
        """Add the gradients of a part of a batch, times `weight`, to those that the networks have; its losses.

        `mean_of_all`: over the parts of other shares, see `anisotropy`.
        """
        low, truth, told = batch
        given, real = self.to_device(low), self.to_device(truth)
        if not real.shape[1]:
            given, real = self.pair_of_results(given, real.shape[-1])
        loss, values = self.losses(given, real, told.to(self.device), weight, mean_of_all)
        (loss * weight).backward()  # type: ignore[no-untyped-call]
        return values

    def networks(self) -> list[torch.nn.Module]:
        """Those with gradients."""
        return [self.generator, *([] if self.discriminator is None else [self.discriminator])]

    def take_gradients(self, other: "BatchShare") -> None:
        """Add another share's gradients to these; it has none then."""
        for mine, theirs in zip(self.networks(), other.networks(), strict=True):
            pairs = list(zip(mine.parameters(), theirs.parameters(), strict=True))
            ours = [parameter.grad for parameter, _ in pairs if parameter.grad is not None]
            added = [parameter.grad for _, parameter in pairs if parameter.grad is not None]
            torch._foreach_add_(ours, added)
            theirs.zero_grad(set_to_none=True)

    def losses(
        self, low: Tensor, truth: Tensor, told: Tensor, weight: float = 1.0, mean_of_all: MeanOfAll | None = None
    ) -> tuple[Tensor, Values]:
        """The generator's loss, and all losses by name; the discriminator's gradients, times `weight`, are added up."""
        config = self.config
        with self.autocast():
            result = self.generate(low, told)
        of_use = truth.shape == low.shape
        # at the scale of use nothing larger is known than the clean input: a result reduced must be that
        compared = F.interpolate(result, scale_factor=0.25, mode="bicubic", antialias=True) if of_use else result
        pixel = mean_difference(compared, truth)
        loss = config.pixel * pixel
        values = {"of_use" if of_use else "pixel": pixel}
        end = "_of_use" if of_use else ""
        if self.discriminator is not None:
            # before VGG, so that never the layers of both are in memory
            towards_real, judged = self.judge(self.discriminator, result, None if of_use else truth, weight)
            loss = loss + config.adversarial * towards_real
            values |= {f"{name}{end}": value for name, value in judged.items()}
        if config.isotropy and of_use:
            values["anisotropy"] = anisotropy(result, mean_of_all)
            loss = loss + config.isotropy * values["anisotropy"]
        if config.consistency and not of_use:
            reduced = F.interpolate(result - truth, scale_factor=0.25, mode="bicubic", antialias=True)
            values["consistency"] = reduced.abs().mean()
            loss = loss + config.consistency * values["consistency"]
        if self.perceptual is not None:
            with self.autocast():
                values[f"perceptual{end}"] = self.perceptual(compared, truth)
            loss = loss + config.perceptual * values[f"perceptual{end}"]
        return loss, {name: value.detach() for name, value in values.items()}

    @torch.no_grad()
    def pair_of_results(self, clean: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Inputs and ground truths of `side` pixels made of what the averaged weights make of clean inputs."""
        with self.autocast():
            result = self.ema(clean)
        truth = F.interpolate(result, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
        low = F.interpolate(truth, scale_factor=0.25, mode="bicubic", antialias=True)
        return (low.clamp(0, 1) * 255).round() / 255, truth  # inputs have 8 bits

    def judge(
        self, discriminator: Discriminator, result: Tensor, truth: Tensor | None, weight: float = 1.0
    ) -> tuple[Tensor, Values]:
        """Add up the discriminator's gradients, times `weight`, and find which way a result would be taken for real.

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
        (loss * weight).backward(inputs=weights)  # type: ignore[no-untyped-call]
        return (towards_real * result).sum(), values

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of the run."""
        return autocast(self.device, self.dtype)

    def to_device(self, images: Tensor) -> Tensor:
        """uint8 (N, h, w, 3) -> float32 (N, 3, h, w) in [0, 1]; the permuted view is already channels-last."""
        return images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255


def add_gradients_together(shares: Sequence[BatchShare], batch: Batch, count: int) -> list[tuple[float, Values]]:
    """Share a part of a batch of `count` pictures out over threads; their gradients are added up in the first share.

    Returns:
        Each thread's part of the whole batch, and its losses.
    """
    pieces = [Batch(*piece) for piece in zip(*(tensor.chunk(len(shares)) for tensor in batch), strict=True)]
    weights = [len(piece.low) / count for piece in pieces]
    strengths: list[Future[Tensor]] = [Future() for _ in pieces]

    def work(index: int) -> Values:
        def mean_of_all(own: Tensor) -> Tensor:
            strengths[index].set_result(own)
            parts = [weight * future.result() for weight, future in zip(weights, strengths, strict=True)]
            return torch.stack(parts).sum(dim=0) / sum(weights)

        try:
            return shares[index].add_gradients(pieces[index], weights[index], mean_of_all)
        except BaseException as error:
            if not strengths[index].done():
                strengths[index].set_exception(error)  # nobody waits for it for ever
            raise

    values = list(threads_of_one_core(len(shares)).map(work, range(len(pieces))))
    for other in shares[1 : len(pieces)]:  # in their order: sums are the same each time
        shares[0].take_gradients(other)
    return list(zip(weights, values, strict=True))


def _with_own_gradients(network: Module) -> Module:
    copy = deepcopy(network)
    for mine, theirs in zip(copy.parameters(), network.parameters(), strict=True):
        mine.data = theirs.data
    return copy
