"""Find faces of any size and turned by any angle: YuNet, run by OpenCV on pictures brought to its liking."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.images import Pixels
from pipeline.faces.geometry import Floats, apply, centred_on, inverse, roll, rotation, sample
from pipeline.pretrained.registry import WeightsError

_OVERVIEW = 640
"""Long side, pixels, at which a picture is first looked at: faces from a 40th of it up are seen."""
_TILE, _OVERLAP = 1280, 256
_SMALL = 64
"""Width of a face, pixels as seen, below which the overview may have missed others, and a closer look is taken."""
_SCORE = 0.6
"""Least score: faces of 10 to 20 pixels score 0.75 to 0.9, larger ones 0.9 and more."""

_SURE, _UPRIGHT = 0.9, 10.0
"""Score and degrees. Landmarks of faces turned by more than 30 degrees are pulled upright by the network, by 30 degrees
and more, at scores below 0.9: only a sure face that looks upright is taken at its word."""
_TURNS = range(-150, 181, 30)
_VIEW, _ROOM = 160, 2.2
"""Side of a turned view of one face, pixels, and how much more than the box it shows."""


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    Args:
        box: x, y, width, height, pixels.
        points: float (5, 2), x and y of right eye, left eye, nose tip, right and left corner of the mouth; right and
            left are the subject's.
        score: of the detector, 0..1.
    """

    box: tuple[float, float, float, float]
    points: Floats
    score: float

    def scaled(self, factor: float) -> "Face":
        """The same face in the picture resized by `factor`."""
        x, y, width, height = (value * factor for value in self.box)
        return Face((x, y, width, height), self.points * factor, self.score)


class FaceFinder:
    """YuNet, a face detector (Wu, Peng and Yu, 2023), on pictures of any size. Threads may share one.

    Args:
        detector: its ONNX file.

    Raises:
        WeightsError: missing, or not a YuNet network.
    """

    def __init__(self, detector: Path):
        self._lock = threading.Lock()  # OpenCV's networks keep their intermediate results in themselves
        self._detector = load_onnx(detector, "detector", _create)

    def find(self, pixels: Pixels) -> list[Face]:
        """Faces from about 16 pixels wide, from left to right.

        Looks at the picture as a whole, reduced to 640 pixels, and if that shows no face or small ones, at its full
        resolution in overlapping tiles: about 0.1 s for each megapixel on one core. Faces that are turned or hard to
        see are looked at from all sides, about 0.05 s each.

        Args:
            pixels: uint8 (h, w, 3), RGB, sides from 1 up.
        """
        height, width = pixels.shape[:2]
        scale = min(2.0, _OVERVIEW / max(height, width))  # small pictures enlarged: from 16 pixels on, all are found
        faces = self.look(pixels, scale)
        closer = 2.0 if max(height, width) <= _TILE else 1.0
        if closer > scale and not (faces and all(face.box[2] * scale >= _SMALL for face in faces)):
            side = int(_TILE / closer)
            for top in _starts(height, side):
                for left in _starts(width, side):
                    faces += self.look(pixels[top : top + side, left : left + side], closer, left, top)
        faces = [self._rotated(pixels, face) for face in _distinct(faces)]
        return sorted(faces, key=lambda face: (face.box[0], face.box[1]))

    def _rotated(self, pixels: Pixels, face: Face) -> Face:
        """The face with landmarks seen upright: in the surest of views turned by 30 degrees, then set straight."""
        if face.score >= _SURE and abs(roll(face.points)) < _UPRIGHT:
            return face
        views = [view for degrees in _TURNS if (view := self._view(pixels, face, degrees))]
        if not views:
            return face
        best = max(views, key=lambda view: view.score)
        return self._view(pixels, face, roll(best.points)) or best

    def _view(self, pixels: Pixels, face: Face, degrees: float) -> Face | None:
        """The face as seen with the picture turned back by some degrees, in coordinates of the picture."""
        x, y, width, height = face.box
        centre, scale = np.array((x + width / 2, y + height / 2)), _VIEW / (_ROOM * max(width, height, 1))
        cosine, sine = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
        matrix = centred_on(centre, rotation((cosine, sine)), _VIEW)
        best = None
        for seen in self.look(np.asarray(sample(pixels, matrix, _VIEW), np.uint8), 1.0):
            middle = np.array(seen.box[:2]) + np.array(seen.box[2:]) / 2
            same = np.abs(middle - _VIEW / 2).max() < _VIEW / 5  # and not a neighbour
            if same and (best is None or seen.score > best.score):
                best = Face(face.box, apply(inverse(matrix), seen.points), seen.score)
        return best

    def look(self, pixels: Pixels, scale: float, left: int = 0, top: int = 0) -> list[Face]:
        """Faces in a piece of a picture seen once, at `scale`, in coordinates of the picture.

        Args:
            pixels: the piece, uint8 (h, w, 3), RGB.
            scale: what it is resized by before the network sees it.
            left: where the piece begins in the picture, pixels.
            top: likewise.
        """
        import cv2

        height, width = pixels.shape[:2]
        size = max(1, round(width * scale)), max(1, round(height * scale))
        if size != (width, height):
            way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            pixels = cv2.resize(pixels, size, interpolation=way)
        with self._lock:
            self._detector.setInputSize(size)
            _, found = self._detector.detect(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        faces = []
        for row in [] if found is None else found.astype(np.float64):
            if np.isfinite(row).all():
                points = row[:14].reshape(7, 2) * (width / size[0], height / size[1])
                points[[0, 2, 3, 4, 5, 6]] += left, top  # the second pair is the size of the box
                faces.append(Face((*points[0], *points[1]), points[2:], float(row[14])))
        return faces


def _create(path: str) -> Any:
    import cv2

    detector = cv2.FaceDetectorYN.create(path, "", (64, 64), _SCORE, 0.3, 5000)
    detector.detect(np.zeros((64, 64, 3), np.uint8))  # another network fails here and not at the first picture
    return detector


def load_onnx(path: Path, name: str, load: Callable[[str], Any]) -> Any:
    """Load an ONNX file by a function of OpenCV.

    Raises:
        WeightsError: missing, or `load` cannot use it; `name` is what the network is for.
    """
    import cv2

    if not path.is_file():
        raise WeightsError(f"{name}: there is no file {path}")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it warns of harmless things at every start
    try:
        return load(str(path))
    except (cv2.error, ValueError) as error:
        raise WeightsError(f"{name}: {path} is not an ONNX file of the network that is needed") from error
    finally:
        cv2.utils.logging.setLogLevel(level)


def _starts(length: int, side: int) -> list[int]:
    """Where tiles of `side` begin that cover `length` and overlap by at least `_OVERLAP` pixels as seen."""
    if length <= side:
        return [0]
    count = -(-(length - side) // (side - _OVERLAP)) + 1
    return [round(index * (length - side) / (count - 1)) for index in range(count)]


def _distinct(faces: Sequence[Face]) -> list[Face]:
    """Each face once: of boxes that mean the same one the best scored, of one inside of another the larger."""
    kept = _apart(sorted(faces, key=lambda face: (-face.score, face.box)), 0, 0.3)
    # half a face at the edge of a tile, or an eye seen from close, lies in the box of the whole face
    return _apart(sorted(kept, key=lambda face: (-face.box[2] * face.box[3], face.box)), 1, 0.8)


def _apart(faces: Sequence[Face], measure: int, most: float) -> list[Face]:
    """The first face, and each that shares less than `most` with all before, by one of the measures of `_shared`."""
    kept: list[Face] = []
    for face in faces:
        if all(_shared(face, other)[measure] < most for other in kept):
            kept.append(face)
    return kept


def _shared(a: Face, b: Face) -> tuple[float, float]:
    """Area that two boxes share, as a part of their union and of the smaller one."""
    width = min(a.box[0] + a.box[2], b.box[0] + b.box[2]) - max(a.box[0], b.box[0])
    height = min(a.box[1] + a.box[3], b.box[1] + b.box[3]) - max(a.box[1], b.box[1])
    both = max(0.0, width) * max(0.0, height)
    first, second = a.box[2] * a.box[3], b.box[2] * b.box[3]
    return both / max(1e-9, first + second - both), both / max(1e-9, min(first, second))
