"""Images in, images four times larger out: files, PIL images, arrays, and sequences of these.

    from pipeline import Upscaler
    Upscaler.load()("face.png").save("large.png")

Needs torch, numpy, Pillow and safetensors only (16-bit colour files also OpenCV).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from PIL import Image

from pipeline.core.images import Planes
from pipeline.upscale.array_upscaler import ArrayUpscaler
from pipeline.upscale.estimate import Found, find_degradation
from pipeline.upscale.generators import AnyGenerator, load_all
from pipeline.upscale.jpeg_agreement import Stored, read_stored
from pipeline.upscale.told import CLEAN, SHARP, Degradation, Sharp, Telling, Told, as_text
from pipeline.upscale.weights import FOR_SHARP, choose

CLEAN_STEPS = 2
"""Steps of back-projection on a clean picture. The first brings nearly all of it, a third nothing. Realism has none:
agreement takes some of its texture away, and it agrees well enough."""

JPEG_STEPS = 1
"""Steps towards agreement with what a JPEG file stores, by a generator that is told of it: 0.03 to 0.2 dB. Realism has
it too: the intervals leave its texture room, and what it drew outside of them was wrong more often than right."""

Array = TypeVar("Array", bound=Planes)
Enlargeable = Planes | Image.Image | str | Path


class Upscaler(ArrayUpscaler):
    """A generator ready to enlarge images of any size and kind.

    Args:
        generator: as `ArrayUpscaler` has it.
        metadata: the same.
        telling: what the generator is told of pictures, where it can be told anything.
        always: degraded pictures get the steps of back-projection too.
        jpeg_steps: towards agreement with what JPEG files store, where the generator can be told of them.
        options: of `ArrayUpscaler`.
    """

    def __init__(
        self,
        generator: AnyGenerator,
        metadata: dict[str, Any],
        *,
        telling: Telling | None = None,
        always: bool = True,
        jpeg_steps: int = 0,
        **options: Any,
    ):
        super().__init__(generator, metadata, **options)
        self.telling = telling or Telling()
        self.always = always
        self.repairs = not (self.blind or always)
        self.jpeg_steps = 0 if self.blind else jpeg_steps

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
        clean_only: bool = False,
        degradation: Degradation = "auto",
        denoise: float = 1.0,
        deblock: float = 1.0,
    ) -> "Upscaler":
        """Load weights: the released generators, or `model`.

        Args:
            model: weights of a fidelity generator: a file (also one exported as ONNX), or the name of a released pair;
                None is the newest released one.
            realism_model: weights of the realism generator that goes with it; None looks beside `model`.
            realism: 0 (most faithful) to 1 (crispest); between, the two generators' weights are mixed.
            precision: `auto` (bf16 where the hardware computes in it), `bf16` or `fp32`.
            tile: largest side that goes through the network at once, input pixels; it bounds the memory.
            back_projection: steps towards agreement with the input; None: `CLEAN_STEPS`, fewer with more realism,
                `JPEG_STEPS` for JPEG files, and none for what else is told to be degraded.
            clean_only: so are steps that are given.
            degradation: what the generator is told of pictures: `auto`, what is found in each, and clean sharp ones go
                to weights of their own where there are any (`weights.for_sharp`); `none`, that they are clean; or what
                they have suffered, `{"jpeg": 60}` (quality) or `{"noise": 4}` (sigma, grey levels). Generators that
                cannot be told anything pass it over.
            denoise: share of the noise that is told, 0 to 1: 0 keeps it.
            deblock: the same for the traces of compression.

        Raises:
            ModelError: a file cannot be used, or the two differ in architecture.
            NoModelError: a file is missing.
            DegradationError: there is no such degradation, or a share lies outside 0 to 1.
            ValueError: `realism` outside 0..1.
        """
        if not 0 <= realism <= 1:
            raise ValueError(f"realism must lie between 0 and 1, not {realism}")
        telling = Telling(as_text(degradation), denoise, deblock)
        fidelity, crisp = choose(model, realism_model, realism)
        generator, metadata, special = load_all(fidelity, crisp, realism)
        asked = back_projection is not None and not clean_only
        steps = clean_steps(realism) if back_projection is None else back_projection
        files = steps if asked else JPEG_STEPS if back_projection is None else min(JPEG_STEPS, back_projection)
        return cls(
            generator,
            metadata,
            for_sharp=special,
            telling=telling,
            always=asked,
            jpeg_steps=files,
            precision=precision,
            tile=tile,
            back_projection=steps,
        )

    @overload
    def __call__(
        self, picture: Array, back_projection: int | None = None, degradation: Degradation | None = None
    ) -> Array: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a sequence too
        self,
        picture: Image.Image | str | Path,
        back_projection: int | None = None,
        degradation: Degradation | None = None,
    ) -> Image.Image: ...
    @overload
    def __call__(
        self,
        picture: Sequence[Enlargeable],
        back_projection: int | None = None,
        degradation: Degradation | None = None,
    ) -> list[Any]: ...

    def __call__(
        self,
        picture: Enlargeable | Sequence[Enlargeable],
        back_projection: int | None = None,
        degradation: Degradation | None = None,
    ) -> Planes | Image.Image | list[Any]:
        """Enlarge one picture, or several.

        Args:
            picture: an array, uint8 (0..255) or uint16 (0..65535), of shape (h, w), (h, w, 1) grey, (h, w, 2) grey and
                alpha, (h, w, 3) RGB or (h, w, 4) RGB and alpha; a PIL image; the path of a picture file; or a sequence
                of these, of any sizes.
            back_projection: steps for these pictures, instead of what the upscaler was made with. A file of a lossy
                format gets none unless told here: its compression would be drawn at four times the size. Of a JPEG a
                generator that can be told agrees with the intervals that its file stores.
            degradation: of these pictures, instead of what the upscaler was made with, as `load` has it.

        Returns:
            An array of the same type with h and w four times larger; a PIL image for a PIL image or a path; a list for
            a sequence.

        Raises:
            ImageError: a file that is no picture, or one too large.
            DegradationError: there is no such degradation.
            ValueError: an array of another type or shape, a file of 16-bit colour, for which Pillow has no mode, or
                fewer than 0 steps.
        """
        if back_projection is not None and back_projection < 0:
            raise ValueError(f"back_projection must be 0 or more, not {back_projection}")
        if isinstance(picture, Sequence) and not isinstance(picture, str):
            return self._several(picture, back_projection, degradation)
        if isinstance(picture, np.ndarray):
            return self._array(picture, back_projection, degradation)
        # files and PIL images need the reading rules of the codecs; arrays do not
        from pipeline.codecs.reader import as_image, as_planes

        if isinstance(picture, Image.Image):
            return as_image(self._array(as_planes(picture), back_projection, degradation))
        return as_image(self.encoded(Path(picture).read_bytes(), back_projection, degradation))

    def encoded(
        self, data: bytes, back_projection: int | None = None, degradation: Degradation | None = None
    ) -> Planes:
        """Enlarge an encoded picture, as a call does a file: uint8 or uint16 (4h, 4w, 1 to 4).

        Raises:
            ImageError: it is no picture, or one too large.
            DegradationError: there is no such degradation.
        """
        from pipeline.codecs.reader import read_picture

        read = read_picture(data)
        stored = self.stored_of(data, read.orientation, back_projection)
        told = self.told_of(read.pixels, data, degradation, lossless=read.lossless)
        steps = self.steps(told, read.lossless, stored) if back_projection is None else back_projection
        planes = _checked(read.pixels)
        return self.batch([planes], steps, [told], [stored])[0]

    def stored_of(self, data: bytes, orientation: int, asked: int | None = None) -> Stored | None:
        """What a JPEG file stores, where its result is to agree with that.

        Args:
            data: the file.
            orientation: EXIF's; blocks of a picture that was turned lie otherwise, and are not agreed with.
            asked: steps, instead of what the upscaler was made with.
        """
        steps = self.jpeg_steps if asked is None else asked
        if self.blind or not steps or orientation != 1:
            return None
        return read_stored(data)

    def told_of(
        self,
        planes: Planes,
        data: bytes | None = None,
        degradation: Degradation | None = None,
        found: Found | None = None,
        lossless: bool = True,
    ) -> Told:
        """What the generator is told of a picture; of a clean one, and where it cannot be told anything, `CLEAN`; of a
        sharp one `SHARP`, where there are weights for such.

        Args:
            planes: (h, w, 1 to 4), uint8 or uint16.
            data: the file that it was read from, where there is one.
            degradation: instead of what the upscaler was made with.
            found: what is known to be in the picture; None: looked for where it matters.
            lossless: its file keeps every pixel, or it has none.
        """
        if self.blind:
            return CLEAN
        telling = self.telling if degradation is None else replace(self.telling, degradation=as_text(degradation))
        if found is None:
            found = find_degradation(planes, data) if telling.looks else Found()
        sharp = self.for_sharp is not None and telling.looks and found.sharp and lossless
        return SHARP if sharp else telling.of(found)

    def weights_of(self, told: Told) -> str:
        """sha256 of the weights that enlarge a picture of which this is told."""
        which = FOR_SHARP if self.for_sharp is not None and isinstance(told, Sharp) else "sha256"
        return str(self.metadata[which])

    def _several(
        self, pictures: Sequence[Enlargeable], back_projection: int | None, degradation: Degradation | None
    ) -> list[Any]:
        shapes = {(p.shape, p.dtype) if isinstance(p, np.ndarray) else None for p in pictures}
        if len(pictures) > 1 and len(shapes) == 1 and None not in shapes:
            planes = [_checked(p) for p in pictures if isinstance(p, np.ndarray)]
            told = [self.told_of(p, None, degradation) for p in planes]
            steps = {self.steps(one) if back_projection is None else back_projection for one in told}
            if len(steps) == 1 and len(set(map(type, told))) == 1:
                results = self.batch(planes, steps.pop(), told)
                flat = {len(shape) for shape, _ in filter(None, shapes)} == {2}
                return [result[..., 0] if flat else result for result in results]
        return [self(picture, back_projection, degradation) for picture in pictures]

    def _array(self, array: Planes, back_projection: int | None, degradation: Degradation | None) -> Planes:
        planes = _checked(array)
        told = self.told_of(planes, None, degradation)
        steps = self.steps(told) if back_projection is None else back_projection
        result = self.batch([planes], steps, [told])[0]
        return result[..., 0] if array.ndim == 2 else result

    def steps(self, told: Told, lossless: bool = True, stored: Stored | None = None) -> int:
        """Steps of back-projection of a picture, where none are asked for.

        To agree with the pixels of what is degraded would put the degradation back.

        Args:
            told: of it.
            lossless: its file keeps every pixel, or it has none.
            stored: what its JPEG file stores.
        """
        if stored is not None:
            return self.jpeg_steps
        return self.back_projection if lossless and (self.always or told == CLEAN) else 0


def _checked(array: Planes) -> Planes:
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError("an array with a mask: fill in what it hides first")
    planes: Any = np.asarray(array)  # of other classes, a matrix for one, indices mean other things
    if planes.ndim == 2:
        planes = planes[..., None]
    if planes.dtype == np.dtype(">u2"):
        planes = planes.astype(np.uint16)
    if planes.dtype not in (np.uint8, np.uint16) or planes.ndim != 3 or planes.shape[2] > 4 or 0 in planes.shape:
        raise ValueError(f"expected uint8 or uint16 (h, w) or (h, w, 1 to 4), got {array.dtype} {array.shape}")
    checked: Planes = planes
    return checked


def clean_steps(realism: float) -> int:
    """Steps of back-projection for a clean picture: fewer with more realism, whose texture they would take away."""
    return round(CLEAN_STEPS * (1 - realism))
