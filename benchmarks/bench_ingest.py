"""Ingestion of an archive of 1024x1024 faces with 3 % damaged in ten ways: what is rejected, memory, and speed.

python benchmarks/bench_ingest.py [--counts 1000 10000] [--kind zip]

Speed is a ratio measured in one run: pictures a second of the whole `facesr ingest`, from its start to its end, against
bare Pillow decoding and sha256 of the pixels by as many processes. Memory is PSS (shared pages counted once) summed
over the process tree, sampled four times a second.
"""

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np
import psutil
import pyarrow.parquet as pq
from bench_repro import tree_pss
from PIL import Image
from upscale_damaged import DAMAGES

from pipeline.core.images import Pixels, encode_png
from pipeline.synthetic.portrait import portrait

ROOT = Path(__file__).resolve().parents[1]
DRAWN = 48
"""Portraits that all faces are cut from: drawing one takes as long as cutting a hundred."""


class Faces:
    """Any number of faces of 1024x1024, of which no two are alike."""

    def __init__(self) -> None:
        self.drawn = [portrait(0, index) for index in range(DRAWN)]

    def face(self, index: int) -> Pixels:
        """RGB uint8 (1024, 1024, 3): a part of a drawn portrait, enlarged, mirrored or not."""
        random = np.random.default_rng(index)
        side = int(random.integers(600, 1000))
        top, left = random.integers(0, 1024 - side, 2)
        part = self.drawn[index % DRAWN][top : top + side, left : left + side][:, :: random.choice((-1, 1))]
        return cv2.resize(np.ascontiguousarray(part), (1024, 1024), interpolation=cv2.INTER_LINEAR)


def gapped(jpeg: bytes) -> bytes:
    """A JPEG without some bytes of its middle: many decoders hand on whatever becomes of it."""
    middle = len(jpeg) // 2
    return jpeg[:middle] + jpeg[middle + 5000 :]


def write_archive(path: Path, faces: Faces, count: int) -> dict[str, str | tuple[str, ...]]:
    """Write a zip of `count` files, 3 % of them damaged; name of each damaged file -> how its reason begins."""
    kinds: list[tuple[str, Callable[[bytes], bytes], Callable[[zipfile.ZipInfo], None] | None, str]] = [
        kind for kind in DAMAGES if not kind[0].startswith("floats")
    ]
    number = round(0.03 * count)
    places = {round((i + 0.5) * count / number): i for i in range(number)}
    expected: dict[str, str | tuple[str, ...]] = {}
    changes = []
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(count):
            pixels = faces.face(index)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
            if index not in places:
                archive.writestr(f"face-{index:05d}.jpg", buffer.getvalue())
                continue
            kind = places[index] % (len(kinds) + 1)
            if kind == len(kinds):
                archive.writestr(f"gapped-{index:05d}.jpg", gapped(buffer.getvalue()))
                expected[f"gapped-{index:05d}.jpg"] = ("damaged picture (Corrupt", "truncated picture (Corrupt")
                continue
            pattern, damage, change, reason = kinds[kind]
            name = pattern.format(f"{index:05d}")
            archive.writestr(name, damage(encode_png(pixels)))
            expected[name] = reason
            if change:
                changes.append((change, archive.getinfo(name)))
        for change, member in changes:
            change(member)
    return expected


def ingested(archive: Path, out: Path) -> tuple[float, int]:
    """Seconds and peak memory of the command."""
    command = [sys.executable, "-m", "pipeline.cli", "ingest", str(archive), "--out", str(out), "--test", "500"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    start = time.monotonic()
    process = psutil.Popen([*command, "--train", "rest"], env=environment, stderr=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, tree_pss(process))
        time.sleep(0.25)
    seconds = time.monotonic() - start
    if process.returncode:
        sys.exit(process.stderr.read())
    return seconds, peak


def _decode(job: tuple[str, list[str]]) -> int:
    with zipfile.ZipFile(job[0]) as archive:
        for name in job[1]:
            with Image.open(io.BytesIO(archive.read(name))) as image:
                hashlib.sha256(np.asarray(image.convert("RGB")).data).digest()
    return len(job[1])


def bare(archive: Path, names: list[str]) -> float:
    """Seconds that Pillow and sha256 alone take over the good pictures, on every core."""
    jobs = [(str(archive), names[start : start + 32]) for start in range(0, len(names), 32)]
    start = time.monotonic()
    with Pool(os.cpu_count()) as pool:
        assert sum(pool.imap_unordered(_decode, jobs)) == len(names)
    return time.monotonic() - start


def main() -> None:
    """A line for each count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10000])
    options = parser.parse_args()
    faces = Faces()
    for count in options.counts:
        with tempfile.TemporaryDirectory() as folder:
            archive, out = Path(folder) / "faces.zip", Path(folder) / "out"
            expected = write_archive(archive, faces, count)
            seconds, peak = ingested(archive, out)
            rows = {row["name"]: row["reason"] for row in pq.read_table(out / "rejected.parquet").to_pylist()}
            right = set(rows) == set(expected) and all(rows[name].startswith(expected[name]) for name in expected)
            counts = json.loads((out / "ingest.json").read_text())
            good = [f"face-{index:05d}.jpg" for index in range(count)]
            with zipfile.ZipFile(archive) as opened:
                good = sorted(set(good) & set(opened.namelist()))
            alone = bare(archive, good)
            ours, theirs = count / seconds, len(good) / alone
            print(
                f"{count} faces: {len(rows)} rejected, {'exactly the damaged ones' if right else 'NOT as expected'}; "
                f"splits {counts['splits']}; peak {peak / 2**30:.2f} GiB PSS; {ours:.1f} pictures/s, "
                f"x{ours / theirs:.2f} of bare decoding and sha256 ({theirs:.1f}/s)"
            )
            if not right:
                for name in sorted(set(rows) ^ set(expected))[:10]:
                    print(f"  {name}: {rows.get(name)!r} instead of {expected.get(name)!r}")


if __name__ == "__main__":
    main()
