"""Where the eyes, the mouth and the hair of a face are, for pictures that show them large."""

from pathlib import Path
from threading import Lock

import numpy as np

from pipeline.evaluate.cases import Case, EvaluationConfig
from pipeline.faces.detector import FaceFinder

CropCentres = dict[str, tuple[float, float]]
"""Name of a feature -> its centre as shares of the picture's width and height."""

ALIGNED: CropCentres = {"eye": (0.375, 0.46), "mouth": (0.5, 0.72), "hair": (0.36, 0.10)}
"""Where aligned portraits (the FFHQ and CelebA-HQ crop) have these."""


class FaceCrops:
    """Finds a face's features by the detector's landmarks; without one, where aligned portraits have them."""

    def __init__(self, config: EvaluationConfig) -> None:
        detector = config.networks.get("detector")
        self._finder = FaceFinder(Path(detector)) if detector else None
        self._known: dict[tuple[str, str], CropCentres] = {}
        self._alone = Lock()  # a detector looks at one picture at a time, and sheets are drawn by threads

    def __call__(self, case: Case) -> CropCentres:
        """Crops of a case, looked for in its true picture."""
        # at each scale the picture is another, and which one is asked for first is left to chance
        key = case.id, case.scale
        with self._alone:
            if key not in self._known:
                self._known[key] = self._find(case)
            return self._known[key]

    def _find(self, case: Case) -> CropCentres:
        if self._finder is None or case.truth is None or not (faces := self._finder.find(case.truth)):
            return ALIGNED
        face = max(faces, key=lambda face: face.box[2] * face.box[3])
        points = face.points / case.truth.shape[1::-1]
        eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
        # above the forehead, as far from the eyes as the mouth is below them, and half as far again
        hair = np.clip(eyes + 1.5 * (eyes - mouth), 0.05, 0.95)
        centres = {"eye": points[0], "mouth": mouth, "hair": hair}
        return {name: (float(x), float(y)) for name, (x, y) in centres.items()}
