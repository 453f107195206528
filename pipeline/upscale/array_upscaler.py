"""Arrays in, arrays four times larger out: padding, tiles, batches and precision around a generator. Plain torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.core.errors import FacesrError, first_line
from pipeline.core.images import Planes
from pipeline.core.scales import FACTOR
from pipeline.models.convolution import layout, threads_of_one_core
from pipeline.models.device import choose_device, choose_precision, out_of_memory, to_pixels, to_tensor
from pipeline.models.networks import Generator, enlarge
from pipeline.upscale.back_projection import REPAIR_REACH, back_projected
from pipeline.upscale.blocks import SIDE
from pipeline.upscale.generators import AnyGenerator
from pipeline.upscale.hidden import filled, is_grey
from pipeline.upscale.jpeg_agreement import Stored, agreed
from pipeline.upscale.tiles import enlarge_tiles
from pipeline.upscale.told import CLEAN, Sharp, Told

STEP_REACH = 5
"""How far one step of back-projection carries, input pixels: two taps each way of reducing and of enlarging."""

SMALLEST_TILE = 64


class NotFiniteError(FacesrError):
    """The network gave what is no number: as pixels that would be black, or white."""


LEAST_TILE = 16
"""Input pixels: the smallest side that the network takes."""


class ArrayUpscaler:
    """A generator ready to enlarge arrays of any size.

    Colours under alpha 0 are replaced by those around them, so that they do not show at edges. A grey picture stored in
    colour is enlarged as a grey one.

    Args:
        generator: the network, in evaluation mode.
        metadata: what `load_generator` says of it.
        precision: `auto`, `bf16` or `fp32`.
        tile: side of the square pieces that larger pictures are cut into, input pixels; it bounds the memory.
        back_projection: how many times what is left of (input - result reduced 4x) is enlarged and added. It makes
            the result agree with a clean input, but would put the noise of a noisy one back.
        repairs: the generator may have repaired its input, as it was trained to: where much is left nothing is added.
        for_sharp: of the same architecture, what enlarges pictures of which `SHARP` is told; None: the generator does.

    Raises:
        ValueError: a tile of less than 16 pixels, or less than no steps.
    """

    def __init__(
        self,
        generator: AnyGenerator,
        metadata: dict[str, Any],
        *,
        precision: str = "auto",
        tile: int = 512,
        back_projection: int = 0,
        repairs: bool = False,
        for_sharp: AnyGenerator | None = None,
    ):
        if tile < LEAST_TILE or back_projection < 0:
            least = f"tile must be at least {LEAST_TILE} and back_projection 0"
            raise ValueError(f"{least}, not {tile} and {back_projection}")
        self.repairs = repairs
        self.device = choose_device()
        self.dtype = choose_precision(precision, self.device)
        self.generator = self._placed(generator)
        self.for_sharp = None if for_sharp is None else self._placed(for_sharp)
        if layout(self.device, self.dtype) == torch.contiguous_format:
            threads_of_one_core(torch.get_num_threads())  # now: several threads may be the first to enlarge something
        self.metadata = metadata
        self.tile = tile
        self.back_projection = back_projection

    def _placed(self, generator: AnyGenerator) -> AnyGenerator:
        if isinstance(generator, Generator):
            generator = generator.with_plain_sums()
        # the weights themselves in low precision: autocast would convert them again for every picture
        laid = layout(self.device, self.dtype)
        return generator.to(self.device, self.dtype).to(memory_format=laid).eval()

    @torch.inference_mode()
    def batch(
        self,
        pictures: Sequence[Planes],
        back_projection: int | None = None,
        told: Sequence[Told] | None = None,
        stored: Sequence[Stored | None] | None = None,
    ) -> list[Planes]:
        """Enlarge pictures of one shape and type together.

        Args:
            pictures: (h, w, c), all of one shape and type, as `__call__` has them.
            back_projection: as in `__call__`.
            told: of each picture, values of the planes that a generator is told; None: all are clean.
            stored: of each picture, what its JPEG file stores, with which back-projection then agrees instead of the
                pixels; None where there is none.

        Returns:
            Arrays (4h, 4w, c).

        Raises:
            ValueError: shapes or types differ.
        """
        first = pictures[0]
        if any(picture.shape != first.shape or picture.dtype != first.dtype for picture in pictures):
            raise ValueError("a batch holds pictures of one shape and type")
        each = zip(pictures, told or [CLEAN] * len(pictures), stored or [None] * len(pictures), strict=True)
        if self.device.type == "cpu" and len(pictures) > 1:
            # together they are no faster there, and with AVX2 alone the last bits of sums depend on how many they are
            return [self.batch([one], back_projection, [values], [file])[0] for one, values, file in each]
        if max(first.shape[:2]) <= self.tile:
            try:
                return self.at_once(pictures, back_projection, told, stored)
            except MemoryError:
                pass  # tiles need less
        return [self.into(one, None, back_projection, told=values, stored=file)[0] for one, values, file in each]

    @torch.inference_mode()
    def at_once(
        self,
        pictures: Sequence[Planes],
        back_projection: int | None = None,
        told: Sequence[Told] | None = None,
        stored: Sequence[Stored | None] | None = None,
    ) -> list[Planes]:
        """As `batch`, whole pictures in one pass whatever it takes.

        Raises:
            MemoryError: there is not enough.
            NotFiniteError: the network gave NaN or Inf.
        """
        steps = self.back_projection if back_projection is None else back_projection
        with self._memory():
            low = to_tensor(np.stack([filled(picture) for picture in pictures]), self.device)
            grey = torch.tensor([is_grey(picture) for picture in pictures], device=self.device)
            files = stored or [None] * len(pictures)
            result = self._piece(low, steps, told or [CLEAN] * len(pictures), files)
            return list(to_pixels(_as_grey(result, grey), pictures[0].dtype))

    @torch.inference_mode()
    def into(
        self,
        picture: Planes,
        canvas: Planes | None,
        back_projection: int | None = None,
        tile: int | None = None,
        told: Told = CLEAN,
        stored: Stored | None = None,
    ) -> tuple[Planes, int]:
        """Enlarge one picture, tile by tile, into `canvas` (a new array if None; a memory map for what is very large).

        Where memory runs out the tiles are halved and the picture is done again.

        Args:
            picture: (h, w, c).
            canvas: (4h, 4w, c) of the same type.
            back_projection: as in `__call__`.
            tile: instead of the upscaler's own.
            told: as in `batch`, of the whole picture.
            stored: the same.

        Returns:
            The canvas, and the side of the tiles that it was made of.

        Raises:
            MemoryError: not even tiles of `SMALLEST_TILE` fit.
            NotFiniteError: the network gave NaN or Inf.
        """
        steps = self.back_projection if back_projection is None else back_projection
        tile = self.tile if tile is None else tile
        height, width, channels = picture.shape
        if canvas is None:
            canvas = np.empty((FACTOR * height, FACTOR * width, channels), picture.dtype)
        # of the whole picture: what lies in one tile does not tell
        picture, grey = filled(picture), torch.tensor([is_grey(picture)], device=self.device)
        multiple, overlap = self.generator.multiple, self.overlap(steps, stored is not None)
        while True:
            # edges on multiples keep each tile on the same pooling grid as the whole picture
            side = max(tile, multiple, 16) // multiple * multiple
            try:
                with self._memory():
                    enlarge_tiles(
                        lambda low, corner: _as_grey(self._piece(low, steps, [told], [stored], corner), grey),
                        picture,
                        canvas,
                        tile=side,
                        overlap=overlap,
                        device=self.device,
                    )
                return canvas, tile
            except MemoryError as error:
                smaller = min(tile, max(height, width)) // 2
                if smaller < SMALLEST_TILE:
                    raise MemoryError(f"out of memory, even with tiles of {tile} pixels: free some") from error
                tile = smaller

    @property
    def blind(self) -> bool:
        """True if the generator cannot be told anything."""
        return not self.generator.config.told

    def overlap(self, steps: int, blocks: bool = False) -> int:
        """How far tiles reach into their neighbours, input pixels: the receptive radius, so that no seam exists.

        Args:
            steps: of back-projection.
            blocks: they agree with blocks of a file, of which tiles need whole ones.
        """
        reach = self.generator.reach + (STEP_REACH + SIDE * blocks) * steps
        reach += REPAIR_REACH * (self.repairs and steps > 0)
        if self.generator.config.norm == "instance":
            # statistics of a tile are not those of the whole picture: no overlap makes that exact
            reach = max(reach, 32)
        multiple = self.generator.multiple
        # at least 16: a narrower piece at the border would be padded where the whole picture is not
        return max(16, -(-reach // multiple) * multiple)

    def _piece(
        self,
        low: Tensor,
        steps: int,
        told: Sequence[Told],
        stored: Sequence[Stored | None],
        corner: tuple[int, int] = (0, 0),
    ) -> Tensor:
        """Float32 (N, c, h, w) -> (N, c, 4h, 4w): colours by the network, alpha by bicubic, grey as equal colours."""
        channels = low.shape[1]
        colours = low[:, :1].expand(-1, 3, -1, -1) if channels < 3 else low[:, :3]
        result = self._whole(colours, told)
        if steps and any(stored):
            each = zip(result[:, None], colours[:, None], stored, strict=True)
            result = torch.cat(
                [
                    agreed(one, file, steps, *corner) if file else back_projected(one, own, steps, self.repairs)
                    for one, own, file in each
                ]
            )
        else:
            result = back_projected(result, colours, steps, self.repairs)
        # a sum is finite only where all of it is, and costs less than looking at each
        if not torch.isfinite(result.sum(dtype=torch.float32)):
            raise NotFiniteError("the network's result is not finite (NaN or Inf): its weights do not fit this picture")
        if channels < 3:
            result = result.mean(dim=1, keepdim=True)
        # alpha is no picture: a network would draw texture into it
        return torch.cat([result, enlarge(low[:, -1:])], dim=1) if channels in (2, 4) else result

    def _whole(self, low: Tensor, told: Sequence[Told]) -> Tensor:
        """One pass of the network; sides are padded with their edge to what it accepts and cut back."""
        height, width = low.shape[-2:]
        multiple = self.generator.multiple
        right = max(16, -(-width // multiple) * multiple) - width
        bottom = max(16, -(-height // multiple) * multiple) - height
        if right or bottom:
            low = F.pad(low, (0, right, 0, bottom), mode="replicate")
        sharp = [isinstance(one, Sharp) for one in told]
        if self.for_sharp is not None and len(set(sharp)) > 1:
            return torch.cat([self._whole(low[index : index + 1], [one]) for index, one in enumerate(told)])
        generator = self.for_sharp if self.for_sharp is not None and sharp[0] else self.generator
        values = None if self.blind else torch.tensor(told, dtype=torch.float32, device=low.device)
        return generator(low, values)[..., : FACTOR * height, : FACTOR * width]

    @contextmanager
    def _memory(self) -> Iterator[None]:
        """Turn what torch raises where memory runs out into a MemoryError."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise MemoryError(first_line(error)) from error


def _as_grey(result: Tensor, grey: Tensor) -> Tensor:
    """Make colours of the pictures that `grey`, bool (N,), names equal: (N, c, h, w)."""
    if result.shape[1] < 3 or not grey.any():
        return result
    colours = result[:, :3]
    mean = colours.mean(dim=1, keepdim=True).expand_as(colours)
    return torch.cat([torch.where(grey[:, None, None, None], mean, colours), result[:, 3:]], dim=1)
