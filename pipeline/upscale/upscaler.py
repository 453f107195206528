"""Pictures in, pictures four times larger out: padding, tiling, batches and precision around a generator.

    from pipeline import Upscaler
    Upscaler.load()("face.png").save("large.png")

Needs torch, numpy, Pillow and safetensors only (16-bit colour files also OpenCV).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, cast, overload

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pipeline.core.errors import first_line
from pipeline.core.images import Planes
from pipeline.core.scales import FACTOR
from pipeline.models.checkpoint import interpolate, load_generator
from pipeline.models.device import choose_device, choose_precision
from pipeline.models.networks import Generator, enlarge
from pipeline.upscale import weights as released

CLEAN_STEPS = 2
"""Steps of back-projection on a clean picture. The first brings nearly all of it, a third nothing. Realism has none:
agreement takes some of its texture away, and it agrees well enough."""

STEP_REACH = 5
"""How far one step of back-projection carries, input pixels: two taps each way of reducing and of enlarging."""

SMALLEST_TILE = 64

Enlargeable = Planes | Image.Image | str | Path


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
        self.tile = tile
        self.back_projection = back_projection

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        realism_model: str | Path | None = None,
        realism: float = 0.0,
        *,
        precision: str = "auto",
        tile: int = 512,
        back_projection: int | None = None,
    ) -> "Upscaler":
        """Load weights: the released generators, or `model`.

        Args:
            model: weights of a fidelity generator; None is the released one.
            realism_model: weights of the realism generator that goes with it; None looks beside `model`.
            realism: 0 (most faithful) to 1 (crispest); between, the two generators' weights are mixed.
            precision: `auto` (bf16 where the hardware computes in it), `bf16` or `fp32`.
            tile: largest side that goes through the network at once, input pixels; it bounds the memory.
            back_projection: steps towards agreement with the input; None: `CLEAN_STEPS`, fewer with more realism.

        Raises:
            ModelError: a file cannot be used, or the two differ in architecture.
            NoModelError: a file is missing.
            ValueError: `realism` outside 0..1.
        """
        if not 0 <= realism <= 1:
            raise ValueError(f"realism must lie between 0 and 1, not {realism}")
        fidelity, other = released.choose(
            None if model is None else Path(model), None if realism_model is None else Path(realism_model), realism
        )
        if realism == 1 and other is not None:
            fidelity, other = other, None
        generator, metadata = load_generator(fidelity)
        if other is not None and realism:
            mixed, described = load_generator(other)
            generator = interpolate(generator, mixed, realism)
            metadata = metadata | {"sha256": f"{metadata['sha256']}+{realism:g}*{described['sha256']}"}
        steps = clean_steps(realism) if back_projection is None else back_projection
        return cls(generator, metadata, precision=precision, tile=tile, back_projection=steps)

    @overload
    def __call__(self, picture: Planes, back_projection: int | None = None) -> Planes: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a sequence too
        self, picture: Image.Image | str | Path, back_projection: int | None = None
    ) -> Image.Image: ...
    @overload
    def __call__(self, picture: Sequence[Enlargeable], back_projection: int | None = None) -> list[Any]: ...

    def __call__(
        self, picture: Enlargeable | Sequence[Enlargeable], back_projection: int | None = None
    ) -> Planes | Image.Image | list[Any]:
        """Enlarge one picture, or several.

        Args:
            picture: an array, uint8 (0..255) or uint16 (0..65535), of shape (h, w), (h, w, 1) grey, (h, w, 2) grey and
                alpha, (h, w, 3) RGB or (h, w, 4) RGB and alpha; a PIL image; the path of a picture file; or a sequence
                of these, of any sizes.
            back_projection: steps for these pictures, instead of what the upscaler was made with. A file of a lossy
                format gets none unless told here: its compression would be drawn at four times the size.

        Returns:
            An array of the same type with h and w four times larger; a PIL image for a PIL image or a path; a list for
            a sequence.

        Raises:
            ImageError: a file that is no picture, or one too large.
            ValueError: an array of another type or shape, or a file of 16-bit colour, for which Pillow has no mode.
        """
        if isinstance(picture, Sequence) and not isinstance(picture, str):
            return self._several(picture, back_projection)
        if isinstance(picture, np.ndarray):
            return self._array(picture, back_projection)
        # Pillow files need the reading rules of pictures.py; arrays do not
        from pipeline.codecs.reader import as_image, as_planes, read_picture

        if isinstance(picture, Image.Image):
            return as_image(self._array(as_planes(picture), back_projection))
        read = read_picture(Path(picture).read_bytes())
        steps = 0 if back_projection is None and not read.lossless else back_projection
        return as_image(self._array(read.pixels, steps))

    def _several(self, pictures: Sequence[Enlargeable], back_projection: int | None) -> list[Any]:
        shapes = {(p.shape, p.dtype) if isinstance(p, np.ndarray) else None for p in pictures}
        if len(pictures) > 1 and len(shapes) == 1 and None not in shapes:
            planes = [_checked(p) for p in pictures if isinstance(p, np.ndarray)]
            results = self.batch(planes, back_projection)
            return [result.reshape(*result.shape[:2], *p.shape[2:]) for result, p in zip(results, planes, strict=True)]
        return [self(picture, back_projection) for picture in pictures]

    def _array(self, array: Planes, back_projection: int | None) -> Planes:
        planes = _checked(array)
        result = self.batch([planes], back_projection)[0]
        return result[..., 0] if array.ndim == 2 else result

    @torch.inference_mode()
    def batch(self, pictures: Sequence[Planes], back_projection: int | None = None) -> list[Planes]:
        """Enlarge pictures of one shape and type together.

        Args:
            pictures: (h, w, c), all of one shape and type, as `__call__` has them.
            back_projection: as in `__call__`.

        Returns:
            Arrays (4h, 4w, c).

        Raises:
            ValueError: shapes or types differ.
        """
        first = pictures[0]
        if any(picture.shape != first.shape or picture.dtype != first.dtype for picture in pictures):
            raise ValueError("a batch holds pictures of one shape and type")
        if max(first.shape[:2]) <= self.tile:
            try:
                return self.at_once(pictures, back_projection)
            except MemoryError:
                pass  # tiles need less
        return [self.into(picture, None, back_projection)[0] for picture in pictures]

    @torch.inference_mode()
    def at_once(self, pictures: Sequence[Planes], back_projection: int | None = None) -> list[Planes]:
        """As `batch`, whole pictures in one pass whatever it takes.

        Raises:
            MemoryError: there is not enough.
        """
        steps = self.back_projection if back_projection is None else back_projection
        with self._memory():
            return list(self._quantised(self._piece(self._load(_stacked(pictures)), steps), pictures[0].dtype))

    @torch.inference_mode()
    def into(
        self, picture: Planes, canvas: Planes | None, back_projection: int | None = None, tile: int | None = None
    ) -> tuple[Planes, int]:
        """Enlarge one picture, tile by tile, into `canvas` (a new array if None; a memory map for what is very large).

        Where memory runs out the tiles are halved and the picture is done again.

        Args:
            picture: (h, w, c).
            canvas: (4h, 4w, c) of the same type.
            back_projection: as in `__call__`.
            tile: instead of the upscaler's own.

        Returns:
            The canvas, and the side of the tiles that it was made of.

        Raises:
            MemoryError: not even tiles of `SMALLEST_TILE` fit.
        """
        steps = self.back_projection if back_projection is None else back_projection
        tile = self.tile if tile is None else tile
        height, width, channels = picture.shape
        if canvas is None:
            canvas = np.empty((FACTOR * height, FACTOR * width, channels), picture.dtype)
        while True:
            try:
                with self._memory():
                    self._tiles(picture, canvas, steps, tile)
                return canvas, tile
            except MemoryError as error:
                smaller = min(tile, max(height, width)) // 2
                if smaller < SMALLEST_TILE:
                    raise MemoryError(f"out of memory, even with tiles of {tile} pixels: free some") from error
                tile = smaller

    def overlap(self, steps: int) -> int:
        """How far tiles reach into their neighbours, input pixels: the receptive radius, so that no seam exists."""
        reach = self.generator.reach + STEP_REACH * steps
        if self.generator.config.norm == "instance":
            # statistics of a tile are not those of the whole picture: no overlap makes that exact
            reach = max(reach, 32)
        multiple = self.generator.multiple
        # at least 16: a narrower piece at the border would be padded where the whole picture is not
        return max(16, -(-reach // multiple) * multiple)

    def _tiles(self, picture: Planes, canvas: Planes, steps: int, tile: int) -> None:
        height, width = picture.shape[:2]
        multiple = self.generator.multiple
        # edges on multiples keep each tile on the same pooling grid as the whole picture
        tile = max(tile, multiple, 16) // multiple * multiple
        overlap = self.overlap(steps)
        for top, left in product(range(0, height, tile), range(0, width, tile)):
            bottom, right = min(top + tile, height), min(left + tile, width)
            y, x = max(0, top - overlap), max(0, left - overlap)
            low = self._load(picture[None, y : bottom + overlap, x : right + overlap])
            rows = slice(FACTOR * (top - y), FACTOR * (bottom - y))
            columns = slice(FACTOR * (left - x), FACTOR * (right - x))
            piece = self._quantised(self._piece(low, steps)[..., rows, columns], picture.dtype)
            canvas[FACTOR * top : FACTOR * bottom, FACTOR * left : FACTOR * right] = piece[0]

    def _load(self, pixels: Planes) -> Tensor:
        """(N, h, w, c) integers -> float32 (N, c, h, w) in 0..1 on the device."""
        top = np.iinfo(pixels.dtype).max
        # torch shares memory that it must be allowed to write to
        own = np.ascontiguousarray(pixels) if pixels.flags.writeable else pixels.copy()
        return torch.from_numpy(own).to(self.device).permute(0, 3, 1, 2).float() / float(top)

    @staticmethod
    def _quantised(result: Tensor, dtype: "np.dtype[Any]") -> Planes:
        """Float (N, c, h, w) in 0..1 -> integers (N, h, w, c)."""
        scaled = (result.clamp(0, 1) * float(np.iinfo(dtype).max)).round_()
        kind = torch.uint8 if dtype == np.uint8 else torch.uint16
        pixels: Planes = scaled.to(kind).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return pixels

    def _piece(self, low: Tensor, steps: int) -> Tensor:
        """Float32 (N, c, h, w) -> (N, c, 4h, 4w): colours by the network, alpha by bicubic, grey as equal colours."""
        channels = low.shape[1]
        colours = low[:, :1].expand(-1, 3, -1, -1) if channels < 3 else low[:, :3]
        result = self._whole(colours)
        for _ in range(steps):
            reduced = F.interpolate(result, scale_factor=1 / FACTOR, mode="bicubic", antialias=True)
            result = result + enlarge(colours - reduced)
        if channels < 3:
            result = result.mean(dim=1, keepdim=True)
        # alpha is no picture: a network would draw texture into it
        return torch.cat([result, enlarge(low[:, -1:])], dim=1) if channels in (2, 4) else result

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

    @contextmanager
    def _memory(self) -> Iterator[None]:
        """Turn what torch raises where memory runs out into a MemoryError."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise MemoryError(first_line(error)) from error


def clean_steps(realism: float) -> int:
    """Steps of back-projection for a clean picture: fewer with more realism, whose texture they would take away."""
    return round(CLEAN_STEPS * (1 - realism))


def _stacked(pictures: Sequence[Planes]) -> Planes:
    return cast(Planes, np.stack(pictures))


def _checked(array: Planes) -> Planes:
    planes = array[..., None] if array.ndim == 2 else array
    if planes.dtype not in (np.uint8, np.uint16) or planes.ndim != 3 or planes.shape[2] > 4 or 0 in planes.shape:
        raise ValueError(f"expected uint8 or uint16 (h, w) or (h, w, 1 to 4), got {array.dtype} {array.shape}")
    return planes


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("can't allocate memory", "not enough memory", "out of memory")
    )
