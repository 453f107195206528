"""The `evaluate` section of params.yaml: networks of the metrics, and how the work is cut."""

from typing import Literal

from pipeline.core.limits import Count, Positive
from pipeline.params.base import Unit, Workers


class Evaluate(Workers):
    """Metrics against the baselines, plots, sheets and the report."""

    inception: str | None = None
    """Inception weights for FID, KID, precision and recall; null, as with those below: where `facesr weights list`
    shows. A metric whose network is in neither place is null, with the reason."""
    alexnet: str | None = None
    """Trunk of LPIPS."""
    vgg16: str | None = None
    """Trunk of LPIPS with VGG, and of DISTS."""
    embedding: str | None = None
    """Face embedding, ONNX, for identity."""
    detector: str | None = None
    """Face detector, ONNX, for identity and for the crops on sheets."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where these networks run; the last two always run on the CPU."""
    sheet_faces: Positive = 4
    """Faces on a comparison sheet."""
    unit: Unit = 8
    max_failed: Count = 0
    """Faces that could not be judged with which the stage still succeeds."""
