"""Pictures in, pictures four times larger out: padding, tiling and precision around a generator. Arrays only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.checkpoint import ModelError, interpolate, load_generator
from pipeline.images import Pixels
from pipeline.networks import Generator, enlarge
from pipeline.precision import choose_device, choose_precision

FACTOR = 4


class Upscaler:
    """A generator ready to enlarge pictures of any size.

    Args:
        generator: the network, in evaluation mode.
        metadata: what `load_generator` says of it.
        precision: `auto`, `bf16` or `fp32`.
        tile: side of the square pieces that larger pictures are cut into, input pixels; it bounds the memory.
        back_projection: how many times what is left of (input - result reduced 4x) is enlarged and added. It makes
            the result agree with a clean input, but would put the noise of a noisy one back.
    """

    def __init__(
        self,
        generator: Generator,
        metadata: dict[str, Any],
        *,
        precision: str = "auto",
        tile: int = 512,
        back_projection: int = 0,
    ):
        self.device = choose_device()
        self.dtype = choose_precision(precision, self.device)
        # the weights themselves in low precision: autocast would convert them again for every picture
        self.generator = generator.to(self.device, self.dtype).to(memory_format=torch.channels_last).eval()
        self.metadata = metadata
        # at least 16: a narrower piece at the border would be padded where the whole picture is not
        self.overlap = max(16, -(-generator.reach // generator.multiple) * generator.multiple)
        if generator.config.norm == "instance":
            # statistics of a tile are not those of the whole picture: no overlap makes that exact
            self.overlap = max(self.overlap, 32)
        self.tile = max(tile, generator.multiple, 16) // generator.multiple * generator.multiple
        self.back_projection = back_projection

    @classmethod
    def load(cls, fidelity: Path, realism: Path | None = None, share: float = 0.0, **options: Any) -> "Upscaler":
        """Load weights; with `realism` given, mix the two generators by `share` (0: fidelity, 1: realism).

        Raises:
            ModelError: a file cannot be used, or the two differ in architecture.
            ValueError: `share` outside 0..1.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"realism must lie between 0 and 1, not {share}")
        if share == 1 and realism is not None:
            fidelity = realism
        generator, metadata = load_generator(fidelity)
        if realism is not None and 0 < share < 1:
            other, described = load_generator(realism)
            generator = interpolate(generator, other, share)
            metadata = metadata | {"sha256": f"{metadata['sha256']}+{share:g}*{described['sha256']}"}
        elif share and realism is None:
            raise ModelError("realism needs the weights of the realism generator too")
        return cls(generator, metadata, **options)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Pixels], back_projection: int | None = None) -> list[Pixels]:
        """Enlarge pictures of one size together.

        Args:
            images: uint8 arrays (h, w, 3), RGB, all of one shape, sides from 1 up.
            back_projection: for these pictures, instead of what the constructor was told.

        Returns:
            uint8 arrays (4h, 4w, 3).

        Raises:
            ValueError: another type or shape.
        """
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape != images[0].shape:
                raise ValueError(f"expected uint8 (h, w, 3) pictures of one shape, got {image.dtype} {image.shape}")
        low = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2).float() / 255
        result = self._tiled(low)
        for _ in range(self.back_projection if back_projection is None else back_projection):
            reduced = F.interpolate(result, scale_factor=0.25, mode="bicubic", antialias=True, align_corners=False)
            result = result + enlarge(low - reduced)
        pixels = (result.clamp(0, 1) * 255).round_().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return list(pixels)

    def _tiled(self, low: Tensor) -> Tensor:
        """Float32 (N, 3, 4h, 4w). Tiles overlap by the receptive radius, so that no seam exists to be hidden."""
        height, width = low.shape[-2:]
        if max(height, width) <= self.tile:
            return self._whole(low)
        result = torch.empty(*low.shape[:2], FACTOR * height, FACTOR * width, device=low.device)
        for top in range(0, height, self.tile):
            for left in range(0, width, self.tile):
                bottom, right = min(top + self.tile, height), min(left + self.tile, width)
                # edges on multiples keep each tile on the same pooling grid as the whole picture
                y0, x0 = max(0, top - self.overlap), max(0, left - self.overlap)
                piece = self._whole(low[..., y0 : bottom + self.overlap, x0 : right + self.overlap])
                inner = piece[
                    ...,
                    FACTOR * (top - y0) : FACTOR * (bottom - y0),
                    FACTOR * (left - x0) : FACTOR * (right - x0),
                ]
                result[..., FACTOR * top : FACTOR * bottom, FACTOR * left : FACTOR * right] = inner
        return result

    def _whole(self, low: Tensor) -> Tensor:
        """One pass of the network; sides are padded with their edge to what it accepts and cut back."""
        height, width = low.shape[-2:]
        multiple = self.generator.multiple
        right = max(16, -(-width // multiple) * multiple) - width
        bottom = max(16, -(-height // multiple) * multiple) - height
        if right or bottom:
            low = F.pad(low, (0, right, 0, bottom), mode="replicate")
        low = low.contiguous(memory_format=torch.channels_last)
        return self.generator(low)[..., : FACTOR * height, : FACTOR * width]
