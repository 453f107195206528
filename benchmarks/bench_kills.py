"""kill -9 of the command, of its workers and of nodes, at random moments: whether one byte of the pictures differs.

python benchmarks/bench_kills.py                # 6 kills, 150 pictures: some minutes
python benchmarks/bench_kills.py --kills 20     # 300 pictures, a good minute undisturbed

An undisturbed run of `facesr upscale` comes first. Then, in turns and into folders and zips:

| victim | what is killed | what happens then |
| --- | --- | --- |
| run | the command itself, also while it starts or writes the zip | the same command is started again at once |
| worker | a worker of it | nothing is done from outside |
| node | Ray's daemon on one of two nodes of a cluster of three | another node joins |

Each sequence must end with exit 0, every picture `ok` in the manifest, and the bytes of the undisturbed run. Exit 1
where that is not so. Victims and moments follow from --seed, what they meet does not.
"""

import argparse
import hashlib
import random
import shutil
import time
import zipfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
from upscale_common import Faces, Promises, folder, make_generator, manifest_of, rows_of, run, tree, work_of
from upscale_kills import Cluster, Journals, Started, cluster_for

from pipeline.models.config import GeneratorConfig

VICTIMS = ("run", "worker", "node")
OUTPUTS = ("zip", "folder")
SIDES = (96, 128, 160, 192, 224)
SLOW = GeneratorConfig(widths=(64,), bottleneck=10)
"""A generator that takes a third of a core-second for a picture, so that kills meet pictures in work."""
WORKERS = ("ray::_Actor", "ray::MapWorker")
"""How processes of workers are called, by Ray's own pool and by Ray Data's."""
JITTER = 0.03
"""By how much a kill comes later than the picture that it waits for, share of the whole work's time."""
INFINITE = float("inf")


def write_pictures(path: Path, count: int) -> Path:
    """A zip of faces of mixed sizes."""
    faces = Faces()
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(count):
            archive.writestr(f"{index % 7}/face-{index:04d}.png", faces.png(index, SIDES[index % len(SIDES)]))
    return path


def digests(output: Path) -> dict[str, str]:
    """Name of every picture in a folder or zip -> sha256 of its file."""
    if output.is_file():
        with zipfile.ZipFile(output) as archive:
            return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    files = sorted(path for path in output.rglob("*") if path.is_file() and path != manifest_of(output))
    return {path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# sequences


class Kills:
    """All that is killed, and what came of it.

    Args:
        source: the archive.
        place: folder for results.
        model: generator.
        seed: of victims and moments.
        promises: where lines go.
    """

    def __init__(self, source: Path, place: Path, model: Path, seed: int, promises: Promises):
        self.source, self.place, self.promises = source, place, promises
        self.options = ["--model", model]
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.again = 0
        self.left: list[psutil.Process] = []
        """Processes of runs that were killed."""
        undisturbed = run(source, place / "undisturbed", *self.options, "--workers", 2)
        self.start, self.work = undisturbed.begun - undisturbed.started, undisturbed.done - undisturbed.begun
        promises.keep(
            undisturbed.code == 0,
            f"undisturbed: exit {undisturbed.code}, start {self.start:.1f} s, work {self.work:.1f} s "
            f"{undisturbed.said if undisturbed.code else ''}",
        )
        promises.end()  # there is nothing to compare with
        self.expected = digests(place / "undisturbed")

    def sequence(self, victim: str, kind: str, kills: int, cluster: Cluster | None) -> int:
        """A run that is killed, or loses workers or nodes, so many times if it does not end before.

        Returns:
            Kills that met it.
        """
        output = self.place / ("out.zip" if kind == "zip" else "out")
        journals = Journals(work_of(output))
        options = ["--workers", 2] if cluster is None else ["--address", cluster.address]
        arguments = [self.source, output, *self.options, *options]
        environment = {} if cluster is None else cluster.environment

        def start() -> Started:
            return Started(arguments, environment, journals)

        # the last of the kills of a run that writes a zip meets it there
        last = [INFINITE] if victim == "run" and kind == "zip" else []
        shares = sorted(self.random.uniform(0, 0.9) for _ in range(kills - len(last))) + last
        one, met, moments = start(), 0, []
        while met < kills and self._moment(one, victim, shares[met]):
            parts = len(list(journals.work.glob("parts/*/*.parquet")))
            moments.append(f"{parts} units at {time.monotonic() - one.at:.0f} s")
            if victim == "run":
                self.left += one.kill()
            elif victim == "worker":
                if not self._kill_worker(one):
                    break
            elif cluster is not None:
                cluster.kill(self.random.randrange(2))
                one.passed(self.random.uniform(0, 3))
                cluster.replace()
            met += 1
            if victim == "run":
                one = start()
        code = one.finish(60 + 10 * (self.start + self.work))
        words = self._wrong(output, code, one)
        self.done[victim] += met
        self.again += journals.again
        self.promises.keep(
            not words,
            f"{victim} into a {kind}: {met} kills ({', '.join(moments)}), {journals.again} pictures done again, "
            f"{words or 'exit 0, identical'}",
        )
        for path in (output, work_of(output)):
            shutil.rmtree(path, ignore_errors=True)
        for path in (output, manifest_of(output)):
            path.unlink(missing_ok=True)
        return met

    def _moment(self, one: Started, victim: str, share: float) -> bool:
        """Wait for a moment, about when that share of the pictures is done; False where the run ended before."""
        if share == INFINITE:
            zip_begun = work_of(self.place / "out.zip") / "assembled"
            return one.until(zip_begun.exists) and one.passed(self.random.uniform(0, 0.5))
        if victim == "run" and self.random.random() < 0.25:
            return one.passed(self.random.uniform(0, self.start))
        reached = share * len(self.expected)
        return (
            one.begun()
            and one.until(lambda: one.journals.progress >= reached)
            and one.passed(self.random.uniform(0, JITTER * self.work))
        )

    def _kill_worker(self, one: Started) -> bool:
        """Kill one of its workers, as soon as there is one; False where the run ended before."""
        found: list[psutil.Process] = []

        def any_found() -> bool:
            for process in tree(one.process):
                with suppress(psutil.Error):
                    if any(name in " ".join(process.cmdline()) for name in WORKERS):
                        found.append(process)
            return bool(found)

        if not one.until(any_found):
            return False
        with suppress(psutil.NoSuchProcess):
            self.random.choice(found).kill()
        return True

    def _wrong(self, output: Path, code: int | None, one: Started) -> str:
        """How the end differs from the undisturbed run, in words."""
        if code is None:
            return f"it did not end: {one.said()}"
        if not manifest_of(output).exists():
            return f"exit {code}: {one.said()}"
        rows = rows_of(output)
        words = [f"{row['name']} {row['status']}: {row['error']}" for row in rows if row["status"] != "ok"]
        found = digests(output)
        differ = sorted(
            name for name in self.expected.keys() | found.keys() if self.expected.get(name) != found.get(name)
        )
        words += [f"{name} differs" for name in differ]
        if output.is_file() and list(found) != [row["file"] for row in rows if row["status"] == "ok"]:
            words.append("the zip has another order")
        if code:
            words.insert(0, f"exit {code}")
        return "; ".join(words[:6]) + (f" … {len(words)} differences" if len(words) > 6 else "")

    def survivors(self) -> list[str]:
        """Names of processes that outlived the run that started them; they are ended."""
        # agents of Ray look for their cluster for a minute before they give up
        deadline = time.monotonic() + 90
        while (left := [one for one in self.left if _alive(one)]) and time.monotonic() < deadline:
            time.sleep(1)
        names = []
        for one in left:
            with suppress(psutil.NoSuchProcess):
                names.append(one.name())
                one.kill()
        return names


def _alive(process: psutil.Process) -> bool:
    """Whether it runs; one that is dead and not asked for does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """Print a line for each sequence, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--pictures", type=int, help="150, from 12 kills on 300")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=VICTIMS)
    parser.add_argument("--folder", type=Path, help="where archives and results are written for a while")
    options = parser.parse_args()
    count = options.pictures or (150 if options.kills < 12 else 300)
    promises = Promises()
    with folder(options.folder) as place:
        source = write_pictures(place / "faces.zip", count)
        kills = Kills(source, place, make_generator(place / "slow.safetensors", SLOW), options.seed, promises)
        for number, victim in enumerate(options.victims):
            wanted = len(range(number, options.kills, len(options.victims)))
            if not wanted:
                continue
            # with few kills, one sequence for each victim
            halves = [(OUTPUTS[number % 2], wanted)]
            if wanted > 2:
                halves = [("zip", -(-wanted // 2)), ("folder", wanted // 2)]
            with cluster_for(victim) as cluster:
                for kind, share in halves:
                    met, tries = 0, 0
                    while met < share and tries < 4:
                        met, tries = met + kills.sequence(victim, kind, share - met, cluster), tries + 1
        survivors = kills.survivors()
        done = ", ".join(f"{kills.done[victim]} of a {victim}" for victim in options.victims)
        words = f"{kills.done.total()} kills: {done}; {kills.again} of {count} pictures a run done again"
        enough = kills.done.total() == options.kills
        promises.keep(enough and not promises.broken, f"{words}: {'DIFFERENT' if promises.broken else 'identical'}")
        promises.keep(not survivors, f"{len(survivors)} processes outlived their run {' '.join(survivors)}")
    promises.end()


if __name__ == "__main__":
    main()
