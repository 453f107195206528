"""Time of a training step by part, and against another checkout of the code: steps taken turn by turn, as ratios.

python benchmarks/bench_training.py [--precision fp32] [--case fidelity,use,realism] [--rounds 5] [--json out.json]
python benchmarks/bench_training.py --against ../before        # another checkout of this project
ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/bench_training.py --precision fp32 --against ../before

Cases: `fidelity`, `use` (at the scale of use) and `realism` with the released profile's settings, `quick` with the
quick profile's realism. Pairs are random blocks, the same for both checkouts; making batches is not in it
(bench_pairs.py). Seconds are of the processor, all threads together, so that other work on the machine counts little.
Of parts, each is timed by ending the step there; a part's time is the difference of medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VALUES = {"steps": 1000, "learning_rate": 2e-4, "seed": 1, "batch": 8, "warmup": 10, "scales": {"64to256": 1.0}}
REALISM = {"perceptual": 0.35, "adversarial": 0.25}
CASES: dict[str, dict[str, Any]] = {
    "fidelity": {"crop": 192},
    "use": {"crop": 192},
    "realism": {"crop": 128, "consistency": 1.0, "layers": ("relu1_2", "relu2_2", "relu3_1"), **REALISM},
    "realism-use": {"crop": 128, "isotropy": 0.3, "layers": ("relu1_2", "relu2_2", "relu3_1"), **REALISM},
    "quick": {"crop": 96, "layers": ("relu1_2", "relu2_2"), **REALISM},
}
"""Settings of the trainings that are measured."""


class Steps:
    """Steps of one case, in this process, by the code that this process imports."""

    def __init__(self, case: str, precision: str, threads: int):
        import numpy as np
        import torch

        from pipeline.core.chain import TOLD
        from pipeline.models.allocator import keep_freed_memory
        from pipeline.models.networks import DiscriminatorConfig, GeneratorConfig  # other checkouts have them there
        from pipeline.train.engine.batches import Batch
        from pipeline.train.engine.config import TrainConfig
        from pipeline.train.engine.process_group import ProcessGroup
        from pipeline.train.engine.step import Updates

        keep_freed_memory()
        torch.set_num_threads(threads)
        released = GeneratorConfig(widths=(64,), blocks=0, even=9, told=TOLD)
        quick = GeneratorConfig(widths=(32,), blocks=0, bottleneck=6, even=9)
        generator = quick if case == "quick" else released
        judge = DiscriminatorConfig(widths=(24, 48, 96)) if case == "quick" else DiscriminatorConfig()
        config = TrainConfig(**VALUES, **CASES[case], generator=generator, discriminator=judge, precision=precision)
        self.updates, self.step = Updates(config, ProcessGroup()), 0
        random, side = np.random.default_rng(0), config.crop
        blocks = torch.from_numpy(random.integers(0, 256, (8, 3, side // 16, side // 16)).astype(np.float32))
        truth = torch.nn.functional.interpolate(blocks, size=(side, side), mode="bicubic").clamp(0, 255)
        low = torch.nn.functional.interpolate(truth, scale_factor=0.25, mode="area")
        truth, low = (image.permute(0, 2, 3, 1).contiguous().to(torch.uint8) for image in (truth, low))
        self.batch = Batch(low, low if case.endswith("use") else truth, torch.zeros(8, 2))

    def __call__(self) -> tuple[float, float, float]:
        """Take a step: seconds of the processor, seconds by the clock, its first loss."""
        clock, started = time.perf_counter(), time.process_time()
        values = self.updates(self.step, self.batch)
        loss = float(next(iter(values.values())))
        self.step += 1
        return time.process_time() - started, time.perf_counter() - clock, loss

    def forward(self) -> float:
        """Processor seconds of the generator alone, as training calls it."""
        started = time.process_time()
        share = self.updates.share
        with share.autocast():
            share.generate(share.to_device(self.batch.low), self.batch.told)
        return time.process_time() - started

    def losses(self) -> float:
        """Processor seconds of the generator and of all terms, the discriminator's gradients among them."""
        low, truth, told = self.batch
        started = time.process_time()
        self.updates.share.losses(self.updates.share.to_device(low), self.updates.share.to_device(truth), told)
        return time.process_time() - started


def serve(case: str, precision: str, threads: int) -> None:
    """Take a step for every line of the standard input."""
    steps = Steps(case, precision, threads)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(steps()), flush=True)


class Checkout:
    """A process with the code of a checkout."""

    def __init__(self, folder: Path, case: str, precision: str, threads: int):
        command = [sys.executable, __file__, "--serve", "--case", case, "--precision", precision]
        environment = os.environ | {"PYTHONPATH": str(folder)}
        self.process = subprocess.Popen(
            [*command, "--threads", str(threads)],
            env=environment, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if self._read() != "ready\n":
            sys.exit(f"{folder}: its training steps cannot be taken, see above")

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def __call__(self) -> list[float]:
        """A step, see `Steps`."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        found: list[float] = json.loads(self._read())
        return found


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    ordered = {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
    return {name: round(value, 4) for name, value in ordered.items()}


def compare(case: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Steps of this checkout and of the other in turn."""
    sides = [Checkout(folder, case, asked.precision, asked.threads) for folder in (asked.against.resolve(), ROOT)]
    for _ in range(2):  # what is made once, as optimisers' moments
        [side() for side in sides]
    rounds = [[side() for side in sides] for _ in range(asked.rounds)]
    for side in sides:
        side.process.terminate()
    losses = [now[2] / before[2] for before, now in rounds]
    return {
        "seconds before": spread([before[0] for before, _ in rounds]),
        "seconds now": spread([now[0] for _, now in rounds]),
        "faster, processor": spread([before[0] / now[0] for before, now in rounds]),
        "faster, clock": spread([before[1] / now[1] for before, now in rounds]),
        "first loss after equal steps, ratio": spread(losses),
    }


def parts(case: str, asked: argparse.Namespace) -> dict[str, Any]:
    """A step by part, processor seconds."""
    steps = Steps(case, asked.precision, asked.threads)
    steps()
    found = [(steps.forward(), steps.losses(), steps()[0]) for _ in range(asked.rounds)]
    forward, losses, whole = (spread([row[index] for row in found]) for index in range(3))
    between = {
        "generator forward": forward["median"],
        "terms and discriminator": round(losses["median"] - forward["median"], 4),
        "generator backward, optimisers, average": round(whole["median"] - losses["median"], 4),
    }
    return {"step": whole} | between


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", default="fidelity,use,realism,realism-use,quick")
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "fp32"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--against", type=Path, help="folder of another checkout")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.case, asked.precision, asked.threads)
        return
    measured = {}
    for case in asked.case.split(","):
        measured[case] = compare(case, asked) if asked.against else parts(case, asked)
        print(case, json.dumps(measured[case]), flush=True)
    if asked.json:
        about = {"precision": asked.precision, "threads": asked.threads, "rounds": asked.rounds}
        asked.json.write_text(json.dumps(about | {"cases": measured}, indent=2) + "\n")


if __name__ == "__main__":
    main()
