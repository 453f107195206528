"""What `facesr upscale` costs beside the network as archives grow: seconds and memory an entry, phase by phase.

python benchmarks/bench_scale.py                                            # 1,000 and 4,000 entries of a zip, small
python benchmarks/bench_scale.py --counts 10000 100000 1000000 --phases list plan dry-run --kinds zip parquet folder
python benchmarks/bench_scale.py --counts 1000 10000 --phases run resume --nodes 1 3 --json out.json

| phase | what it does |
| --- | --- |
| list | open INPUT and list its entries |
| plan | names of all results, work units, the hash of the listing, the record of the job |
| dry-run | `facesr upscale IN OUT --dry-run`, the released network timed on one small picture |
| run | all of it with a network that only repeats pixels: reading, encoding, journal, assembling, manifest |
| resume | `run` killed when half of the units are done, then gone on with: until the first unit of what is left |

Pictures are 16x16. Each phase is a process of its own: seconds without its start and imports (a worker of `run` loads
the released weights, within its seconds); core-seconds of
this process alone, with a cluster those of the driver; peak memory (VmHWM) with all that, and how much of it came with
the entries. With `--nodes N` above 1, `run` and `resume` are on a Ray cluster of N nodes on this machine. Exit 1 where
core-seconds an entry grow by more than half from the smallest to the largest count, or memory by more than 4 KB each.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from upscale_common import ROOT, Promises, folder, last_lines, work_of

from pipeline.core.images import encode_png

SIDE = 16
PICTURES = 97
"""Different ones, repeated under other names."""
A_FOLDER = 1000
"""Files of one folder."""
MOST_GROWTH = 1.5
MOST_BYTES = 4096
PHASES = ("list", "plan", "dry-run", "run", "resume")


# archives


def name_of(index: int) -> str:
    """Path inside the archive."""
    return f"{index // A_FOLDER:04d}/face-{index:07d}.png"


def write_archive(kind: str, place: Path, count: int) -> Path:
    """A zip, a folder of Parquet shards, or a folder with `A_FOLDER` files in each of its own."""
    random = np.random.default_rng(0)
    pictures = [encode_png(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(PICTURES)]
    path = place / f"{kind}-{count}{'.zip' * (kind == 'zip')}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for index in range(count):
                archive.writestr(name_of(index), pictures[index % PICTURES])
    elif kind == "parquet":
        path.mkdir()
        for start in range(0, count, 20_000):
            rows = range(start, min(start + 20_000, count))
            images = [{"bytes": pictures[index % PICTURES], "path": name_of(index)} for index in rows]
            pq.write_table(pa.table({"image": images}), path / f"{start:07d}.parquet", row_group_size=100)
    else:
        for index in range(count):
            file = path / name_of(index)
            if index % A_FOLDER == 0:
                file.parent.mkdir(parents=True)
            file.write_bytes(pictures[index % PICTURES])
    return path


# what a child process does


def repeated(pixels: Sequence[Any], *_: Any) -> list[Any]:
    """What the network would make of pictures: every pixel repeated."""
    return [value.repeat(4, 0).repeat(4, 1) for value in pixels]


def _worker() -> type:
    from pipeline.bulk import picture_job, worker

    load = picture_job.load_upscaler

    def without_network(*arguments: Any) -> Any:
        upscaler = load(*arguments)
        upscaler.at_once = repeated
        return upscaler

    class WithoutNetwork(worker.BulkWorker):
        """Does all but the network; defined in a function, so that it travels to nodes by value."""

        def __init__(self, output: Any, settings: Any, *more: Any):
            picture_job.load_upscaler = without_network
            super().__init__(output, settings, *more)

    return WithoutNetwork


def peak() -> int:
    """Most bytes of memory that this process has had."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def child(phase: str, source: str, output: str, address: str | None) -> dict[str, float]:
    """One phase in this process: seconds, core-seconds, peak bytes before and after, and seconds by part."""
    from pipeline.bulk import run as bulk_run
    from pipeline.bulk.listing import listed
    from pipeline.bulk.outputs import Output
    from pipeline.bulk.settings import RunOptions, Settings
    from pipeline.upscale.upscaler import Upscaler

    parts: dict[str, float] = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                parts[name] = parts.get(name, 0.0) + time.perf_counter() - start

        return call

    # the same for any count, and seconds: weights, and what torch imports when it first builds a network
    Upscaler.load().batch([np.zeros((SIDE, SIDE, 3), np.uint8)])
    bulk_run.BulkWorker = _worker()
    bulk_run.assemble = timed("assemble", bulk_run.assemble)
    bulk_run.write_manifest = timed("manifest", bulk_run.write_manifest)
    bulk_run.begin = timed("begin", bulk_run.begin)
    bulk_run._work = timed("work", bulk_run._work)
    bulk_run._planned = timed("plan", bulk_run._planned)
    bulk_run._warn_of_space = timed("space", bulk_run._warn_of_space)
    options = RunOptions(workers=None if address else 1, address=address)
    base = peak()
    start, before = time.perf_counter(), time.process_time()
    with listed(source, Output.of(output), Settings(), options) as listing:
        parts["list"] = time.perf_counter() - start
        if phase == "plan":
            job = bulk_run._planned(listing)
            assert len(job.left) == len(listing.entries)
        elif phase == "dry-run":
            bulk_run.dry_run(listing)
        elif phase == "run":
            summary = bulk_run.upscale(listing)
            assert summary.counts["ok"] == len(listing.entries), summary.counts
    spent = time.process_time() - before
    return {"seconds": time.perf_counter() - start, "core_seconds": spent, "peak": peak(), "base": base, **parts}


# the parent


def start_child(phase: str, source: Path, output: Path, address: str | None, log: Any) -> "subprocess.Popen[str]":
    """Run `child` in a process of its own."""
    command = [sys.executable, __file__, "--child", phase, str(source), str(output), address or ""]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)


def measured(phase: str, source: Path, output: Path, address: str | None = None) -> dict[str, float]:
    """What `child` measured; the benchmark ends where it failed."""
    with (output.parent / "log").open("w+") as log:
        process = start_child(phase, source, output, address, log)
        said, _ = process.communicate()
        if process.returncode:
            sys.exit(f"{phase} of {source.name}: {last_lines(log)}")
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def killed_at_half(source: Path, output: Path, count: int, address: str | None) -> float:
    """Start a run and kill it with SIGKILL when half of its units have a part; the share that was done."""
    units = -(-count // min(32, max(1, count // 16)))
    with (output.parent / "log").open("w+") as log:
        process = start_child("run", source, output, address, log)
        done = 0
        while process.poll() is None and done < units / 2:
            time.sleep(0.2)
            done = sum(1 for _ in work_of(output).glob("parts/*/*.parquet"))
        process.send_signal(signal.SIGKILL)
        process.wait()
    return done / units


def _cluster(nodes: int) -> Any:
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100 * 2**20, "num_cpus": 1}
    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **small})
    for _ in range(nodes - 1):
        cluster.add_node(**small)
    return cluster


def measure(options: argparse.Namespace, kind: str, nodes: int, address: str | None) -> list[dict[str, Any]]:
    """All counts and phases of a kind of archive."""
    found = []
    for count in options.counts:
        with folder(options.folder) as place:
            source = write_archive(kind, place, count)
            for phase in options.phases:
                if address is not None and phase not in ("run", "resume"):
                    continue
                output = place / f"out-{phase}.zip"
                row: dict[str, Any] = {"kind": kind, "nodes": nodes, "count": count, "phase": phase}
                if phase == "resume":
                    row["done_before"] = killed_at_half(source, output, count, address)
                row |= measured("run" if phase == "resume" else phase, source, output, address)
                found.append(row)
                parts = {name: row[name] for name in PARTS if name in row}
                words = ", ".join(f"{name} {1e6 * seconds / count:.0f}" for name, seconds in parts.items())
                print(
                    f"{kind}, {nodes} node(s), {count} entries, {phase}: {row['seconds']:.2f} s, "
                    f"{1e6 * row['core_seconds'] / count:.0f} core-µs an entry (µs: {words}), "
                    f"peak {row['peak'] / 1e6:.0f} MB, {(row['peak'] - row['base']) / 1e6:.0f} above imports",
                    flush=True,
                )
    return found


PARTS = ("list", "plan", "space", "begin", "work", "assemble", "manifest")
"""In the order in which they come; `work` has the pictures themselves."""


def judge(rows: Sequence[dict[str, Any]], promises: Promises) -> None:
    """Compare the largest count with the smallest."""
    for key in dict.fromkeys((row["kind"], row["nodes"], row["phase"]) for row in rows):
        same = [row for row in rows if (row["kind"], row["nodes"], row["phase"]) == key]
        few, many = same[0], same[-1]
        if few["count"] == many["count"]:
            continue
        small, large = (1e6 * row["core_seconds"] / row["count"] for row in (few, many))
        memory = (many["peak"] - few["peak"]) / (many["count"] - few["count"])
        promises.keep(
            large / small <= MOST_GROWTH and memory <= MOST_BYTES,
            f"{key[0]}, {key[1]} node(s), {key[2]}, {few['count']} to {many['count']}: {small:.0f} to {large:.0f} "
            f"core-µs an entry (x{large / small:.2f}, at most {MOST_GROWTH}), {memory:.0f} bytes for each more "
            f"(at most {MOST_BYTES})",
        )


def main() -> None:
    """Measure and judge."""
    if sys.argv[1:2] == ["--child"]:
        phase, source, output, address = sys.argv[2:]
        print(json.dumps(child(phase, source, output, address or None)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--kinds", nargs="+", choices=("zip", "parquet", "folder"), default=["zip"])
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=["list", "plan", "dry-run", "run", "resume"])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1], help="of a cluster on this machine; 1: no Ray")
    parser.add_argument("--folder", type=Path, help="where archives and results are written for a while")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    options = parser.parse_args()
    promises, rows = Promises(), []
    for nodes in options.nodes:
        cluster = _cluster(nodes) if nodes > 1 else None
        for kind in options.kinds:
            rows += measure(options, kind, nodes, cluster.address if cluster else None)
        if cluster is not None:
            cluster.shutdown()
    if options.json:
        options.json.write_text(json.dumps({"cores": len(os.sched_getaffinity(0)), "rows": rows}, indent=2) + "\n")
    judge(rows, promises)
    promises.end()


if __name__ == "__main__":
    main()
