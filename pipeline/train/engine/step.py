"""One update of generator and discriminator: losses, gradients, optimizers, moving average. Plain torch."""

import torch
from torch import Tensor

from pipeline.core.images import Pixels
from pipeline.models.checkpoint import part
from pipeline.models.convolution import layout
from pipeline.models.device import choose_device, choose_precision, to_pixels
from pipeline.models.networks import Discriminator, Generator
from pipeline.train.engine.adam import Adam
from pipeline.train.engine.batches import Batch
from pipeline.train.engine.config import TrainConfig, learning_rate
from pipeline.train.engine.losses import PerceptualLoss
from pipeline.train.engine.muon import Muon
from pipeline.train.engine.process_group import ProcessGroup
from pipeline.train.engine.share import BatchShare, Module, Values, add_gradients_together

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
        self.trained = {name: (network, self._optimizer(name, network)) for name, network in networks.items()}
        """Networks and their optimizers."""
        self.perceptual: PerceptualLoss | None = None
        if config.perceptual > 0:
            self.perceptual = self._on_device(PerceptualLoss(config.layers, config.vgg), fast)
        # the modules keep their own names for weights files; only the calls go through the compiled ones
        generate = torch.compile(self.generator) if config.compile else self.generator
        perceptual = torch.compile(self.perceptual) if config.compile and self.perceptual else self.perceptual
        networks_here = (self.generator, self.discriminator, self.ema)
        self.share = BatchShare(config, self.device, self.dtype, *networks_here, generate, perceptual)
        threads = self._threads()
        self.shares = [self.share, *(self.share.another() for _ in range(1, threads))]
        """One for each thread."""

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
            optimizer.forget_gradients()
        parts: list[tuple[float, Values]] = []
        for piece in zip(*(tensor.chunk(config.accumulate) for tensor in batch), strict=True):
            parts += self._add_gradients(Batch(*piece), len(batch.low))
        values = self._mean(parts) | {"gradient_norm": self._descend("generator", step)}
        if self.discriminator is not None:
            values["discriminator_gradient_norm"] = self._descend("discriminator", step)
        decay = min(config.ema, (1 + step) / (10 + step))  # a short memory while the weights still change fast
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.generator.parameters()), 1 - decay)
        return values

    def _optimizer(self, name: str, network: torch.nn.Module) -> Adam | Muon:
        if name != "generator" or self.config.optimizer == "adam":
            return Adam(network.parameters())
        outer = ("from_rgb.", "to_rgb.")
        hidden = {
            key: value for key, value in network.named_parameters() if value.ndim == 4 and not key.startswith(outer)
        }
        return Muon(hidden.values(), (value for key, value in network.named_parameters() if key not in hidden))

    def _descend(self, name: str, step: int) -> Tensor:
        """Average a network's gradients over all processes, clip them, take the step; their norm before clipping."""
        network, optimizer = self.trained[name]
        self.group.average(value.grad for value in network.parameters() if value.grad is not None)
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), self.config.clip)
        optimizer.step(learning_rate(self.config, step))
        return norm

    def _add_gradients(self, batch: Batch, count: int) -> list[tuple[float, Values]]:
        """Gradients and losses of a part of `count` pictures, shared out over threads; each one's part of them, too."""
        if len(self.shares) == 1:
            weight = len(batch.low) / count
            return [(weight, self.share.add_gradients(batch, weight))]
        return add_gradients_together(self.shares, batch, count)

    def _threads(self) -> int:
        """How many share a batch, a core each: two cores with half of it each do a step in 1.1 to 1.5 times as many
        together. Measured where convolutions go by Winograd's algorithm, and done there.
        """
        config = self.config
        # a compiler would compile for each; spectral norm remembers what it saw
        whole = config.compile or (config.adversarial > 0 and config.discriminator.spectral_norm)
        threads = torch.get_num_threads()
        apart = layout(self.device, self.dtype) == torch.contiguous_format and not whole
        return threads if apart and config.batches.batch // config.accumulate >= threads else 1

    def _mean(self, parts: list[tuple[float, Values]]) -> Values:
        values = {name: torch.stack([weight * one[name] for weight, one in parts]).sum() for name in parts[0][1]}
        self.group.average(values.values())
        return values

    @torch.inference_mode()
    def enlarge(self, low: Pixels) -> Pixels:
        """What the averaged weights make of uint8 (h, w, 3): uint8 (4h, 4w, 3)."""
        with self.share.autocast():
            output = self.ema(self.share.to_device(torch.from_numpy(low.copy())[None]))
        return to_pixels(output)[0]

    def state(self) -> dict[str, Tensor]:
        """All tensors that the next update depends on, on the CPU."""
        tensors = {f"ema.{name}": value for name, value in self.ema.state_dict().items()}
        for name, (network, optimizer) in self.trained.items():
            tensors |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
            tensors |= optimizer.state(_OPTIMIZERS[name])
        return {name: value.cpu().contiguous() for name, value in tensors.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""
        self.ema.load_state_dict(part(tensors, "ema"))
        for name, (network, optimizer) in self.trained.items():
            network.load_state_dict(part(tensors, name))
            optimizer.restore(tensors, _OPTIMIZERS[name])

    def _on_device(self, module: Module, as_laid: torch.memory_format = torch.channels_last) -> Module:
        return module.to(self.device).to(memory_format=as_laid)
