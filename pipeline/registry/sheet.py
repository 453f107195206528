"""A sheet of drawn faces for a model's card: it shows nobody, so it may be passed on."""

import numpy as np

from pipeline.core.images import Pixels, resize
from pipeline.synthetic.portrait import portrait
from pipeline.upscale.upscaler import Upscaler

SEED, FACES, SIDE = 77, 3, 256
COLUMNS = ("input, 64x64", "bicubic", "result", "original, 256x256")
_GAP = 4


def sheet(upscaler: Upscaler) -> Pixels:
    """Draw faces, reduce them to 64x64 and enlarge them: a row per face, columns as COLUMNS; uint8 (h, w, 3)."""
    rows = []
    for index in range(FACES):
        original = portrait(SEED, index, SIDE)
        low = resize(original, SIDE // 4, SIDE // 4)
        pictures = [np.kron(low, np.ones((4, 4, 1), np.uint8)), resize(low, SIDE, SIDE), upscaler(low), original]
        rows.append(np.concatenate([np.pad(picture, ((0, _GAP), (0, _GAP), (0, 0))) for picture in pictures], axis=1))
    result: Pixels = np.concatenate(rows)[:-_GAP, :-_GAP]
    return result
