"""What a run does, as plain values: settings that make the pictures what they are, and how they are computed.

Both are written down when the run starts and used again when it is resumed, so that the pictures are the same bytes
whatever happened in between.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from pipeline.bulk.outputs import Output
from pipeline.storage.path import StoragePath
from pipeline.version import __version__

S = TypeVar("S", bound="_Values")


class _Values:
    """A dataclass of JSON-like values."""

    def to_dict(self) -> dict[str, Any]:
        """As a dict, the inverse of `from_dict`."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls: type[S], values: dict[str, Any]) -> S:
        """Rebuild; keys of another version are left out."""
        known = {one.name for one in fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in values.items() if name in known})


@dataclass(frozen=True)
class Settings(_Values):
    """What makes the pictures what they are."""

    fidelity: str
    """Path of the fidelity generator's weights."""
    realism_model: str | None
    """Path of the realism generator's weights, where `realism` is above 0."""
    realism: float
    model: str
    """sha256 of the weights, of both where they are mixed."""
    name: str
    """What the weights are called in the pictures."""
    format: str = "png"
    """png, jpeg, webp or same."""
    quality: int = 95
    """Of JPEG and lossy WebP, 1 to 100."""
    back_projection: int | None = None
    tile: int = 512
    precision: str = "auto"
    faces: bool = False
    detector: str | None = None
    """Path of YuNet."""
    check: bool = False
    embedding: str | None = None
    """Path of the face embedding."""
    strict: bool = False

    @property
    def mark(self) -> dict[str, str]:
        """What every picture says of itself."""
        return {
            "software": f"facesr {__version__}",
            "model": self.name,
            "sha256": self.model,
            "realism": f"{self.realism:g}",
            "note": "enlarged 4 times; restored detail is invented and must not serve to identify a person",
        }


NOT_IN_PICTURES = {"fidelity", "realism_model", "strict", "detector", "embedding", "name"}
"""Settings that may change without another picture coming out: places of files that their hashes name."""


@dataclass(frozen=True)
class Engine(_Values):
    """How they are computed: chosen once, since rounding may depend on it."""

    precision: str
    """bf16 or fp32."""
    threads: int
    """Of the network, and for encoding, in each worker."""
    batch_pixels: int
    """Input pixels that go through the network together, at most."""


@dataclass(frozen=True)
class Task(_Values):
    """All that a worker must know."""

    place: str
    kind: str
    settings: Settings
    engine: Engine
    run: str
    """Names this run of the command."""

    @property
    def output(self) -> Output:
        """Where results go."""
        return Output(StoragePath.of(self.place), self.kind)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Task":
        """Rebuild from `to_dict`."""
        nested = {
            "settings": Settings.from_dict(values["settings"]),
            "engine": Engine.from_dict(values["engine"]),
        }
        return cls(**(values | nested))
