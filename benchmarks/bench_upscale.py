"""What `facesr upscale` takes: memory, work beside the network, and both as archives grow.

python benchmarks/bench_upscale.py                                          # all of them, small
python benchmarks/bench_upscale.py memory --counts 500 2000 --model released
python benchmarks/bench_upscale.py overhead --count 40
python benchmarks/bench_upscale.py rate --count 1000 [--precision fp32]
python benchmarks/bench_upscale.py flat --counts 500 5000

| command | promise |
| --- | --- |
| memory | less than 4 GB, and the same to 10 % whatever the count; damaged files are named, with the reason; exit 1 |
| overhead | at most 10 % of core-seconds beside decoding, the network and encoding |
| rate | none: the share of the pictures a second that the bare network makes on 2 threads; .9 is aimed at |
| flat | core-seconds and time per picture grow by at most 10 % |

Exit 1 where a promise is broken. Memory is PSS (shared pages counted once) of the command, its workers and Ray
together, sampled twice a second; core-seconds are theirs, too. All runs have 2 workers. Where torch sees a GPU it is
used, but how busy it is is not measured here.
"""

import argparse
import multiprocessing
import shutil
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from upscale_common import Faces, Promises, Run, folder, make_generator, rows_of, run
from upscale_damaged import differing, write_damaged

from pipeline.bulk.settings import Settings
from pipeline.codecs.reader import read_picture
from pipeline.codecs.writer import encode_picture
from pipeline.models.allocator import keep_freed_memory
from pipeline.models.checkpoint import load_generator
from pipeline.sources.open import open_archive
from pipeline.upscale import weights as released
from pipeline.upscale.upscaler import Upscaler, clean_steps

WORKERS = 2
MOST_MEMORY = 4e9
MOST_GROWTH = 1.1
MOST_OVERHEAD = 1.1
START_SECONDS = 10


# memory


def memory(options: argparse.Namespace, faces: Faces, promises: Promises) -> None:
    """Peaks of two archives with damaged files."""
    peaks = []
    with folder(options.folder) as place:
        for count in options.counts:
            expected = write_damaged(place / "faces.zip", faces, count)
            done = run(place / "faces.zip", place / "out", *_model(options, place), memory=True)
            promises.keep(done.code == 1, f"memory, {count} files: exit {done.code}, expected 1 {_tail(done, 1)}")
            if not (place / "out/manifest.parquet").exists():
                promises.keep(False, f"memory, {count} files: no manifest: {done.said}")
                return
            rows = rows_of(place / "out")
            wrong = differing(rows, expected)
            words = f"{len(rows)} of {count} in the manifest, {len(expected)} damaged, {len(wrong)} told wrongly"
            promises.keep(len(rows) == count and not wrong, f"memory, {count} files: {'; '.join([words, *wrong[:5]])}")
            quarter = -(-len(done.memory) // 4)
            early, late = max(done.memory[:quarter], default=0), max(done.memory[-quarter:], default=0)
            promises.keep(
                done.peak < MOST_MEMORY,
                f"memory, {count} files: peak {done.peak / 1e9:.3f} GB, first quarter {early / 1e9:.3f}, "
                f"last quarter {late / 1e9:.3f} (x{late / max(early, 1):.3f}), {done.done - done.begun:.0f} s",
            )
            peaks.append(done.peak)
            shutil.rmtree(place / "out")
    growth = peaks[-1] / peaks[0]
    counts = f"{options.counts[-1]} / {options.counts[0]}"
    promises.keep(growth < MOST_GROWTH, f"memory, growth {counts}: x{growth:.3f} (less than {MOST_GROWTH})")


# work beside the network


def _alone(
    data: list[bytes], model: Path | None, times: int, barrier: Barrier, answers: "multiprocessing.Queue[float]"
) -> None:
    """Decode, enlarge and encode in this process, on one thread; tell the core-seconds of all."""
    keep_freed_memory()  # as workers do
    torch.set_num_threads(1)
    upscaler = Upscaler.load(model)
    fidelity, _ = released.choose(model, None, 0.0)
    settings = Settings(model=load_generator(fidelity)[1]["sha256"])
    start = 0.0
    for index, encoded in enumerate([data[0], *data * times]):
        if index == 1:  # the first one warms up
            barrier.wait()
            start = time.process_time()
        picture = read_picture(encoded)
        (result,) = upscaler.at_once([picture.pixels], clean_steps(settings.realism) * picture.lossless)
        encode_picture(result, picture.metadata, "png", settings.quality, settings.provenance_tag)
    answers.put(time.process_time() - start)


def alone(source: Path, model: Path | None, count: int) -> float:
    """Core-seconds per picture of decoding, the network and encoding, in as many processes as there are workers."""
    archive = open_archive(str(source), source.parent)
    data = [archive.read(entry.key) for entry in archive.entries()][: max(3, count // WORKERS)]
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(WORKERS), context.Queue()
    times = -(-6 // len(data))
    processes = [context.Process(target=_alone, args=(data, model, times, barrier, answers)) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    seconds = sum(answers.get(timeout=3600) for _ in processes)
    for process in processes:
        process.join()
    return seconds / (WORKERS * times * len(data))


def overhead(options: argparse.Namespace, faces: Faces, promises: Promises) -> None:
    """Core-seconds of the command per picture, start-up left out, against what a picture takes alone."""
    counts = (options.count, 2 * options.count)
    with folder(options.folder) as place:
        model = make_generator(place / "tiny.safetensors") if options.model == "tiny" else None
        archives = [faces.zip(place / f"faces-{count}.zip", count) for count in counts]
        least = [alone(archives[0], model, options.count)]
        runs = []
        for archive in archives:
            runs.append(run(archive, place / "out", *_model(options, place)))
            if runs[-1].code:
                promises.keep(False, f"overhead: exit {runs[-1].code} {_tail(runs[-1])}")
                return
            shutil.rmtree(place / "out")
        # before and after: others on the machine slow all alike
        least.append(alone(archives[0], model, options.count))
    each = (runs[1].cpu - runs[0].cpu) / options.count
    base = sum(least) / len(least)
    promises.keep(
        each / base <= MOST_OVERHEAD,
        f"overhead: {each:.3f} core-seconds per picture, alone {base:.3f} ({least[0]:.3f} before, {least[1]:.3f} "
        f"after): x{each / base:.3f} (at most {MOST_OVERHEAD})",
    )
    work = (runs[1].cpu_of_work - runs[0].cpu_of_work) / options.count
    print(f"overhead, from the first picture to the manifest: {work:.3f} core-seconds per picture: x{work / base:.3f}")
    start = min(one.begun - one.started for one in runs)
    print(f"start: first picture after {start:.1f} s (less than {START_SECONDS} s on an idle machine)")


# beside the bare network


def _bare(threads: int, count: int, precision: str, barrier: Barrier, answers: "multiprocessing.Queue[float]") -> None:
    """Forward passes of the released generator on one 256x256 picture and nothing else; tell the seconds of all."""
    keep_freed_memory()  # as workers do
    torch.set_num_threads(threads)
    upscaler = Upscaler.load(precision=precision)
    x = torch.rand(1, 3, 256, 256, device=upscaler.device)
    wait: Callable[[], None] = torch.cuda.synchronize if x.is_cuda else lambda: None
    with torch.inference_mode():
        upscaler.generator(x)
        wait()
        barrier.wait(timeout=600)
        start = time.monotonic()
        for _ in range(count):
            upscaler.generator(x)
        wait()
    answers.put(time.monotonic() - start)


def bare(processes: int, count: int, precision: str) -> float:
    """Pictures a second of the network alone, in so many processes; they share as many threads as there are workers."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(processes), context.Queue()
    started = [
        context.Process(target=_bare, args=(WORKERS // processes, count // processes, precision, barrier, answers))
        for _ in range(processes)
    ]
    for process in started:
        process.start()
    seconds = max(answers.get(timeout=3600) for _ in started)
    for process in started:
        process.join()
    return count // processes * processes / seconds


def rate(options: argparse.Namespace, faces: Faces, promises: Promises) -> None:
    """Pictures a second of the command, from its start to its end, against the network's before and after it."""
    ways = {f"one process on {WORKERS} threads": 1, f"{WORKERS} processes": WORKERS}
    most = max(WORKERS, min(options.count, 100))
    with folder(options.folder) as place:
        archive = faces.zip(place / "faces.zip", options.count)
        found = {way: [bare(processes, most, options.precision)] for way, processes in ways.items()}
        done = run(archive, place / "out", "--workers", WORKERS, "--precision", options.precision)
        if done.code:
            promises.keep(False, f"rate: exit {done.code} {_tail(done)}")
            return
        for way, processes in ways.items():
            found[way].append(bare(processes, most, options.precision))
    each = options.count / (done.samples[-1].at - done.started)
    working = options.count / (done.done - done.begun)
    print(f"rate, {options.count} pictures: {each:.2f} a second, {working:.2f} from the first one on")
    for way, (before, after) in found.items():
        mean = (before + after) / 2
        words = f"network alone, {way}: {mean:.2f} a second ({before:.2f} before, {after:.2f} after)"
        print(f"rate, {words}: share {each / mean:.3f}, {working / mean:.3f} from the first one on")


# archives of any size


def flat(options: argparse.Namespace, faces: Faces, promises: Promises) -> None:
    """What a picture takes in a small archive and in a large one, from the first picture to the manifest."""
    taken = []
    with folder(options.folder) as place:
        for count in options.counts:
            archive = faces.zip(place / "faces.zip", count)
            done = run(archive, place / "out", *_model(options, place))
            if done.code:
                promises.keep(False, f"flat: exit {done.code} {_tail(done)}")
                return
            shutil.rmtree(place / "out")
            taken.append((done.cpu_of_work / count, (done.done - done.begun) / count))
            print(
                f"flat, {count} pictures: {taken[-1][0]:.4f} core-seconds and {taken[-1][1]:.4f} s each, "
                f"with start and end {done.cpu / count:.4f} and {(done.samples[-1].at - done.started) / count:.4f}",
                flush=True,
            )
    for word, small, large in zip(("core-seconds", "time"), taken[0], taken[-1], strict=True):
        promises.keep(
            large / small <= MOST_GROWTH,
            f"flat, {word} per picture {options.counts[-1]} / {options.counts[0]}: x{large / small:.3f} "
            f"(at most {MOST_GROWTH})",
        )


# the command line


def _model(options: argparse.Namespace, place: Path) -> list[Any]:
    """Options of the command."""
    model = ["--model", make_generator(place / "tiny.safetensors")] if options.model == "tiny" else []
    return ["--workers", WORKERS, *model]


def _tail(done: Run, expected: int = 0) -> str:
    return "" if done.code == expected else done.said


def main() -> None:
    """One benchmark, or all of them in small."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command")
    for name, counts, model in (("memory", (500, 2000), "released"), ("flat", (500, 5000), "tiny")):
        one = commands.add_parser(name)
        one.add_argument("--counts", type=int, nargs=2, default=counts, metavar="COUNT", help="pictures, few and many")
        one.add_argument("--model", choices=("tiny", "released"), default=model)
        one.add_argument("--folder", type=Path, help="where archives and results are written for a while")
    one = commands.add_parser("overhead")
    one.add_argument("--count", type=int, default=20, help="pictures; runs have so many and twice as many")
    one.add_argument("--model", choices=("tiny", "released"), default="released")
    one.add_argument("--folder", type=Path)
    one = commands.add_parser("rate")
    one.add_argument("--count", type=int, default=200, help="pictures; the released generator enlarges them")
    one.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    one.add_argument("--folder", type=Path)
    options = parser.parse_args()
    promises, faces = Promises(), Faces()
    small = [
        ["memory", "--counts", "60", "180", "--model", "tiny"],
        ["overhead", "--count", "6"],
        ["rate", "--count", "20"],
        ["flat", "--counts", "100", "300", "--model", "tiny"],
    ]
    for each in [options] if options.command else map(parser.parse_args, small):
        {"memory": memory, "overhead": overhead, "rate": rate, "flat": flat}[each.command](each, faces, promises)
    promises.end()


if __name__ == "__main__":
    main()
