"""What a face takes in the stages `upscale` and `evaluate`, and against another checkout's code on the same data.

python benchmarks/bench_stages.py                              # after `make repro`: its data and generators
python benchmarks/bench_stages.py --against ../before          # another checkout of this project
python benchmarks/bench_stages.py --against ../before --data ../before    # where it cannot read these params

Processor milliseconds a face of one worker on one thread, once it is warm: the median of units, which are done turn by
turn by processes of both checkouts. Evaluation without networks. Start-up, Ray and joining parts are not in it
(bench_repro.py times whole stages).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SCALES = ("64to256", "256to1024")


def cases(place: Path, faces: int) -> Iterator[tuple[str, Any, Any]]:
    """Name, worker and unit of each case, by the code that this process imports."""
    import cv2
    import torch

    from pipeline.core.scales import METHODS
    from pipeline.evaluate.project import describe
    from pipeline.evaluate.worker import EvaluationWorker
    from pipeline.evaluate.worker import plan_units as plan_evaluation
    from pipeline.params.all_sections import load_params
    from pipeline.upscale.measured_inputs import MeasuredInputs
    from pipeline.upscale.stage import UpscaleWorker, plan_units

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    params = load_params()
    models = {method: f"models/{name}.safetensors" for method, name in METHODS.items()}
    options = params.upscale.model_dump(include={"tile", "precision", "back_projection"})
    inputs = MeasuredInputs("data/inputs", "data/faces", params.upscale.seed, params.pairs.degradation())
    upscale = UpscaleWorker(inputs, models, options)
    for scale in SCALES:
        for method in METHODS:
            units = plan_units(place, Path("data/inputs"), "test", method, scale, faces, faces)
            yield f"upscale, {method}, {scale}", upscale, units[0]
    config, _ = describe(params.evaluate)
    config = replace(config, networks={})
    evaluate = EvaluationWorker(config)
    for scale in SCALES:
        units = [unit for unit in plan_evaluation(config, place, faces) if (unit.split, unit.scale) == ("test", scale)]
        yield f"evaluate, {len(config.all_methods)} methods, {scale}", evaluate, units[0]


def serve(faces: int) -> None:
    """Do each case once for every line that comes in, and answer with milliseconds a face."""
    with tempfile.TemporaryDirectory() as place:
        known = list(cases(Path(place), faces))
        for _, worker, unit in known:
            worker(unit)
        print(json.dumps([name for name, _, _ in known]), flush=True)
        for line in sys.stdin:
            _, worker, unit = known[int(line)]
            start = time.process_time()
            done = worker(unit)
            print(1e3 * (time.process_time() - start) / done["images"], flush=True)


class Checkout:
    """A process that does cases by the code of a checkout, on the data of one."""

    def __init__(self, code: Path, data: Path, faces: int):
        # as Ray's workers have it; numpy's idle threads would be counted as work
        environment = os.environ | {"PYTHONPATH": str(code.resolve()), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).resolve()), "--serve", "--faces", str(faces)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process: subprocess.Popen[str] = subprocess.Popen(command, cwd=data, env=environment, **pipes)  # type: ignore[call-overload]
        first = self._line()
        if not first:
            sys.exit(f"{code}: its stages cannot be done, see above")
        self.names: list[str] = json.loads(first)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def __call__(self, index: int) -> float:
        """Milliseconds a face of a case."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{index}\n")
        self.process.stdin.flush()
        return float(self._line())


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument(
        "--data", type=Path, default=ROOT, help="the checkout whose params, data and generators are used"
    )
    parser.add_argument("--faces", type=int, default=8, help="test faces of a unit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if not (asked.data / "data/upscaled").is_dir():
        print(f"there is no {asked.data / 'data/upscaled'}: run `make repro` there first")
        return
    if asked.serve:
        serve(asked.faces)
        return
    sides = {"now": Checkout(ROOT, asked.data, asked.faces)}
    if asked.against:
        sides["before"] = Checkout(asked.against, asked.data, asked.faces)
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(asked.rounds):
        for index, name in enumerate(sides["now"].names):
            for side, checkout in sides.items():
                found.setdefault(name, {}).setdefault(side, []).append(checkout(index))
    for name, taken in found.items():
        middles = {side: statistics.median(values) for side, values in taken.items()}
        words = ", ".join(f"{side} {middle:.1f} ms" for side, middle in middles.items())
        ratio = f": {middles['before'] / middles['now']:.2f} times as fast" if "before" in middles else ""
        print(f"{name}: {words}{ratio}")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
