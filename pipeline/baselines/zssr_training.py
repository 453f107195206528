"""Deep internal learning: small networks side by side, each trained on fathers and sons of one picture. Plain torch.

The training of ZSSR; `pipeline.baselines.zssr` says where it comes from and puts it to use.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.images import Pixels, resize
from pipeline.models.device import to_tensor
from pipeline.params.baselines import ZssrOptions

CHECK_EVERY = 50
"""Steps between two looks at the error of the whole picture, reconstructed from its own son."""
WINDOW = 8
"""Looks that the line is fitted to."""
SCATTER = 1.5
"""The learning rate falls tenfold when the standard deviation about the line is this many times its fall per look."""
DROPS = 3
"""Training ends when the learning rate would fall for the third time: the paper's 1e-3 to 1e-6."""
LATEST = (0.6, 0.85)
"""Shares of the budget by which it falls for the first and the second time in any case."""
RUNGS = 6
"""Fathers per halving of the side."""


@dataclass(frozen=True)
class ZssrConfig(ZssrOptions):
    """How each picture's network is trained and used, and the seed of all that is random about it."""

    seed: int = 1


class Networks(nn.Module):
    """One network a picture, run side by side: (N, 3, h, w) in 0..1 -> the residual (N, 3, h, w), picture by picture.

    Args:
        config: hidden layers and channels.
        seeds: text for each network that determines its first weights.
    """

    def __init__(self, config: ZssrConfig, seeds: Sequence[str]):
        super().__init__()
        widths = [3, *[config.channels] * config.layers, 3]
        self.nets = nn.ModuleList()
        for seed in seeds:
            random = torch.Generator().manual_seed(_number(seed))
            layers = nn.ParameterList()
            for layer, (wide_in, wide_out) in enumerate(pairwise(widths)):
                weight = torch.empty(wide_out, wide_in, 3, 3)
                if layer < config.layers:
                    nn.init.kaiming_normal_(weight, generator=random)
                else:
                    nn.init.zeros_(weight)  # training starts at the interpolated picture
                layers.extend([nn.Parameter(weight), nn.Parameter(torch.zeros(wide_out))])
            self.nets.append(layers)

    def forward(self, x: Tensor, which: Sequence[int]) -> Tensor:
        """Residuals of the pictures `which`, in whose order x lies."""
        count = len(which)
        nets = [list(self.nets[index].parameters()) for index in which]
        features = (x - 0.5).reshape(1, 3 * count, *x.shape[-2:]).contiguous(memory_format=torch.channels_last)
        depth = len(nets[0]) // 2
        for layer in range(depth):
            weight = torch.cat([net[2 * layer] for net in nets])
            bias = torch.cat([net[2 * layer + 1] for net in nets])
            features = F.conv2d(features, weight, bias, padding=1, groups=count)
            if layer < depth - 1:
                features = F.relu(features)
        return features.float().reshape(x.shape)


class Examples:
    """Fathers and sons of one picture, and its random crops.

    Args:
        sources: the picture, and what it was enlarged to so far: uint8 (h, w, 3), sizes rising.
        scale: from son to father.
        crop: largest side of a crop.
        seed: of the crops.
        device: where the pictures lie.
    """

    def __init__(self, sources: Sequence[Pixels], scale: float, crop: int, seed: str, device: torch.device):
        self.random = np.random.Generator(np.random.PCG64(_number(seed)))
        self.pairs: list[tuple[Tensor, Tensor]] = []
        """(father, its son interpolated to the same size), float32 (3, h, w); the picture itself is the first."""
        smaller = 0
        for source in sources:
            for height, width in _rungs(source.shape[0], source.shape[1], crop, smaller):
                father = resize(source, height, width)
                son = resize(father, max(round(height / scale), 1), max(round(width / scale), 1))
                self.pairs.append((to_tensor(father, device), interpolated(son, height, width, device)))
            smaller = min(source.shape[:2])
        sides = np.array([min(father.shape[1:]) for father, _ in self.pairs], np.float64)
        self.chances = sides / sides.sum()
        """Proportional to the father's side, as in the paper."""
        self.side = min(crop, int(sides.min()))

    def crop(self) -> tuple[Tensor, Tensor]:
        """A father's crop and its son's, (3, side, side), turned and reflected alike."""
        father, son = self.pairs[int(self.random.choice(len(self.pairs), p=self.chances))]
        top, left = (int(self.random.integers(length - self.side + 1)) for length in father.shape[1:])
        how = int(self.random.integers(8))
        window = (slice(None), slice(top, top + self.side), slice(left, left + self.side))
        return turned(father[window], how), turned(son[window], how)


def _rungs(height: int, width: int, crop: int, above: int) -> Iterator[tuple[int, int]]:
    """Sizes of a source's fathers, its own first: down to half of it, but not below the crop, and above `above`."""
    side = min(height, width)
    least = max(side / 2, min(crop, 0.75 * side))
    for rung in range(RUNGS + 1):
        share = 2 ** (-rung / RUNGS)
        if rung and (side * share < least - 0.5 or side * share <= above):
            return
        # multiples of 4, so that sons at 2 and 4 have whole sides
        yield (height, width) if not rung else (4 * round(height * share / 4), 4 * round(width * share / 4))


def train(networks: Networks, examples: Sequence[Examples], config: ZssrConfig) -> None:
    """Train each network until its learning rate has fallen to the end, or for `config.steps` steps."""
    groups = [{"params": list(net.parameters()), "lr": config.learning_rate} for net in networks.nets]
    optimizer = torch.optim.Adam(groups)
    schedules = [Schedule(config.steps) for _ in examples]
    truths, wholes = (torch.stack(images) for images in zip(*(example.pairs[0] for example in examples), strict=True))
    for step in range(config.steps):
        if step % CHECK_EVERY == 0:
            active = [index for index, schedule in enumerate(schedules) if not schedule.ended]
            if not active:
                return
            with torch.no_grad():
                errors = (wholes[active] + networks(wholes[active], active) - truths[active]).abs().mean((1, 2, 3))
            for index, error in zip(active, errors.tolist(), strict=True):
                schedules[index].look(step, error)
                optimizer.param_groups[index]["lr"] = config.learning_rate * 0.1 ** schedules[index].drops
            active = [index for index in active if not schedules[index].ended]
            if not active:
                return
        crops = [examples[index].crop() for index in active]
        fathers, sons = (torch.stack(images) for images in zip(*crops, strict=True))
        optimizer.zero_grad(set_to_none=True)
        residual = networks(sons, active)
        # a sum over pictures: no network's gradient depends on how many there are
        loss = (sons + residual - fathers).abs().mean((1, 2, 3)).sum()
        loss.backward()
        optimizer.step()


class Schedule:
    """When one picture's learning rate falls, and when its training ends."""

    def __init__(self, steps: int):
        self.steps = steps
        self.drops = 0
        self.errors: list[float] = []

    @property
    def ended(self) -> bool:
        """True if the learning rate has fallen to the end."""
        return self.drops >= DROPS

    def look(self, step: int, error: float) -> None:
        """Note the error of the whole picture at a step, and let the learning rate fall where it is time."""
        self.errors.append(error)
        late = self.drops < len(LATEST) and step >= LATEST[self.drops] * self.steps
        if late or self._flat():
            self.drops += 1
            self.errors = []

    def _flat(self) -> bool:
        if len(self.errors) < WINDOW:
            return False
        looks = np.arange(WINDOW)
        recent = np.array(self.errors[-WINDOW:])
        slope, start = np.polyfit(looks, recent, 1)
        return bool(np.std(recent - (start + slope * looks)) > SCATTER * -slope)


def turned(x: Tensor, how: int) -> Tensor:
    """One of the 8 turns and reflections of (..., h, w): `how` % 4 quarter turns, then mirrored from 4 on."""
    x = torch.rot90(x, how % 4, (-2, -1))
    return x.flip(-1) if how >= 4 else x


def turned_back(x: Tensor, how: int) -> Tensor:
    """Undo `turned`."""
    return torch.rot90(x.flip(-1) if how >= 4 else x, -(how % 4), (-2, -1))


def interpolated(pixels: Pixels, height: int, width: int, device: torch.device) -> Tensor:
    """uint8 (h, w, 3) -> float32 (3, height, width) in 0..1 by the kernel of Pillow's bicubic, unrounded."""
    low = to_tensor(pixels, device)[None]
    return F.interpolate(low, size=(height, width), mode="bicubic", antialias=True)[0]


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")
