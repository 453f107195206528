"""What people watch of a training: progress bar, dvclive metrics and plots, sample pictures through time."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from dvclive import Live

from pipeline.core.files import write_bytes
from pipeline.core.images import Pixels, encode_png
from pipeline.runtime.console import progress

SPEED = "images_per_second"
"""Logged apart from the rest: it is never the same twice, and what DVC tracks must be."""

SHOWN = ("pixel", "valid_psnr", SPEED)
"""Values beside the progress bar."""


class LiveLog:
    """Callbacks for `Training.run` that keep `folder` up to date: metrics.json, plots/, samples/.

    The log is begun anew each time, since a resumed training replays what it logged before. Speed, which differs
    from run to run, goes into the folder `speed` beside it, so that the same training leaves the same bytes here.

    Args:
        folder: where everything goes.
        title: beside the progress bar.
        steps: of the whole training.
    """

    def __init__(self, folder: Path, title: str, steps: int):
        self.folder, self.title, self.steps = folder, title, steps
        self._stack = ExitStack()
        self._seen = 0
        self._shown: dict[str, float] = {}

    def __enter__(self) -> Self:
        folders = self.folder, self.folder.with_name("speed")
        for folder in folders:
            # sheets are not replayed: those of before a stop stay
            shutil.rmtree(folder / "plots", ignore_errors=True)
            (folder / "metrics.json").unlink(missing_ok=True)
        self._live, self._speed = (
            Live(str(folder), report=None, save_dvc_exp=False, dvcyaml=None) for folder in folders
        )
        self._advance = self._stack.enter_context(progress(self.title, self.steps))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.end()
        self._speed.end()
        self._stack.__exit__(kind, error, trace)

    def values(self, step: int, values: dict[str, float]) -> None:
        """Log numbers of a step."""
        for live, names in ((self._speed, values.keys() & {SPEED}), (self._live, values.keys() - {SPEED})):
            live.step = step
            for name in sorted(names):
                live.log_metric(name, values[name])
            live.make_summary()
        self._shown |= {name: value for name, value in values.items() if name in SHOWN}
        note = " ".join(f"{name} {value:.4f}" for name, value in self._shown.items())
        self._advance(step - self._seen, note)
        self._seen = step

    def sample(self, step: int, sheet: Pixels) -> None:
        """Keep a sheet of validation faces: input, result, ground truth side by side."""
        write_bytes(self.folder / "samples" / f"{step:06d}.png", encode_png(sheet, level=6))
