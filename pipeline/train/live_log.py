"""What people watch of a training: progress bar, dvclive metrics and plots, sample pictures through time."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dvclive import Live

from pipeline.core.files import write_bytes
from pipeline.core.images import Pixels, encode_png
from pipeline.runtime.console import Advance, progress

SPEED = "images_per_second"
"""Logged apart from the rest: it is never the same twice, and what DVC tracks must be."""

SHOWN = ("pixel", "valid_psnr", SPEED)
"""Values beside the progress bar."""


class LiveLog:
    """Callbacks for `Training.run`; `live_log` makes it.

    Args:
        folder: of the log.
        advance: of the progress bar.
        live: of the metrics.
        speed: of `SPEED` alone.
        seen: steps that the progress bar has already.
    """

    def __init__(self, folder: Path, advance: Advance, live: Live, speed: Live, seen: int = 0):
        self.folder, self._advance, self._live, self._speed = folder, advance, live, speed
        self._seen = seen
        self._shown: dict[str, float] = {}

    def values(self, step: int, values: dict[str, float]) -> None:
        """Log numbers of a step."""
        for live, names in ((self._speed, values.keys() & {SPEED}), (self._live, values.keys() - {SPEED})):
            live.step = step
            for name in sorted(names):
                live.log_metric(name, values[name])
            live.make_summary()
        self._shown |= {name: value for name, value in values.items() if name in SHOWN}
        note = " ".join(f"{name} {value:.4f}" for name, value in self._shown.items())
        # a resumed training tells of its earlier steps again
        self._advance(max(step - self._seen, 0), note)
        self._seen = max(step, self._seen)

    def sample(self, step: int, sheet: Pixels) -> None:
        """Keep a sheet of validation faces: input, result, ground truth side by side."""
        write_bytes(self.folder / "samples" / f"{step:06d}.png", encode_png(sheet, level=6))


@contextmanager
def live_log(folder: Path, title: str, steps: int, done: int = 0) -> Iterator[LiveLog]:
    """Keep `folder` up to date while the block trains: metrics.json, plots/, samples/.

    The log is begun anew each time, since a resumed training replays what it logged before. Speed, which differs
    from run to run, goes into the folder `speed` beside it, so that the same training leaves the same bytes here.

    Args:
        folder: where everything goes.
        title: beside the progress bar.
        steps: of the whole training.
        done: of them before a stop, so that the bar's speed is of this run.
    """
    with ExitStack() as stack:
        lives: list[Live] = []
        for path in (folder, folder.with_name("speed")):
            # sheets are not replayed: those of before a stop stay
            shutil.rmtree(path / "plots", ignore_errors=True)
            (path / "metrics.json").unlink(missing_ok=True)
            lives.append(Live(str(path), report=None, save_dvc_exp=False, dvcyaml=None))
            stack.callback(lives[-1].end)
        yield LiveLog(folder, stack.enter_context(progress(title, steps, done)), lives[0], lives[1], done)
