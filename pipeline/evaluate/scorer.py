"""All that is measured on one face: pixels, faults, and whatever the networks at hand can say."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from pipeline.core.errors import FacesrError, first_line
from pipeline.evaluate.cases import Case, EvaluationConfig
from pipeline.faces.detector import FaceFinder
from pipeline.metrics.defects import find_faults
from pipeline.metrics.fidelity import Reference, consistency
from pipeline.metrics.identity import Identity
from pipeline.metrics.perceptual import RESIZES, InceptionFeatures, Perceptual

TRUTH: Final = "original"
"""Name under which the true pictures' Inception features are kept, beside the methods'."""
FEATURES: Final = pa.schema(
    [
        ("id", pa.string()),
        ("method", pa.string()),  # a method, or `original`
        *((name, pa.binary()) for name in RESIZES),  # float32, little-endian
    ]
)

SMALLEST: Final = 64
"""Side, pixels, below which the perceptual networks are shown nothing."""

Row = dict[str, Any]


def _perceptual(kind: str, network: str, config: EvaluationConfig) -> Perceptual | None:
    weights = config.get("networks", {}).get(network)
    return Perceptual(kind, Path(weights), config.get("device", "cpu")) if weights else None


class Judges:
    """The networks at hand, loaded once per process, and the measures that need none."""

    def __init__(self, config: EvaluationConfig) -> None:
        """Load what `config["networks"]` names.

        Raises:
            ValueError: a file of it is unusable.
        """
        networks = config.get("networks", {})
        inception, embedding, detector = (networks.get(name) for name in ("inception", "embedding", "detector"))
        self.inception = InceptionFeatures(Path(inception), config.get("device", "cpu")) if inception else None
        kinds = (("lpips", "alexnet"), ("lpips_vgg", "vgg16"), ("dists", "vgg16"))
        self.perceptual = {kind: _perceptual(kind, network, config) for kind, network in kinds}
        finder = FaceFinder(Path(detector)) if detector else None
        self.identity = Identity(Path(embedding), finder) if embedding else None

    def measure(self, case: Case, split: str, scale: str, methods: list[str]) -> Iterator[Row]:
        """A row of METRICS per method; without metrics where it has no result."""
        truth, low = case.truth, case.low
        reference = Reference(truth) if truth is not None else None
        likeness = self.identity.against(truth) if self.identity and truth is not None else None
        for method in methods:
            row: Row = {"id": case.id, "name": case.name, "split": split, "scale": scale, "method": method}
            result = case.results.get(method)
            if reference is not None and truth is not None and result is not None:
                row |= reference.measure(result)
                if low is not None:
                    row["consistency"] = consistency(result, low)
                    row |= find_faults(truth, low, result)
                # five poolings of AlexNet leave nothing of less
                if min(truth.shape[:2]) >= SMALLEST:
                    row |= {kind: one(truth, result) for kind, one in self.perceptual.items() if one}
                if likeness is not None:
                    row["identity"] = likeness(result)
            yield row

    def describe(self, case: Case) -> Iterator[Row]:
        """A row of FEATURES per picture; none without an Inception network."""
        if self.inception is None or case.truth is None:
            return
        for method, pixels in {TRUTH: case.truth, **case.results}.items():
            found = {name: self.inception(pixels, name).astype("<f4").tobytes() for name in RESIZES}
            yield {"id": case.id, "method": method, **found}


def usable(networks: Mapping[str, str | None], device: str = "cpu") -> tuple[dict[str, str | None], dict[str, str]]:
    """Leave out weights files that cannot be loaded.

    Returns:
        The networks that can be, and for each other that was named why it cannot.
    """
    good: dict[str, str | None] = {}
    problems: dict[str, str] = {}
    for name, path in networks.items():
        alone = EvaluationConfig(faces="", inputs="", upscaled="", methods=[], networks={name: path}, device=device)
        try:
            if name == "detector" and path:
                FaceFinder(Path(path))
            else:
                Judges(alone)
        except (FacesrError, ValueError, RuntimeError) as error:
            good[name], problems[name] = None, first_line(error)
        else:
            good[name] = path
    return good, problems
