"""Faces where one wants them, textures, and the networks and photographs of ../shared."""

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from pipeline.core.images import Pixels
from pipeline.faces.detector import Face
from support.stages import ROOT

SHARED = ROOT.parent / "shared"


DETECTOR, EMBEDDING = SHARED / "weights/yunet_n_320_320.onnx", SHARED / "weights/mobilefacenet.onnx"


PHOTOS = sorted(SHARED.glob("data/photos/*.jpg"))


# right eye, left eye, nose, right and left corner of the mouth, of a face 100 wide around the origin
UPRIGHT = np.array(((-20.0, -20.0), (20.0, -20.0), (0.0, 3.0), (-16.0, 25.0), (16.0, 25.0)))


def face_at(x: float, y: float, size: float = 1.0, degrees: float = 0.0) -> Face:
    """A face whose middle is at x, y, turned clockwise in the picture."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    points = size * UPRIGHT @ np.array(((cosine, sine), (-sine, cosine))) + (x, y)
    left, top = points.min(axis=0)
    right, bottom = points.max(axis=0)
    return Face((left, top, right - left, bottom - top), points, 0.9)


def texture(height: int, width: int, channels: int = 3, seed: int = 0) -> Pixels:
    """Soft random patterns with edges: a shift by a quarter of a pixel changes them by several grey levels."""
    rng = np.random.default_rng(seed)
    planes = []
    for _ in range(channels):
        noise = Image.fromarray(rng.integers(30, 226, (height // 6 + 1, width // 6 + 1), dtype=np.uint8))
        planes.append(np.asarray(noise.resize((width, height), Resampling.BICUBIC)))
    pixels = np.stack(planes, axis=2)
    pixels[height // 3 : height // 2, width // 3 : width // 2] //= 2
    return pixels
