"""Identity: cosine of the face-recognition embeddings of a face and its enlargement."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.images import Pixels
from pipeline.faces.detector import Face, FaceFinder, load_onnx
from pipeline.faces.geometry import Floats, sample

_SIDE = 112
_REFERENCE = np.array(
    ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
)
"""Where ArcFace and its kin want the landmarks in 112x112 pixels (Deng et al., CVPR 2019, and their code)."""
_ALIGNED = np.array(((0.3746, 0.4697), (0.6217, 0.4666), (0.4995, 0.6182), (0.3910, 0.7211), (0.6159, 0.7183)))
"""Where landmarks lie in a picture aligned as FFHQ, in parts of its side: YuNet's means over 60 FFHQ test photographs,
whose standard deviation is 0.012 to 0.024, and 0.042 across for the nose."""
_MEAN, _STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))

_SEEN = 1280
"""Long side, pixels, to which an enlarged picture is reduced before its largest face is looked for."""


class Identity:
    """Similarity of the person in a picture and in its enlargement. Threads may share one.

    Args:
        embedding: ONNX file of a network from an aligned face, (1, 3, 112, 112), RGB normalised as for ImageNet, to an
            embedding, such as MobileFaceNet.
        finder: finds the faces. Without one every picture is taken for a single face aligned as in FFHQ and CelebA-HQ.

    Raises:
        WeightsError: missing, or not such a network.
    """

    def __init__(self, embedding: Path, finder: FaceFinder | None):
        self._lock = threading.Lock()  # OpenCV's networks keep their intermediate results in themselves
        self._network = load_onnx(embedding, "embedding", _load)
        self._finder = finder

    def similarity(self, low: Pixels, high: Pixels) -> float | None:
        """Cosine of the embeddings of the largest face, both pictures aligned by the same landmarks.

        Args:
            low: uint8 (h, w, 3), RGB.
            high: the same picture enlarged, of any size.

        Returns:
            -1..1: near 1 for one person, near 0 for two; None if no face is found.
        """
        against = self._against(low, self._points(low, high))
        return None if against is None else against(high)

    def against(self, truth: Pixels) -> Callable[[Pixels], float] | None:
        """Embed a picture once, for many others of the same face, all aligned by its landmarks.

        Args:
            truth: uint8 (h, w, 3), RGB.

        Returns:
            Function of a picture of the same framing, uint8 (h, w, 3) -> -1..1, as `similarity`; None if no face is
            found.
        """
        return self._against(truth, self._points(truth, truth))

    def _against(self, image: Pixels, points: Floats | None) -> Callable[[Pixels], float] | None:
        if points is None:
            return None
        first = self._embed(image, points * image.shape[1::-1])
        return lambda other: float(np.clip(first @ self._embed(other, points * other.shape[1::-1]), -1, 1))

    def _points(self, low: Pixels, high: Pixels) -> Floats | None:
        """Landmarks of the largest face in parts of the picture's width and height."""
        if self._finder is None:
            # the middle square of a picture that is not square
            height, width = low.shape[:2]
            return (_ALIGNED - 0.5) * min(height, width) / (width, height) + 0.5
        # landmarks are surest in the larger picture; a face too small to be seen in it reduced is looked for in `low`
        for pixels in (_reduced(high), low):
            faces = self._finder.find(pixels)
            if faces:
                return max(faces, key=_area).points / pixels.shape[1::-1]
        return None

    def _embed(self, pixels: Pixels, points: Floats) -> Floats:
        """Embedding of length 1."""
        face = sample(pixels, _similarity(points, _REFERENCE), _SIDE)
        blob = ((face / 255 - _MEAN) / _STD).astype(np.float32).transpose(2, 0, 1)[None]
        with self._lock:
            self._network.setInput(np.ascontiguousarray(blob))
            values = self._network.forward().ravel().astype(np.float64)
        return values / max(1e-12, float(np.linalg.norm(values)))


def _load(path: str) -> Any:
    import cv2

    network = cv2.dnn.readNetFromONNX(path)
    network.setInput(np.zeros((1, 3, _SIDE, _SIDE), np.float32))
    values = network.forward()
    if values.ndim != 2 or values.shape[0] != 1 or values.size < 64:
        raise ValueError(f"it gives {values.shape}")
    return network


def _area(face: Face) -> float:
    return face.box[2] * face.box[3]


def _reduced(pixels: Pixels) -> Pixels:
    import cv2

    long = max(pixels.shape[:2])
    if long <= _SEEN:
        return pixels
    step = max(1, long // (4 * _SEEN))  # a memory map of gigabytes is not read whole
    pixels = np.ascontiguousarray(pixels[::step, ::step])
    scale = _SEEN / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def _similarity(source: Floats, target: Floats) -> Floats:
    """The turn, scale and shift, float (2, 3), that lays points (n, 2) best on others in the least squares."""
    from_mean, to_mean = source.mean(axis=0), target.mean(axis=0)
    a, b = source - from_mean, target - to_mean
    # as complex numbers it is one division; a mirror image is not among the solutions
    p, q = a[:, 0] + 1j * a[:, 1], b[:, 0] + 1j * b[:, 1]
    factor = (p.conj() @ q) / max(1e-12, float((p.conj() @ p).real))
    turn = np.array(((factor.real, -factor.imag), (factor.imag, factor.real)))
    return np.column_stack((turn, to_mean - turn @ from_mean))
