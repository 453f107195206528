"""Ordinary portraits to aligned faces: CelebA-HQ's and FFHQ's alignment, from five landmarks of a detector.

Both lay the same square around a face (Karras et al., Progressive Growing of GANs, ICLR 2018, appendix C; Karras et
al., A Style-Based Generator Architecture for GANs, CVPR 2019, appendix A): upright along the eyes and the mouth, its
half side the larger of 2 distances between the eyes and 1.8 from eyes to mouth, its centre a tenth of the way from the
eyes to the mouth. What lies beyond the picture is mirrored and blurred.

They differ in two ways. Landmarks: CelebA-HQ's are the points annotated in CelebA, FFHQ's are means of 68 points; here
both are YuNet's five, so near to those that no correction is due, but not the same (docs/alignment.md says how near).
Filters: CelebA-HQ is sampled by bilinear interpolation on a grid four times as dense and averaged by a box; FFHQ is
shrunk first and reduced by Lanczos.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from PIL import Image

from pipeline.core.images import ImageError, Pixels
from pipeline.faces.detector import Face, FaceFinder
from pipeline.faces.geometry import Floats, apply, box_around, centred, centred_on, inverse, rotation, sample, square
from pipeline.pretrained.registry import find

Recipe = Literal["celebahq", "ffhq"]
Several = Literal["reject", "largest", "each"]

_DENSE: Final = 4
"""Samples along each side of a result's pixel."""
_VIEW: Final = 320
_LOOKS: Final = 2
"""Side, pixels, at which an aligned face is looked at again, and how often; see benchmarks/bench_align.py."""
_FADE: Final = 0.05
_BLUR: Final = 0.02
"""Distance beyond the border over which the mirrored picture turns into its blurred one, and sigma of that blur: shares
of the square's side."""
_ROWS: Final = 256
"""Rows that are blended at once."""
_MULTIPLE: Final = 4
"""Sides of results are multiples of this where they are not the side that was asked for."""


@dataclass(frozen=True)
class Aligned:
    """An aligned face.

    Args:
        pixels: uint8 (s, s, 3), RGB.
        transform: float64 (2, 3), from the picture to the result; pixels, the first of which covers 0 to 1.
        score: of the detector, 0..1.
        padding: share of the result that lies beyond the picture and is made up, 0..1.
    """

    pixels: Pixels
    transform: Floats
    score: float
    padding: float


class Aligner:
    """Finds faces and cuts them out aligned. Threads may share one; on one CPU a picture always gives the same bits.

    Args:
        recipe: whose filters, see the module.
        size: side of a result, pixels; a face whose square is smaller keeps its own side, rounded down to a multiple of
            4, since nothing is ever enlarged. None: every face keeps its own.
        several: what to do where a picture shows several faces that are large enough and far enough inside: refuse it,
            take the one that covers most of it, or each of them.
        min_side: least side of a face's square, pixels; smaller faces are passed over.
        max_padding: largest share of a result that may lie beyond the picture.
        detector: YuNet's ONNX file; None: where `facesr weights` has it.

    Raises:
        WeightsError: the detector is missing, or not YuNet; says where it comes from.
    """

    def __init__(
        self,
        recipe: Recipe,
        size: int | None,
        several: Several = "reject",
        min_side: int = 64,
        max_padding: float = 0.25,
        detector: Path | None = None,
    ):
        self.recipe, self.size, self.several = recipe, size, several
        self.min_side, self.max_padding = min_side, max_padding
        self._finder = FaceFinder(find("detector", str(detector) if detector else None))

    def __call__(self, pixels: Pixels) -> list[Aligned]:
        """Aligned faces of a picture, uint8 (h, w, 3), RGB: one, or with `each` one or more from left to right.

        With `each`, faces that are too small or lie too far outside are left out, unless no face is left.

        Raises:
            ImageError: no face, several, one too small, or too much of it lies outside; says which.
        """
        faces = [self._upright(pixels, face) for face in self._finder.find(pixels)]
        if not faces:
            raise ImageError("no face found")
        faces.sort(key=lambda face: -face.box[2] * face.box[3])  # the square of a face that is cut off may be any size
        sides = [2 * float(np.hypot(*square(face.points)[1])) for face in faces]
        shares = [outside(face.points, pixels.shape[1], pixels.shape[0]) for face in faces]
        good = [i for i in range(len(faces)) if sides[i] >= self.min_side and shares[i] <= self.max_padding]
        # a face in the background does not stand in for the one that the picture is of
        if not good or (good[0] != 0 and self.several != "each"):
            if sides[0] < self.min_side:
                raise ImageError(f"face too small ({int(sides[0])} pixels aligned, at least {self.min_side} needed)")
            raise ImageError(
                f"{shares[0]:.0%} of the aligned face would lie outside of the picture, at most "
                f"{self.max_padding:.0%} may"
            )
        if len(good) > 1 and self.several == "reject":
            raise ImageError(f"{len(good)} faces; several: reject")
        inside = good if self.several == "each" else good[:1]
        results = []
        for index in sorted(inside, key=lambda index: faces[index].box[0]):
            matrix, side = transform(faces[index].points, self.size)
            cut = resample(pixels, matrix, side, self.recipe)
            results.append(Aligned(cut, matrix, faces[index].score, shares[index]))
        return results

    def _upright(self, pixels: Pixels, face: Face) -> Face:
        """The face with landmarks as seen again in its aligned square, where YuNet is surest of them."""
        for _ in range(_LOOKS):
            matrix, side = transform(face.points, None)
            matrix *= _VIEW / side
            seen = self._finder.look(np.asarray(sample(pixels, matrix, _VIEW), np.uint8), 1.0)
            middle = apply(matrix, face.points).mean(axis=0)
            near = [view for view in seen if np.hypot(*(view.points.mean(axis=0) - middle)) < _VIEW / 8]  # no neighbour
            if not near:
                break
            best = max(near, key=lambda view: view.score)
            face = Face(face.box, apply(inverse(matrix), best.points), face.score)
        return face


def transform(points: Floats, size: int | None) -> tuple[Floats, int]:
    """Matrix (2, 3) from the picture to the aligned face of landmarks (5, 2), and the face's side, pixels.

    The side is `size`, or that of the face's own square, rounded down to a multiple of 4, where that is smaller.
    """
    centre, axis = square(points)
    half = max(1e-9, float(np.hypot(*axis)))
    own = max(_MULTIPLE, int(2 * half) // _MULTIPLE * _MULTIPLE)
    side = own if size is None or size > 2 * half else size
    return centred_on(centre, rotation(axis / half) * side / (2 * half), side), side


def outside(points: Floats, width: int, height: int) -> float:
    """Share, 0..1, of the aligned square of landmarks (5, 2) that lies outside of a picture."""
    import cv2

    matrix, side = transform(points, None)
    corners = apply(inverse(matrix), np.array(((0, 0), (side, 0), (side, side), (0, side)), float))
    frame = np.array(((0, 0), (width, 0), (width, height), (0, height)), np.float32)
    common, _ = cv2.intersectConvexConvex(corners.astype(np.float32), frame)
    return float(np.clip(1 - common / cv2.contourArea(corners.astype(np.float32)), 0, 1))


def resample(pixels: Pixels, matrix: Floats, side: int, recipe: Recipe) -> Pixels:
    """The square of `side` pixels that `matrix` maps a picture to, uint8 (side, side, 3).

    Args:
        pixels: uint8 (h, w, 3).
        matrix: float (2, 3), continuous coordinates of the picture to those of the square: turned, scaled and moved.
        side: of the result, pixels.
        recipe: whose filters.
    """
    import cv2

    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    corners = apply(inverse(matrix), np.array(((0, 0), (side, 0), (0, side), (side, side)), float))
    part, origin = _surroundings(pixels, corners, side / scale)
    # as far as that leaves two pixels or more for each of the result's: FFHQ shrinks first, and bilinear interpolation
    # on the dense grid would skip pixels of a picture that is larger yet
    step = max(1, int(1 / scale / (2 if recipe == "ffhq" else _DENSE)))
    if step > 1:
        whole = part.shape[0] // step * step, part.shape[1] // step * step
        size = (whole[1] // step, whole[0] // step)
        part = cv2.resize(part[: whole[0], : whole[1]], size, interpolation=cv2.INTER_AREA)
    # Lanczos has no need of more than two samples a pixel, where the picture has none to skip
    count = 2 if recipe == "ffhq" and 1 / scale / step <= 2 else _DENSE
    moved = matrix[:, 2] + matrix[:, :2] @ origin
    warp = count * np.column_stack((matrix[:, :2] * step, moved))
    way = cv2.INTER_LINEAR if recipe == "celebahq" else cv2.INTER_CUBIC
    dense = cv2.warpAffine(
        part, centred(warp), (count * side, count * side), flags=way, borderMode=cv2.BORDER_REFLECT_101
    )
    if recipe == "celebahq":
        return np.asarray(cv2.resize(dense, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(Image.fromarray(dense).resize((side, side), Image.Resampling.LANCZOS))


def _surroundings(pixels: Pixels, corners: Floats, square_side: float) -> tuple[Pixels, Floats]:
    """The part of a picture around corners, mirrored and blurred where they reach beyond it, and where it begins."""
    import cv2

    height, width = pixels.shape[:2]
    margin = 8 + int(0.01 * square_side)  # more than any filter reaches
    low = np.floor(corners.min(axis=0)).astype(int) - margin
    high = np.ceil(corners.max(axis=0)).astype(int) + margin
    left, top, right, bottom = box_around(corners, margin, width, height)
    part: Any = np.ascontiguousarray(pixels[top:bottom, left:right])
    pads = (max(0, top - low[1]), max(0, high[1] - bottom), max(0, left - low[0]), max(0, high[0] - right))
    if not any(pads):
        return part, np.array((left, top), float)
    # mirrored about the picture's own border, not the part's: they are the same where there is padding
    part = cv2.copyMakeBorder(part, *pads, cv2.BORDER_REFLECT_101)
    y, x = np.arange(part.shape[0]) - pads[0] + top, np.arange(part.shape[1]) - pads[2] + left
    beyond = [np.maximum(np.maximum(-line, line - last), 0) for line, last in ((y, height - 1), (x, width - 1))]
    distance = np.hypot(beyond[0][:, None], beyond[1][None]) / (_FADE * square_side)
    weight = np.clip(distance, 0, 1)
    weight = (weight * weight * (3 - 2 * weight))[..., None].astype(np.float32)  # without a kink at either end
    blurred = cv2.GaussianBlur(part, (0, 0), max(0.5, _BLUR * square_side))
    for top_row in range(0, part.shape[0], _ROWS):  # a strip at a time: floats take four times the memory
        strip = slice(top_row, top_row + _ROWS)
        part[strip] = np.rint(part[strip] + weight[strip] * (blurred[strip].astype(np.float32) - part[strip]))
    return part, np.array((left - pads[2], top - pads[0]), float)
