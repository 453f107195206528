"""Time and memory of the whole pipeline from scratch, and whether a second run repeats its metrics.

python benchmarks/bench_repro.py [--profile smoke] [--runs 2]

Memory is PSS (shared pages counted once) summed over the process tree, sampled twice a second.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.dvc_project import COPIED

ROOT = Path(__file__).resolve().parents[1]


def tree_pss(process: psutil.Process) -> int:
    """PSS of a process and all below it, bytes; processes that just ended count nothing."""
    total = 0
    try:
        processes = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for one in processes:
        try:
            total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied, AttributeError):
            continue
    return total


def one_run(folder: Path, params: Path) -> dict:
    """Run `dvc repro` in a fresh copy of the project."""
    for name in (*COPIED, "params.yaml"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    shutil.copyfile(params, folder / "params.yaml")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    subprocess.run(["git", *identity, "commit", "-qm", "start"], cwd=folder, check=True)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    start = time.monotonic()
    with (folder / "log").open("w") as log:
        process = psutil.Popen(["dvc", "repro"], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        peak = 0
        while process.poll() is None:
            peak = max(peak, tree_pss(process))
            time.sleep(0.5)
    if process.returncode:
        sys.exit((folder / "log").read_text()[-3000:])
    metrics = json.loads((folder / "reports/metrics.json").read_text())
    return {"minutes": (time.monotonic() - start) / 60, "peak": peak / 2**30, "metrics": metrics}


def main() -> None:
    """Print one line per run and one on repeatability."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="", help="profiles/NAME.yaml; params.yaml by default")
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    params = ROOT / (f"profiles/{options.profile}.yaml" if options.profile else "params.yaml")
    results = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            results.append(one_run(Path(folder), params))
        result = results[-1]
        test = result["metrics"]["test"]["256to1024"]
        gain = test["facesr"]["psnr"] - test["bicubic"]["psnr"]
        print(f"{result['minutes']:.1f} min, peak {result['peak']:.2f} GiB PSS, test 256to1024 {gain:+.3f} dB")
    if options.runs > 1:
        same = all(result["metrics"] == results[0]["metrics"] for result in results)
        print(f"metrics of {options.runs} runs from scratch: {'identical' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
