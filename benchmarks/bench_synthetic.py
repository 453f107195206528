"""Speed, detail and variety of the procedural portraits.

Run from the repository root:

    python benchmarks/bench_synthetic.py --count 500 --processes 2

Prints images per second (drawing plus PNG encoding), the PSNR left by a bicubic 2x and 4x reduction and
enlargement, and the PSNR of the two portraits closest to each other, compared at 128x128.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.synthetic.portrait import portrait


def _start() -> None:
    cv2.setNumThreads(1)
    # The noise tiles are made at the first portraits; they belong to the start, not to the rate.
    for index in range(12):
        portrait(10**6, index)


def _draw(task: tuple[int, int]) -> tuple[np.ndarray, int]:
    image = portrait(*task)
    encoded = cv2.imencode(".png", image[..., ::-1])[1]
    return cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA), len(encoded)


def _losses(task: tuple[int, int]) -> tuple[float, float]:
    image = portrait(*task)
    picture = Image.fromarray(image)
    out = []
    for factor in (2, 4):
        small = picture.resize((1024 // factor, 1024 // factor), Image.Resampling.BICUBIC)
        back = np.asarray(small.resize(picture.size, Image.Resampling.BICUBIC), np.float32)
        out.append(float(10 * np.log10(255**2 / np.mean((back - image) ** 2))))
    return out[0], out[1]


def _closest(small: np.ndarray) -> tuple[float, int, int]:
    flat = small.reshape(len(small), -1).astype(np.float32)
    best = (np.inf, 0, 0)
    for i in range(len(flat) - 1):
        error = ((flat[i + 1 :] - flat[i]) ** 2).mean(axis=1)
        j = int(error.argmin())
        best = min(best, (float(error[j]), i, i + 1 + j))
    return float(10 * np.log10(255**2 / best[0])), best[1], best[2]


def main() -> None:
    """Draw, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="portraits drawn for speed and variety")
    parser.add_argument("--detail", type=int, default=40, help="portraits measured for detail")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(options.processes, _start) as pool:
        pool.map(_losses, [(options.seed, 0)] * options.processes, chunksize=1)
        begun = time.perf_counter()
        drawn = pool.map(_draw, [(options.seed, i) for i in range(options.count)], chunksize=4)
        spent = time.perf_counter() - begun
        losses = np.array(pool.map(_losses, [(options.seed, i) for i in range(options.detail)], chunksize=2))
    size = np.mean([length for _, length in drawn]) / 2**20
    print(f"{options.count / spent:.1f} images/s on {options.processes} processes, PNG of {size:.2f} MiB each")
    for column, factor in enumerate((2, 4)):
        low, middle, high = np.percentile(losses[:, column], [0, 50, 100])
        print(f"{factor}x bicubic loss, PSNR: min {low:.2f}  median {middle:.2f}  max {high:.2f} dB")
    psnr, i, j = _closest(np.stack([image for image, _ in drawn]))
    print(f"closest pair of {options.count}: {psnr:.2f} dB (portraits {i} and {j})")


if __name__ == "__main__":
    main()
