"""What `facesr upscale` is asked for: `Settings` decide the images, `RunOptions` only how the work is done.

Settings and `Engine` are written down when a run starts and used again when it is resumed, so that the images are the
same bytes whatever happened in between.
"""

import os
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from pipeline.bulk.outputs import Output, OutputError
from pipeline.codecs.reader import format_of
from pipeline.codecs.writer import FORMATS
from pipeline.runtime.ray_session import prepare
from pipeline.upscale.weights import choose
from pipeline.version import __version__

FEW = 4
"""Images that are done here rather than by workers, whose start would take longer."""


@dataclass(frozen=True)
class Settings:
    """What makes the images what they are.

    Fields that are not compared may differ in the same run: paths of files that checksums name, and a name.
    """

    fidelity: str | None = field(default=None, compare=False)
    """Path of the fidelity generator's weights; None: the released one."""
    realism_model: str | None = field(default=None, compare=False)
    """Path of the realism generator's weights; None: the one that goes with `fidelity`, where `realism` is above 0."""
    realism: float = 0.0
    model: str = ""
    """sha256 of the weights, of both where they are mixed or one of two serves; known when they have been loaded."""
    name: str = field(default="facesr", compare=False)
    """What the weights are called in the images."""
    format: str | None = None
    """png, jpeg, webp or same; None: as OUTPUT is called, else png."""
    quality: int = 95
    """Of JPEG and lossy WebP, 1 to 100."""
    back_projection: int | None = None
    degradation: str = "auto"
    """What the generator is told of the images: auto, none, or as `upscale.told.as_text` gives it."""
    denoise: float = 1.0
    """Share of the noise that is told."""
    deblock: float = 1.0
    """Share of the compression that is told."""
    tile: int = 512
    precision: str = "auto"
    """auto, bf16 or fp32."""
    strip_location: bool = False
    """Leave GPS positions and names of places out of the results' metadata."""
    faces: bool = False
    detector: str | None = field(default=None, compare=False)
    """Path of YuNet."""
    check: bool = False
    embedding: str | None = field(default=None, compare=False)
    """Path of the face embedding."""

    def provenance_tag(self, weights: str) -> dict[str, str]:
        """What an image says of itself, made by `weights`: sha256, two of mixed ones."""
        return {
            "software": f"facesr {__version__}",
            "model": self.name,
            "sha256": weights,
            "realism": f"{self.realism:g}",
            "note": "enlarged 4 times; restored detail is invented and must not serve to identify a person",
        }

    def format_of(self, target: str) -> str:
        """Format of the result called `target`."""
        return (format_of(target) if self.format == "same" else self.format) or "png"

    def chosen_for(self, source: str, output: Output) -> "Settings":
        """Fill in weights files and format where none are named.

        Raises:
            NoModelError: a weights file is missing.
            OutputError: there is no such format, or OUTPUT's name ends in another.
        """
        fidelity, realism_model = choose(_path(self.fidelity), _path(self.realism_model), self.realism)
        chosen = self.format or output.format or "png"
        if chosen not in (*FORMATS, "same"):
            raise OutputError(f"--format {chosen}: one of {', '.join(FORMATS)}, same")
        if output.format not in (None, chosen) and not (chosen == "same" and format_of(source) == output.format):
            raise OutputError(f"--format {chosen}, but OUTPUT ends in {output.path.suffix}")
        return replace(
            self,
            fidelity=absolute(fidelity),
            realism_model=absolute(realism_model),
            name=fidelity.stem if self.fidelity else "facesr",
            format=output.format or chosen,
        )


@dataclass(frozen=True)
class RunOptions:
    """How the work is done; no image depends on it."""

    workers: int | tuple[int, int] | None = None
    """Processes, or the least and the most of them; None: as many as there is room for."""
    cpus_per_worker: int | None = None
    gpus_per_worker: float | None = None
    address: str | None = None
    """Of a Ray cluster; None: this machine."""
    resume: bool = False
    """Go on with an earlier run's own settings where they differ."""
    overwrite: bool = False
    """Begin anew whatever OUTPUT holds."""
    strict: bool = False
    """Stop at the first image that fails."""
    csv: bool = False
    """Write the manifest as CSV too."""
    decode_seconds: float = 120.0
    """That a picture may take to be decoded: far more than the largest that is read takes."""

    def for_images(self, count: int) -> "RunOptions":
        """Decide if Ray is needed: a few images, or all of them on a single core, are done in this process."""
        here = self.address is None and self.workers is None and (count <= FEW or cores() == 1)
        return replace(self, workers=1) if here else self

    @property
    def in_process(self) -> bool:
        """True if the run is its own only worker, without Ray."""
        return self.address is None and self.workers in (1, (1, 1))

    def ray(self, wanted: bool) -> AbstractContextManager[None]:
        """Start Ray in the background where there is work for it; it may have been begun before."""
        return prepare(self.address) if wanted and not self.in_process else nullcontext()


@dataclass(frozen=True)
class Engine:
    """How images are computed: chosen once for a run, since rounding may depend on it."""

    precision: str
    """bf16 or fp32."""
    threads: int
    """Of the network, and for encoding, in each worker."""
    batch_pixels: int
    """Input pixels that go through the network together, at most."""


def cores() -> int:
    """Cores that this process may use: of its affinity, and of its container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, int(quota())))


def quota(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Cores' worth of time that the control groups of this process get; more than any machine has where unlimited."""
    least = float(1 << 20)
    with suppress(OSError):
        for line in proc.read_text().splitlines():
            _, controllers, own = line.split(":", 2)
            base = root if not controllers else root / controllers
            if controllers and "cpu" not in controllers.split(","):
                continue
            inner = PurePosixPath(own.lstrip("/"))
            for folder in (base / part for part in (inner, *inner.parents)):
                least = min(least, _quota_of(folder))
    return least


def _quota_of(group: Path) -> float:
    """Of one group: `cpu.max` holds quota and period, microseconds; in version 1 they are files of their own."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with suppress(OSError, ValueError, ZeroDivisionError):
            limit, period = " ".join((group / name).read_text() for name in names).split()
            if int(limit) > 0:  # `max` is no number, -1 is none
                return int(limit) / int(period)
    return float(1 << 20)


def absolute(path: Path | None) -> str | None:
    """A path as settings hold it: it means the same to every process."""
    return None if path is None else str(path.absolute())


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
