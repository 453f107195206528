"""Time and memory of `facesr compare`: 1024x1024 faces, three methods, every measure that needs no network.

python benchmarks/bench_evaluate.py [--count 500] [--workers 2]
python benchmarks/bench_evaluate.py --network lpips     # or lpips_vgg, dists: core-seconds and memory of one picture

Faces are drawn and varied (shifted, lit, noise of their own). Methods: bicubic, Lanczos, and a sharpened bicubic, saved
as JPEG. Exit 1 where a promise is broken: under 10 minutes and under 4 GB for 500 faces on two cores. Memory is PSS
(shared pages counted once) of the command, its workers and Ray, sampled twice a second.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil
from bench_repro import tree_pss
from PIL import Image, ImageFilter

from pipeline.core.images import Pixels, encode_jpeg, resize
from pipeline.synthetic.portrait import portrait

ROOT = Path(__file__).resolve().parents[1]
DRAWN, SIDE = 8, 1024
SECONDS, BYTES = 600, 4e9


def results(truth: Pixels) -> dict[str, Pixels]:
    """What each method makes of a face."""
    low = resize(truth, SIDE // 4, SIDE // 4)
    bicubic = resize(low, SIDE, SIDE)
    sharp = np.asarray(Image.fromarray(bicubic).filter(ImageFilter.UnsharpMask(2, 60, 0)))
    return {"originals": truth, "bicubic": bicubic, "lanczos": resize(low, SIDE, SIDE, lanczos=True), "sharp": sharp}


def write(folder: Path, count: int) -> None:
    """An archive of originals and one of each method."""
    drawn = [portrait(0, index, SIDE) for index in range(min(DRAWN, count))]
    names = ("originals", "bicubic", "lanczos", "sharp")
    archives = {name: zipfile.ZipFile(folder / f"{name}.zip", "w") for name in names}
    for index in range(count):
        random = np.random.default_rng(index)
        face = np.roll(drawn[index % DRAWN], random.integers(-32, 33, 2), axis=(0, 1))
        lit = face * random.uniform(0.85, 1.1, 3) + random.normal(0, 2, (SIDE, SIDE, 1))
        truth = np.clip(np.rint(lit), 0, 255).astype(np.uint8)
        for name, pixels in results(truth).items():
            archives[name].writestr(f"face-{index:05d}.jpg", encode_jpeg(pixels, 95))
    for archive in archives.values():
        archive.close()


def network(kind: str) -> None:
    """Print what a perceptual network takes for one 1024x1024 picture on one core; its weights are random."""
    import torch

    from pipeline.metrics.perceptual import Perceptual, _layers

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "trunk.pth"
        trunk = _layers("alexnet" if kind == "lpips" else "vgg16")
        torch.save({f"features.{name}": value for name, value in trunk.state_dict().items()}, path)
        distance = Perceptual(kind, path)
    truth = portrait(0, 0, SIDE)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    distance(truth, results(truth)["bicubic"])
    spent, peak = time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print({"network": kind, "core-seconds": round(spent, 1), "MB": round(peak / 1e3)})


def main() -> None:
    """Draw, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--network", choices=("lpips", "lpips_vgg", "dists"))
    asked = parser.parse_args()
    if asked.network:
        network(asked.network)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder, asked.count)
        command = [sys.executable, "-m", "pipeline.cli", "compare", folder / "originals.zip", folder / "bicubic.zip"]
        for name in ("lanczos", "sharp"):
            command += ["--against", f"{name}={folder / name}.zip"]
        command += ["--json", folder / "out.json", "--report", folder / "report", "--workers", str(asked.workers)]
        # no networks, wherever this machine may have them
        environment = os.environ | {"TORCH_HOME": str(folder / "torch"), "PYTHONPATH": str(ROOT)}
        started, peak = time.monotonic(), 0
        process = psutil.Popen([str(word) for word in command], env=environment, cwd=ROOT)
        while process.poll() is None:
            peak = max(peak, tree_pss(process))
            time.sleep(0.5)
        seconds = time.monotonic() - started
        found = json.loads((folder / "out.json").read_text())
        page = (folder / "report/report.html").stat().st_size
    figures = {"faces": found["count"], "methods": len(found["methods"]), "workers": asked.workers}
    figures |= {"seconds": round(seconds, 1), "seconds a face": round(seconds / asked.count, 3)}
    print(figures | {"peak PSS, MB": round(peak / 1e6), "report, MB": round(page / 1e6, 1)})
    sys.exit(int(process.returncode != 0 or seconds > SECONDS or peak > BYTES))


if __name__ == "__main__":
    main()
