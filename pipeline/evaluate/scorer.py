"""All that is measured on one face: pixels, defects, and whatever the networks at hand can say."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from pipeline.core.images import Pixels
from pipeline.core.schema import Row
from pipeline.evaluate.cases import Case, EvaluationConfig
from pipeline.faces.detector import FaceFinder
from pipeline.metrics.defects import Reduced
from pipeline.metrics.fidelity import Reference
from pipeline.metrics.identity import Identity
from pipeline.metrics.registry import RESIZES

if TYPE_CHECKING:
    from pipeline.metrics.perceptual import InceptionFeatures, Perceptual

TRUTH: Final = "original"
"""Name under which the true pictures' Inception features are kept, beside the methods'."""
FEATURES: Final = pa.schema(
    [
        ("id", pa.string()),
        ("method", pa.string()),  # a method, or `original`
        *((name, pa.binary()) for name in RESIZES),  # float32, little-endian
    ]
)


def features_folder(parts: Path, split: str, scale: str) -> Path:
    """Where the units' files of FEATURES of a split and scale are."""
    return parts / "features" / split / scale


SMALLEST: Final = 64
"""Side, pixels, below which the perceptual networks are shown nothing."""


class Scorer:
    """The metric networks at hand, loaded once per process, and the metrics that need none."""

    def __init__(self, config: EvaluationConfig) -> None:
        """Load what `config.networks` names.

        Raises:
            WeightsError: a file of it is unusable.
        """
        files = {name: Path(path) for name, path in config.networks.items()}
        kinds = (("lpips", "alexnet"), ("lpips_vgg", "vgg16"), ("dists", "vgg16"))
        self.inception: InceptionFeatures | None = None
        self.perceptual: dict[str, Perceptual] = {}
        if files.keys() & {"inception", "alexnet", "vgg16"}:
            # only here: torch takes each worker two seconds to import
            from pipeline.metrics import perceptual

            if "inception" in files:
                self.inception = perceptual.InceptionFeatures(files["inception"], config.device)
            for kind, name in kinds:
                if name in files:
                    self.perceptual[kind] = perceptual.Perceptual(kind, files[name], config.device)
        finder = FaceFinder(files["detector"]) if "detector" in files else None
        self.identity = Identity(files["embedding"], finder) if "embedding" in files else None
        self._truth: Pixels | None = None
        self._reference: Reference | None = None
        self._similarity: Callable[[Pixels], float | None] | None = None

    def measure(self, case: Case, split: str, scale: str, methods: Sequence[str]) -> Iterator[Row]:
        """A row of METRICS per method; without metrics where it has no result."""
        truth, low = case.truth, case.low
        if truth is not None and truth is not self._truth:
            self._look_at(truth)
        reduced = Reduced(truth, low) if truth is not None and low is not None else None
        for method in methods:
            row: Row = {"id": case.id, "name": case.name, "split": split, "scale": scale, "method": method}
            result = case.results.get(method)
            if truth is not None and self._reference is not None and result is not None:
                row |= self._reference.measure(result)
                if reduced is not None:
                    row |= reduced.measure(result)
                # five poolings of AlexNet leave nothing of less
                if min(truth.shape[:2]) >= SMALLEST:
                    row |= {kind: distance(truth, result) for kind, distance in self.perceptual.items()}
                if self._similarity is not None:
                    row["identity"] = self._similarity(result)
            yield row

    def _look_at(self, truth: Pixels) -> None:
        """Work out what serves every result of a true picture, also those of other inputs made of it."""
        self._reference = None  # it is large: never two at a time
        self._truth, self._reference = truth, Reference(truth)
        self._similarity = self.identity.against(truth) if self.identity else None

    def features(self, case: Case) -> Iterator[Row]:
        """A row of FEATURES per picture; none without an Inception network."""
        if self.inception is None or case.truth is None:
            return
        for method, pixels in {TRUTH: case.truth, **case.results}.items():
            vectors = {name: self.inception(pixels, name).astype("<f4").tobytes() for name in RESIZES}
            yield {"id": case.id, "method": method, **vectors}
