"""The training loop: batches, validation, checkpoints, resume, early stop. Plain torch.

It takes dataclasses, pairs and callbacks, and imports neither Ray, DVC nor pydantic, so it also runs on a bare GPU
machine. All randomness follows from (seed, step): a run that was killed and resumed ends with the same bits on a CPU.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from pipeline.core.errors import FacesrError
from pipeline.core.images import Pixels
from pipeline.models.allocator import keep_freed_memory
from pipeline.models.checkpoint import load_generator, load_state, save_generator, save_state
from pipeline.models.networks import Generator
from pipeline.train.engine.batches import PairData, prefetch
from pipeline.train.engine.config import TrainConfig, learning_rate
from pipeline.train.engine.dataset import Pairs
from pipeline.train.engine.memory import as_out_of_memory
from pipeline.train.engine.process_group import ProcessGroup
from pipeline.train.engine.step import Updates
from pipeline.train.engine.validation import validate


class DivergedError(FacesrError):
    """A loss became NaN or infinite; the last good state is kept."""


Log = Callable[[int, dict[str, float]], None]
Sample = Callable[[int, Pixels], None]


def steps_done(work: Path) -> int:
    """Steps that a run in this work folder would not do again."""
    return max((int(path.stem.removeprefix("state-")) for path in work.glob("state-*.safetensors")), default=0)


class Training:
    """One run in one work folder; `run` starts it or takes it up where it was.

    With torch.distributed initialised, every process builds its own `Training` on the same folder and data: they share
    each batch, and rank 0 alone validates, logs and writes. The result does not depend on the number of processes,
    except for the rounding of sums and for `isotropy`, which each process measures on its own share.

    Args:
        config: of the run.
        data: pairs of the train split.
        valid: full pairs (ground truth, low) for validation and sample pictures; may be empty.
        work: folder of states, of `best.safetensors` and of the result `generator.safetensors`.
        start: weights to start from instead of random ones.

    Raises:
        ValueError: the batch cannot be shared out evenly over processes and `accumulate`.
    """

    def __init__(self, config: TrainConfig, data: PairData, valid: Pairs, work: Path, start: Generator | None = None):
        self.config, self.data, self.valid, self.work = config, data, valid, work
        self.group = ProcessGroup()
        if config.batch % (self.group.count * config.accumulate):
            raise ValueError(
                f"a batch of {config.batch} cannot be shared out over {self.group.count} processes "
                f"in {config.accumulate} parts each: make it a multiple of {self.group.count * config.accumulate}"
            )
        self.updates = Updates(config, self.group, start)
        self.step = 0
        self.history: list[tuple[int, dict[str, float]]] = []
        self.best: tuple[int, float] | None = None
        """Step and PSNR of the best validation."""
        self._unread: list[tuple[int, dict[str, Tensor]]] = []

    def run(
        self,
        log: Log = lambda step, values: None,
        sample: Sample = lambda step, sheet: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Path | None:
        """Train to the last step, or until validation stops to improve.

        Args:
            log: called with (step, values) every `log_every` steps and at validations; a resumed run calls it for
                the steps before too, so that no log has a gap or a step twice.
            sample: called with (step, sheet uint8 (H, W, 3)) at validations: input, result, ground truth.
            should_stop: asked after every step; where it is true, the state is saved and the run ends.

        Returns:
            Path of the weights; None if it was stopped before the end.

        Raises:
            DivergedError: a loss is NaN or infinite.
            OutOfMemoryError: says which setting to lower.
        """
        keep_freed_memory()
        self._resume()
        if self.group.rank == 0:
            for entry in self.history:
                log(*entry)
        config = self.config
        # a run that ended early was not finished: its states say so, and it ends again at once
        early = self._patience_is_over()
        saved = logged = time.monotonic()
        logged_step = self.step
        batches = prefetch(self.data, config.batches, self.step, self.step if early else config.steps, self._share())
        for step, batch in batches:
            with as_out_of_memory():
                values = self.updates(step, batch)
            self.step = step + 1
            self._unread.append((self.step, values))
            at_end = self.step == config.steps
            if self.step % config.log_every == 0 or at_end:
                now = time.monotonic()
                speed = (self.step - logged_step) * config.batch / max(now - logged, 1e-9)
                logged, logged_step = now, self.step
                self._log(log, self._checked() | {"images_per_second": speed})
            elif self.updates.device.type == "cpu":
                self._checked()  # on a GPU a look at the numbers waits for the device, so it is taken now and then
            validates = self.group.rank == 0 and (self.step % config.validate_every == 0 or at_end)
            better = validates and self._validate(log, sample)
            # the others' best is as old as the state that they resumed from
            early = validates and self._patience_is_over()
            flags = [should_stop(), early, better or time.monotonic() - saved > 60 * config.checkpoint_minutes]
            stop, early, save = self.group.any(flags, self.updates.device)
            if stop or early or save or at_end:
                self._checked()
                self._save()
                saved = time.monotonic()
            if early or at_end:
                break
            if stop:
                return None
        batches.close()
        return self._finish(early)

    def _share(self) -> slice:
        size = self.config.batch // self.group.count
        return slice(self.group.rank * size, (self.group.rank + 1) * size)

    def _log(self, log: Log, values: dict[str, float]) -> None:
        self.history.append((self.step, values))
        if self.group.rank == 0:
            log(self.step, values)

    def _validate(self, log: Log, sample: Sample) -> bool:
        """Score the averaged weights; true if they are the best so far."""
        if not self.valid:
            return False
        scores, sheet = validate(self.updates.enlarge, self.valid)
        self._log(log, scores)
        sample(self.step, sheet)
        if self.best is not None and scores["valid_psnr"] <= self.best[1]:
            return False
        self.best = (self.step, scores["valid_psnr"])
        return True

    def _patience_is_over(self) -> bool:
        if not self.config.patience or self.best is None:
            return False
        return self.step - self.best[0] >= self.config.patience * self.config.validate_every

    def _checked(self) -> dict[str, float]:
        """Numbers of the last step; every step since the last look is looked at."""
        numbers: dict[str, float] = {}
        for step, values in self._unread:
            numbers = {name: float(value) for name, value in values.items()}
            for name, number in numbers.items():
                if not math.isfinite(number):
                    raise DivergedError(
                        f"step {step}: the {name} term is {number}; the last good state is in {self.work}. "
                        "Lower learning_rate or the weight of that term, then run again"
                    )
        self._unread = []
        return numbers | {"learning_rate": learning_rate(self.config, self.step - 1)}

    def _state(self, step: int) -> Path:
        return self.work / f"state-{step:08d}.safetensors"

    def _save(self) -> None:
        if self.group.rank:
            return
        if self.best is not None and self.best[0] == self.step:
            self._write("best.safetensors", {"step": self.step})
        values = {
            "step": self.step,
            "history": self.history,
            "best": self.best,
            "config": asdict(self.config.generator),
            "provenance": self.config.provenance,
        }
        save_state(self._state(self.step), self.updates.state(), values)
        for old in sorted(self.work.glob("state-*.safetensors"))[: -self.config.keep]:
            old.unlink()

    def _resume(self) -> None:
        step = self.group.from_rank_0(steps_done(self.work), self.updates.device)
        if not step:
            return
        tensors, values = load_state(self._state(step))
        self.updates.restore(tensors)
        self.step = int(values["step"])
        self.history = [(step, numbers) for step, numbers in values["history"]]
        self.best = None if values["best"] is None else (int(values["best"][0]), float(values["best"][1]))

    def _finish(self, early: bool) -> Path:
        """Write the result: the averaged weights of the last step, or after an early stop those of the best."""
        path = self.work / "generator.safetensors"
        if self.group.rank == 0 and early:
            best, _ = load_generator(self.work / "best.safetensors")
            self.updates.ema.load_state_dict(best.state_dict())
            self._write(path.name, {"step": self.best[0] if self.best else self.step, "stopped_at": self.step})
        elif self.group.rank == 0:
            self._write(path.name, {"step": self.step})
        # every process may read the file once `run` has returned, so all wait for rank 0 to have written it
        self.group.from_rank_0(self.step, self.updates.device)
        return path

    def _write(self, name: str, steps: dict[str, int]) -> None:
        config = self.config
        save_generator(self.work / name, self.updates.ema, config.generator, config.provenance | steps, torch.float16)
