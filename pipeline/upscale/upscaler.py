"""Images in, images four times larger out: files, PIL images, arrays, and sequences of these.

    from pipeline import Upscaler
    Upscaler.load()("face.png").save("large.png")

Needs torch, numpy, Pillow and safetensors only (16-bit colour files also OpenCV).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from PIL import Image

from pipeline.core.images import Planes
from pipeline.upscale.array_upscaler import ArrayUpscaler
from pipeline.upscale.generators import load, mixed
from pipeline.upscale.weights import choose

CLEAN_STEPS = 2
"""Steps of back-projection on a clean picture. The first brings nearly all of it, a third nothing. Realism has none:
agreement takes some of its texture away, and it agrees well enough."""

Array = TypeVar("Array", bound=Planes)
Enlargeable = Planes | Image.Image | str | Path


class Upscaler(ArrayUpscaler):
    """A generator ready to enlarge images of any size and kind."""

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
            model: weights of a fidelity generator: a file (also one exported as ONNX), or the name of a released pair;
                None is the newest released one.
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
        fidelity, crisp = choose(model, realism_model, realism)
        if realism == 1 and crisp is not None:
            fidelity, crisp = crisp, None
        generator, metadata = load(fidelity)
        if crisp is not None:
            other, described = load(crisp)
            generator = mixed(generator, other, realism)
            metadata = metadata | {"sha256": f"{metadata['sha256']}+{realism:g}*{described['sha256']}"}
        steps = clean_steps(realism) if back_projection is None else back_projection
        return cls(generator, metadata, precision=precision, tile=tile, back_projection=steps)

    @overload
    def __call__(self, picture: Array, back_projection: int | None = None) -> Array: ...
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
        # files and PIL images need the reading rules of the codecs; arrays do not
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


def _checked(array: Planes) -> Planes:
    planes = array[..., None] if array.ndim == 2 else array
    if planes.dtype not in (np.uint8, np.uint16) or planes.ndim != 3 or planes.shape[2] > 4 or 0 in planes.shape:
        raise ValueError(f"expected uint8 or uint16 (h, w) or (h, w, 1 to 4), got {array.dtype} {array.shape}")
    return planes


def clean_steps(realism: float) -> int:
    """Steps of back-projection for a clean picture: fewer with more realism, whose texture they would take away."""
    return round(CLEAN_STEPS * (1 - realism))
