"""Enlarge each face of a picture once more in the upright frame that was trained on, and blend it in.

The generators are trained on faces aligned as in CelebA-HQ and FFHQ. A face that is turned in a group picture is not:
it is turned upright, enlarged, turned back and blended into the picture that was enlarged as a whole. An upright face
is enlarged from the very same pixels, but apart from the rest of the picture.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.images import Planes
from pipeline.core.scales import FACTOR
from pipeline.faces.detector import Face
from pipeline.faces.geometry import Floats, apply, box_around, canonical, centred, inverse, sample, snapped

_LARGEST = 512
"""Faces whose canonical square is larger, pixels of the input, are left as they are: in them the network has seen all
that it was trained to see, and reduced first they would lose what the input holds."""
_SOLID, _CLEAR = 0.65, 0.92
"""Where the blending mask begins to fall and where it is 0, in half sides of the canonical square."""
_BLOCK, _HALO = 256, 8
"""Pieces in which a face is blended, input pixels: they bound the memory, whatever the size of the face."""


def restore_faces(enlarge: Callable[[Planes], Planes], low: Planes, high: Planes, faces: Sequence[Face]) -> int:
    """Enlarge each face in its upright frame and blend it into the enlarged picture.

    What a face brings is its detail: what `low` can hold is made that of `high`, so that no seam is seen and `high`
    agrees with `low` as well as it did before. Only pixels around the faces are read and written. Where faces overlap,
    the later one lies above.

    Args:
        enlarge: RGB (n, n, 3) of the depth of `low` -> (4n, 4n, 3); n is a multiple of 16 from 64 to 512.
        low: (h, w, c), c = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        high: (4h, 4w, c) of the same depth, changed in place; may be a memory map. Alpha stays as it is.
        faces: in `low`.

    Returns:
        How many faces were done. Those larger than 512 pixels, with hair and chin, are left as they are.

    Raises:
        ValueError: `high` is not 4 times `low`, or of another depth.
    """
    height, width, channels = low.shape
    if high.shape != (FACTOR * height, FACTOR * width, channels) or high.dtype != low.dtype:
        raise ValueError(f"cannot put faces of {low.dtype} {low.shape} into {high.dtype} {high.shape}")
    done = 0
    for face in faces:
        if not np.isfinite(face.points).all():
            continue
        matrix, side, inner = canonical(face.points)
        if not 8 <= inner <= _LARGEST:
            continue
        matrix, whole = snapped(matrix, side)
        frame = _frame(low, high, matrix, side, whole)
        drawn = enlarge(frame).astype(np.float32)
        if channels < 3:
            drawn = drawn.mean(axis=2, keepdims=True)
        _blend(drawn, matrix, inner / side, low, high)
        done += 1
    return done


def _frame(low: Planes, high: Planes, matrix: Floats, side: int, whole: bool) -> Planes:
    """A face's colours (side, side, 3), upright; grey is repeated."""
    colours = 3 if low.shape[2] > 2 else 1
    if whole:
        frame = sample(low[..., :colours], matrix, side).astype(np.float32)
    else:
        # turned as enlarged and then reduced as in training: `low` itself has too few pixels to be turned without blur
        finer = np.column_stack((matrix[:, :2], FACTOR * matrix[:, 2]))
        frame = _resized(sample(high[..., :colours], finer, FACTOR * side).astype(np.float32), side, side)
    return _rounded(np.repeat(frame, 3 // colours, axis=2), low)


def _rounded(values: NDArray[np.float32], like: Planes) -> Planes:
    """Whole numbers of the depth of `like`."""
    rounded = np.clip(np.rint(values), 0, np.iinfo(like.dtype).max)
    return rounded.astype(np.uint16) if like.dtype == np.uint16 else rounded.astype(np.uint8)


def _blend(drawn: NDArray[np.float32], matrix: Floats, share: float, low: Planes, high: Planes) -> None:
    """Turn an enlarged frame back and lay it into `high`; the recipe's square is `share` of the frame's side."""
    import cv2

    height, width = low.shape[:2]
    side, colours = drawn.shape[0], drawn.shape[2]
    reach = share * side / 2 * np.array((-_CLEAR, _CLEAR))
    ends = np.array([(x, y) for x in side / 2 + reach for y in side / 2 + reach]) / FACTOR
    left, top, right, bottom = box_around(apply(inverse(matrix), ends), 1, width, height)
    # blocks read what was there before any of them was written: their margins overlap
    reach_left, reach_top = max(0, left - _HALO), max(0, top - _HALO)
    reach_right, reach_bottom = min(width, right + _HALO), min(height, bottom + _HALO)
    before = high[
        FACTOR * reach_top : FACTOR * reach_bottom, FACTOR * reach_left : FACTOR * reach_right, :colours
    ].copy()
    for x0, y0, x1, y1 in _blocks(left, top, right, bottom):
        a0, b0 = max(reach_left, x0 - _HALO), max(reach_top, y0 - _HALO)
        a1, b1 = min(reach_right, x1 + _HALO), min(reach_bottom, y1 + _HALO)
        size = FACTOR * (a1 - a0), FACTOR * (b1 - b0)
        # the frame is 4 times as dense as `matrix` says, and so is the block: only the shift changes
        warp = centred(np.column_stack((matrix[:, :2], FACTOR * (matrix[:, 2] + matrix[:, :2] @ (a0, b0)))))
        turned = cv2.warpAffine(
            drawn, warp, size, flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        ).reshape(size[1], size[0], colours)
        old = before[
            FACTOR * (b0 - reach_top) : FACTOR * (b1 - reach_top),
            FACTOR * (a0 - reach_left) : FACTOR * (a1 - reach_left),
        ].astype(np.float32)
        turned += _coarse(old - turned)
        turned += _coarse(old - turned)
        mask = _mask(warp, size, side, share)[..., None]
        new = _rounded(old + mask * (turned - old), high)
        inner = new[FACTOR * (y0 - b0) :, FACTOR * (x0 - a0) :][: FACTOR * (y1 - y0), : FACTOR * (x1 - x0)]
        high[FACTOR * y0 : FACTOR * y1, FACTOR * x0 : FACTOR * x1, :colours] = inner


def _blocks(left: int, top: int, right: int, bottom: int) -> Iterator[tuple[int, int, int, int]]:
    for y in range(top, bottom, _BLOCK):
        for x in range(left, right, _BLOCK):
            yield x, y, min(right, x + _BLOCK), min(bottom, y + _BLOCK)


def _coarse(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The part of float32 (4h, 4w, c) that a picture reduced 4x would hold."""
    height, width = pixels.shape[:2]
    return _resized(_resized(pixels, height // FACTOR, width // FACTOR), height, width)


def _resized(pixels: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """The bicubic of `pipeline.core.images.resize`, unrounded: float32 (h, w, c) -> (height, width, c)."""
    planes = [Image.fromarray(plane) for plane in np.ascontiguousarray(pixels.transpose(2, 0, 1))]
    return np.stack([np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC)) for plane in planes], axis=2)


def _mask(warp: Floats, size: tuple[int, int], side: int, share: float) -> NDArray[np.float32]:
    """Weight (h, w) of the frame in a block: 1 on the face, falling smoothly to 0 within the recipe's square."""
    across, down = np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)[:, None]
    half = np.float32(share * side / 2)
    # `warp` maps block to frame, between centres of pixels
    u, v = (
        (np.float32(row[0]) * across + np.float32(row[1]) * down + np.float32(row[2] + 0.5 - side / 2)) / half
        for row in warp
    )
    radius = np.sqrt(np.sqrt(u**4 + v**4))  # a square with round corners
    part = np.clip((_CLEAR - radius) / (_CLEAR - _SOLID), 0, 1)
    return np.asarray(part * part * (3 - 2 * part), np.float32)
