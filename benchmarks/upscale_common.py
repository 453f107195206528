"""What the benchmarks of `facesr upscale` share: faces in quantity, small generators, and the command under watch."""

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import torch

from pipeline.core.files import atomic
from pipeline.core.images import Pixels, encode_png
from pipeline.models.checkpoint import save_generator
from pipeline.models.config import GeneratorConfig
from pipeline.models.networks import Generator
from pipeline.synthetic.portrait import VERSION, portrait

ROOT = Path(__file__).resolve().parents[1]

SIDE = 256
DRAWN = 36
"""Portraits that all faces are varied from: drawing one takes as long as varying a hundred."""
MARGIN = 32
"""By how much a portrait is larger than a face, so that it can be shifted."""

TINY = GeneratorConfig(widths=(8,), blocks=1, bottleneck=1)


def make_generator(path: Path, config: GeneratorConfig = TINY) -> Path:
    """Save a generator of random weights, which draws something else than bicubic enlargement."""
    torch.manual_seed(0)
    generator = Generator(config)
    torch.nn.init.normal_(generator.to_rgb.weight, std=0.01)
    save_generator(path, generator, config, {}, torch.float16)
    return path


class Faces:
    """Any number of faces, of which no two are alike; the drawn ones are kept in the system's temporary folder."""

    def __init__(self) -> None:
        cached = Path(tempfile.gettempdir()) / f"facesr-bench-{os.getuid()}" / f"portraits-{VERSION}.npy"
        if not cached.exists():
            drawn = np.stack([portrait(0, index, SIDE + MARGIN) for index in range(DRAWN)])
            with atomic(cached) as path, path.open("wb") as handle:
                np.save(handle, drawn)
        self.portraits = np.load(cached)

    def face(self, index: int, side: int = SIDE) -> Pixels:
        """RGB uint8 (side, side, 3) of at most 256: flipped, shifted, lit and with noise of its own."""
        random = np.random.default_rng(index)
        whole = self.portraits[index % DRAWN]
        y, x = random.integers(0, len(whole) - side + 1, 2)
        face = whole[y : y + side, x : x + side][:, :: random.choice((-1, 1))]
        lit = face * random.uniform(0.8, 1.15, 3) + random.normal(0, 1.5, face.shape)
        return np.clip(np.rint(lit), 0, 255).astype(np.uint8)

    def png(self, index: int, side: int = SIDE) -> bytes:
        """A face as a file."""
        return encode_png(self.face(index, side))

    def zip(self, path: Path, count: int) -> Path:
        """Write an archive of `count` good faces."""
        with zipfile.ZipFile(path, "w") as archive:
            for index in range(count):
                archive.writestr(f"face-{index:05d}.png", self.png(index))
        return path


# the command


@dataclass
class Sample:
    """Of a run and all of its processes, at a moment."""

    at: float
    """Seconds since the epoch."""
    cpu: float
    """Core-seconds so far."""
    pss: int | None
    """Bytes of memory, shared pages counted once; None between two looks."""


@dataclass
class Run:
    """`facesr upscale`, from its start to its end."""

    code: int
    said: str
    started: float
    """As the other times: seconds since the epoch."""
    begun: float
    """When the first picture was taken up."""
    done: float
    """When the manifest was written; workers and Ray end after it."""
    samples: list[Sample] = field(default_factory=list)

    @property
    def cpu(self) -> float:
        """Core-seconds of all processes."""
        return self.samples[-1].cpu

    @property
    def cpu_of_work(self) -> float:
        """Core-seconds from the first picture to the manifest."""
        during = [sample.cpu for sample in self.samples if self.begun <= sample.at <= self.done]
        return during[-1] - during[0] if during else 0.0

    @property
    def memory(self) -> list[int]:
        """Bytes, from the first picture to the manifest, in order."""
        during = [sample.pss for sample in self.samples if self.begun <= sample.at <= self.done]
        return [pss for pss in during if pss is not None]

    @property
    def peak(self) -> int:
        """Most bytes, from the very start."""
        return max(sample.pss or 0 for sample in self.samples)


class Meter:
    """Adds up what a process and all below it use; processes that have ended count as they were last seen.

    Sums of ended children that the kernel keeps would leave out Ray's workers, whose parent does not wait for them.
    """

    def __init__(self, process: psutil.Process):
        self.process = process
        self.known: list[psutil.Process] = []
        self.listed = 0.0
        self.spent: dict[psutil.Process, float] = {}

    def sample(self, memory: bool) -> Sample:
        """Look at all processes; `memory` takes ten times as long."""
        pss = 0
        now = time.monotonic()
        if now - self.listed >= 1:  # the run pays for what listing takes: it is on the same cores
            self.known, self.listed = tree(self.process), now
        for one in self.known:
            with suppress(psutil.Error):
                times = one.cpu_times()
                self.spent[one] = times.user + times.system
                if memory:
                    pss += one.memory_full_info().pss
        return Sample(time.time(), sum(self.spent.values()), pss if memory else None)


def tree(process: psutil.Process) -> list[psutil.Process]:
    """A process and all below it; none where it has ended."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def work_of(output: Path) -> Path:
    """Where a run keeps what is not finished."""
    return output.with_name(f".{output.name}.facesr") if output.suffix else output / ".facesr"


def manifest_of(output: Path) -> Path:
    """Where a run says what became of every file."""
    return output.with_name(f"{output.name}.manifest.parquet") if output.suffix else output / "manifest.parquet"


def rows_of(output: Path) -> list[dict[str, Any]]:
    """The manifest's rows."""
    rows: list[dict[str, Any]] = pq.read_table(manifest_of(output)).to_pylist()
    return rows


def command(*arguments: Any) -> list[str]:
    """`facesr upscale` of this checkout."""
    return [sys.executable, "-m", "pipeline.cli", "upscale", *map(str, arguments)]


def run(source: Path, output: Path, *options: Any, memory: bool = False) -> Run:
    """Run the command to its end and watch it: core-seconds five times a second, memory about twice a second."""
    with tempfile.TemporaryFile("w+") as log:
        started = time.time()
        process = psutil.Popen(
            command(source, output, "--quiet", *options), cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        )
        meter, samples, begun = Meter(process), [], None
        next_look = 0.0
        while process.poll() is None:
            now = time.time()
            if begun is None and any(work_of(output).glob("parts/*/*.journal")):
                begun = now
            look = memory and now >= next_look
            samples.append(meter.sample(look))
            if look:  # it takes a tenth of a second for each process that has loaded torch, from the run's own cores
                next_look = now + max(0.5, 4 * (time.time() - now))
            time.sleep(max(0.0, 0.2 - (time.time() - now)))
        ended = time.time()
        said = last_lines(log)
    path = manifest_of(output)
    done = path.stat().st_mtime if path.exists() else ended
    return Run(process.returncode, said, started, begun or ended, done, samples)


def last_lines(log: IO[str], count: int = 4) -> str:
    """The end of what a command printed, on one line."""
    log.seek(0)
    return " / ".join(log.read().strip().splitlines()[-count:])


# promises


class Promises:
    """What was found, line by line, and whether all of it is as promised."""

    def __init__(self) -> None:
        self.broken = 0

    def keep(self, kept: bool, words: str) -> None:
        """Print a line; one that is not kept breaks the benchmark in the end."""
        print(words if kept else f"{words}  BROKEN", flush=True)
        self.broken += not kept

    def end(self) -> None:
        """Exit 1 where a promise is broken."""
        if self.broken:
            sys.exit(f"{self.broken} of the lines above tell of a broken promise")


@contextmanager
def folder(parent: Path | None) -> Iterator[Path]:
    """A folder for archives and results, which goes with them."""
    with tempfile.TemporaryDirectory(prefix="facesr-bench-", dir=parent) as path:
        yield Path(path)
