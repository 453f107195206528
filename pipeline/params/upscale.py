"""The `upscale` section of params.yaml: which faces are enlarged, and how."""

from typing import Annotated, Literal, Self

from pydantic import model_validator

from pipeline.core.degradation import KINDS
from pipeline.core.limits import Count, Limits, Positive, Precision
from pipeline.core.scales import AUGMENTED, UPSCALED_SCALES
from pipeline.params.base import GpuWorkers, Unit


class Upscale(GpuWorkers):
    """Ray-distributed enlargement of the train and test faces."""

    faces: dict[str, Positive] = {}
    """Only the first so many faces of a split are enlarged and measured; all where a split is not named."""
    augmented: dict[str, Count] = {}
    """So many faces of a split are enlarged and measured once more, apart, from inputs that have noise, blur or JPEG
    loss added, drawn as `pairs` draws them; none where a split is not named."""
    kinds: list[Literal[tuple(KINDS)]] = []  # type: ignore[valid-type]
    """Of `core.degradation.KINDS`: degraded inputs that generators and baselines are measured on besides, apart."""
    kind_faces: dict[str, Count] = {}
    """So many faces of a split are enlarged from inputs of each kind; none where a split is not named."""
    seed: Count = 1
    """Of the noise of kinds."""
    tile: Annotated[int, Limits(ge=64)] = 512
    """Side of the pieces that larger inputs are cut into, pixels."""
    back_projection: Count = 0
    """Iterations; more than 0 makes the fidelity generator's results agree with their clean inputs. The realism
    generator's are left as they are: agreement takes some of its texture away. Those of inputs that are JPEG files
    agree with what these store, one step, of both generators where they are told."""
    precision: Precision = "auto"
    unit: Unit = 16
    max_failed: Count = 0

    @model_validator(mode="after")
    def _known_splits(self) -> Self:
        for name in ("faces", "augmented", "kind_faces"):
            unknown = set(getattr(self, name)) - {"train", "test"}
            if unknown:
                raise ValueError(f"{name}: {', '.join(sorted(unknown))}: only train and test are enlarged")
        if self.kinds and not sum(self.kind_faces.values()):
            raise ValueError("kind_faces: kinds need faces, such as {test: 24}")
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError("kinds: each once")
        return self

    def limits(self) -> dict[str, dict[str, int]]:
        """Faces at most, by scale and split; a split that is not named has no limit."""
        augmented = {"train": 0, "test": 0} | self.augmented
        clean = {scale: dict(self.faces) for scale in UPSCALED_SCALES}
        clean |= {f"{scale}{AUGMENTED}": augmented for scale in UPSCALED_SCALES}
        return clean | self.kind_limits()

    def kind_limits(self) -> dict[str, dict[str, int]]:
        """Faces at most of the scales of kinds, by scale and split."""
        faces = {"train": 0, "test": 0} | self.kind_faces
        return {f"{scale}-{kind}": faces for kind in self.kinds for scale in UPSCALED_SCALES}

    @property
    def needs_originals(self) -> bool:
        """True if some kind is made of originals."""
        return any(KINDS[kind].reduction for kind in self.kinds)
