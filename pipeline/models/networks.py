"""Generator and discriminator after StarGAN v2 (Choi et al., CVPR 2020), modified for 4x super-resolution.

Kept: pre-activation residual blocks with LeakyReLU 0.2, average-pool down, nearest up, encoder - bottleneck -
decoder. The sum of a block is divided by sqrt(2), as there, or is a plain one whose residual branch starts at zero.
Changed: no style code; output 4x larger than the input; a bicubic skip from input to output, so that the network draws
only what bicubic lacks and an untrained generator is exactly bicubic; no instance norm by default (it hurts scales
never trained on, and makes tiles differ from whole images); patch scores at several scales in place of one score per
image and domain.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.chain import TOLD
from pipeline.models.bicubic import enlarge_by_products
from pipeline.models.config import DiscriminatorConfig, GeneratorConfig
from pipeline.models.convolution import Convolution, laid_as
from pipeline.models.degrid import degrid, degrid_shuffled, shuffled
from pipeline.models.fused import activated, add_convolved, is_fused

_SLOPE = 0.2
"""Of LeakyReLU, below 0."""


class ResidualBlock(nn.Module):
    """Pre-activation residual block: (N, in, h, w) -> (N, out, h, w), halved by `down`, doubled by `up`.

    Args:
        residual: `scaled` or `zero`, as in `GeneratorConfig`.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        *,
        norm: str = "none",
        residual: str = "scaled",
        down: bool = False,
        up: bool = False,
    ):
        super().__init__()
        self.down, self.up, self.norm = down, up, norm
        self.scale = 0.5**0.5 if residual == "scaled" else None
        self.first = Convolution(width_in, width_in)
        self.second = Convolution(width_in, width_out)
        self.shortcut = nn.Conv2d(width_in, width_out, 1, bias=False) if width_in != width_out else nn.Identity()
        instance = norm == "instance"
        self.norm1 = nn.InstanceNorm2d(width_in, affine=True) if instance else nn.Identity()
        self.norm2 = nn.InstanceNorm2d(width_in, affine=True) if instance else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Sum of shortcut and residual; where `scaled`, over sqrt(2), so that the variance stays that of one branch."""
        residual = F.leaky_relu(self.norm1(x), _SLOPE)
        if self.up:
            x, residual = F.interpolate(x, scale_factor=2), F.interpolate(residual, scale_factor=2)
        residual = self.first(residual)
        if self.down:
            x, residual = F.avg_pool2d(x, 2), F.avg_pool2d(residual, 2)
        # in place where nobody needs what was there: an activation less to write, and to keep for the backward pass
        residual = self.second(F.leaky_relu(self.norm2(residual), _SLOPE, inplace=True))
        total = residual.add_(self.shortcut(x))
        return total if self.scale is None else total.mul_(self.scale)


class ResidualChain(nn.Sequential):
    """Residual blocks of one size and width, one after the other: (N, c, h, w) -> (N, c, h, w)."""

    @property
    def blocks(self) -> list[ResidualBlock]:
        """In their order."""
        return cast(list[ResidualBlock], list(self))

    @property
    def is_plain(self) -> bool:
        """True if the blocks are nothing but convolutions, activations and sums."""
        return all(block.scale is None and block.norm == "none" for block in self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Plain sums are added up in place, each by the operator that convolves, where torch has such."""
        blocks = self.blocks
        if not blocks or not self.is_plain or not is_fused(x, blocks[0].first):
            for block in blocks:
                x = block(x)
            return x
        total = x.clone()
        for block in blocks:
            features = F.leaky_relu(total, _SLOPE)
            add_convolved(total, activated(features, block.first, _SLOPE), block.second)
        return total


class Generator(nn.Module):
    """Enlarge RGB 4 times: (N, 3, h, w) -> (N, 3, 4h, 4w), both nominally in [0, 1], h and w from 16 up.

    h and w must be multiples of `multiple`; `pipeline.upscale.upscaler` pads and tiles any size.
    """

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        widths = config.widths
        block = partial(ResidualBlock, norm=config.norm, residual=config.residual)
        self.from_rgb = Convolution(3 + len(config.told), widths[0])
        pairs = list(pairwise(widths))
        self.encoder = nn.ModuleList(_chain(block, wide, config.blocks) for wide, _ in pairs)
        self.downs = nn.ModuleList(block(wide, deep, down=True) for wide, deep in pairs)
        self.bottleneck = _chain(block, widths[-1], config.bottleneck)
        self.ups = nn.ModuleList(block(deep, wide, up=True) for wide, deep in reversed(pairs))
        self.decoder = nn.ModuleList(_chain(block, wide, config.blocks) for wide, _ in reversed(pairs))
        if config.tail == "shuffle":
            self.tail = nn.ModuleList()  # nothing between the features and the convolution to 16 pixels at once
            self.to_rgb = Convolution(widths[0], 3 * 16)
        else:
            tail = widths[0], max(widths[0] // 2, 8), max(widths[0] // 4, 8)
            self.tail = nn.ModuleList(Convolution(wide, narrow) for wide, narrow in pairwise(tail))
            self.to_rgb = Convolution(tail[-1], 3)
        for module in self.modules():
            # on the meta device there is nothing to draw, and drawing there imports torch's compiler: two seconds
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, a=_SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # zero, so that training starts at bicubic and not at noise on top of it
        nn.init.zeros_(self.to_rgb.weight)
        if config.residual == "zero":
            for module in self.modules():
                if isinstance(module, ResidualBlock):
                    nn.init.zeros_(module.second.weight)

    @property
    def multiple(self) -> int:
        """Sides of the input must be multiples of this."""
        return int(2 ** (len(self.config.widths) - 1))

    @property
    def reach(self) -> int:
        """Receptive radius in input pixels: what lies further away cannot change an output pixel (norm `none`)."""
        radius = 2 + 2 + 2 + self.config.even // 2 + 1  # first and last convolution, two taps of the bicubic skip
        levels = len(self.config.widths) - 1
        for level in range(levels):
            radius += 2**level * (2 * 2 * self.config.blocks) + 2**level * (1 + 2 + 2 + 2)
        return radius + 2**levels * 2 * self.config.bottleneck

    @torch.no_grad()
    def with_plain_sums(self) -> "Generator":
        """The same function without divisions by sqrt(2), where that can be had; it is no longer the one to train.

        LeakyReLU of a multiple is that multiple of LeakyReLU: features may grow from block to block instead, if weights
        before the first convolution of a block take it back and those of its second one, and its bias, give it.
        """
        config = self.config
        if config.residual != "scaled" or config.norm != "none" or len(config.widths) > 1:
            return self
        other = deepcopy(self)
        other.config = replace(config, residual="zero")
        strength = 1.0
        for block in other.bottleneck.blocks:
            block.first.weight.mul_(strength)
            block.second.weight.div_(strength)
            cast(Tensor, block.second.bias).div_(strength)
            strength, block.scale = strength * (block.scale or 1.0), None
        last = cast(Convolution, other.tail[0]) if other.tail else other.to_rgb
        last.weight.mul_(strength)
        return other

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        """Bicubic enlargement plus what the network adds; not clamped. The sum is float32 whatever the precision.

        Args:
            x: (N, 3, h, w).
            told: (N, 2), values of the planes of a network that is told; None: a clean input.
        """
        return enlarge(x).add_(self.drawn(x, told))

    def drawn(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        """What the network adds to the bicubic enlargement: float32 (N, 3, 4h, 4w). Arguments as of `forward`."""
        centred = x - 0.5
        if self.config.told:
            told = x.new_zeros(len(x), len(TOLD)) if told is None else told.to(x.dtype)
            planes = told[:, :, None, None].expand(-1, -1, *x.shape[2:])
            centred = torch.cat([centred, planes], dim=1)
        weight = self.from_rgb.weight
        features = self.from_rgb(laid_as(weight, centred.to(weight.dtype)))
        skips: list[Tensor] = []
        for level, down in zip(self.encoder, self.downs, strict=True):
            features = level(features)
            skips.append(features)
            features = down(features)
        features = self.bottleneck(features)
        for level, up in zip(self.decoder, self.ups, strict=True):
            features = level((up(features) + skips.pop()) * 0.5**0.5)
        for convolution in self.tail:
            features = convolution(F.interpolate(F.leaky_relu(features, _SLOPE), scale_factor=2))
        detail = self.to_rgb(F.leaky_relu(features, _SLOPE))
        if not self.config.even:
            return detail.float() if self.tail else shuffled(detail.float())
        if self.tail:
            return degrid(detail.float(), self.config.even)
        return degrid_shuffled(detail, self.config.even)


def enlarge(x: Tensor) -> Tensor:
    """Bicubic 4x enlargement with Pillow's kernel (a = -0.5): (N, 3, h, w) -> float32 (N, 3, 4h, 4w).

    `antialias=True` selects that kernel; torch's other bicubic has a = -0.75.
    """
    # channels-last, the operator takes three times as long on a CPU
    x = x.float().contiguous()
    enlarged = enlarge_by_products(x, 4)
    if enlarged is None:
        enlarged = F.interpolate(x, scale_factor=4, mode="bicubic", antialias=True, align_corners=False)
    return enlarged


class Discriminator(nn.Module):
    """Multi-scale patch discriminator: (N, 3, h, w) in [0, 1] -> one map of scores per scale, (N, 1, h', w')."""

    def __init__(self, config: DiscriminatorConfig):
        super().__init__()
        self.judges = nn.ModuleList(_patch_network(config) for _ in range(config.scales))  # as training states name it

    def forward(self, x: Tensor) -> list[Tensor]:
        """Score maps, largest image first: 1 is real, 0 is fake (least squares)."""
        scores = []
        for network in self.judges:
            scores.append(network(x * 2 - 1).float())
            x = F.avg_pool2d(x, 2)
        return scores


def _chain(block: Callable[[int, int], ResidualBlock], width: int, count: int) -> ResidualChain:
    return ResidualChain(*(block(width, width) for _ in range(count)))


def _patch_network(config: DiscriminatorConfig) -> nn.Sequential:
    """One scale of the discriminator."""
    widths = config.widths
    layers: list[nn.Module] = [Convolution(3, widths[0])]
    layers += [ResidualBlock(wide, deep, down=True) for wide, deep in pairwise(widths)]
    layers += [nn.LeakyReLU(_SLOPE), Convolution(widths[-1], widths[-1])]
    layers += [nn.LeakyReLU(_SLOPE), nn.Conv2d(widths[-1], 1, 1)]
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=_SLOPE)
            if config.spectral_norm:
                nn.utils.parametrizations.spectral_norm(module)
    return network
