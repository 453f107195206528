"""Speed of making training pairs on one core, and time and memory of a manifest.

Run from the repository root:

    python benchmarks/bench_pairs.py --faces 30000 --need 400

Seconds are the processor's, so that a busy machine gives the same figures. Prints, for whole ground truths of 256 and
128 pixels and for each augmentation, pairs per second on one core and how many times what a GPU takes (`--need`) that
is; the same for training's batches with inputs decoded and encoded; and seconds, bytes and further memory of a manifest
of `--faces` faces.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.core.degradation import make_pair
from pipeline.core.images import encode_png, resize
from pipeline.core.scales import AUGMENTATIONS
from pipeline.core.schema import FACES, PAIRS
from pipeline.core.shards import write_batches, write_rows
from pipeline.pairs.manifest import draw_manifest
from pipeline.params.pairs import Pairs
from pipeline.synthetic.portrait import portrait
from pipeline.train.engine.batches import PairData
from pipeline.train.engine.config import BatchConfig


def _rate(seconds: float, work: object) -> float:
    """Calls of `work` per second of processor time, over at least so many seconds."""
    work()
    begun, calls = time.process_time(), 0
    while (spent := time.process_time() - begun) < seconds:
        work()
        calls += 1
    return calls / spent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=3000, help="in the manifest")
    parser.add_argument("--need", type=float, default=400.0, help="pairs a second that a GPU takes")
    parser.add_argument("--seconds", type=float, default=0.5, help="spent on each figure")
    options = parser.parse_args()
    settings = Pairs(seed=1)
    inputs = [resize(portrait(0, index), 256, 256) for index in range(16)]

    def say(what: str, rate: float) -> None:
        print(f"{what:34} {rate:7.0f} pairs/s on one core, {rate / options.need:5.1f} x a need of {options.need:g}")

    for scale in ("64to256", "32to128"):
        for name in AUGMENTATIONS:
            strength = sum(getattr(settings, name)) / 2 if hasattr(settings, name) else 0.0
            row = {"scale": scale, "augmentation": name, "strength": strength, "seed": 1}
            say(f"{scale} {name}", _rate(options.seconds, lambda row=row: make_pair(inputs[0], row)))
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = [
            {"id": f"{index}", "image": {"bytes": encode_png(pixels)}, "width": 256, "height": 256}
            for index, pixels in enumerate(inputs)
        ]
        write_rows(folder / "train/train-00000.parquet", rows, FACES)
        images = [(row["id"], "train", 256) for row in rows]
        write_batches(folder / "small.parquet", draw_manifest(images, settings.draws, settings.degradation()), PAIRS)
        for kind, budget in (("decoded", 1 << 30), ("encoded", 0)):
            data = PairData(folder / "train", folder / "small.parquet", "train", decoded_bytes=budget)
            for crop in (256, 128):
                config = BatchConfig(1, 16, crop, {"16to64": 0.1, "32to128": 0.3, "64to256": 0.6}, 0.5)
                steps = iter(range(10**9))
                rate = _rate(options.seconds * 2, lambda: data.batch(config, next(steps)))  # noqa: B023
                say(f"batches, crop {crop}, inputs {kind}", 16 * rate)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.process_time()
        many = ((f"{number:032x}-0", "train", 256) for number in range(options.faces))
        count = write_batches(
            folder / "pairs.parquet", draw_manifest(many, settings.draws, settings.degradation()), PAIRS
        )
        spent = time.process_time() - begun
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        size = (folder / "pairs.parquet").stat().st_size / 2**20
    print(
        f"manifest of {options.faces} faces: {count} rows in {spent:.1f} s, {size:.1f} MiB, +{grown:.0f} MiB of memory"
    )


if __name__ == "__main__":
    main()
