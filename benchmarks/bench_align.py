"""How exactly and how fast portraits are aligned, on faces that are aligned already.

Run from the repository root, with YuNet at hand (`facesr weights list`):

    python benchmarks/bench_align.py FACES [--detector FILE] [--count 24]

FACES is a folder, archive or Parquet file of aligned 1024x1024 faces, such as FFHQ's; drawn portraits by default.
Prints the square that is found in them (the picture itself, were all landmarks those of the data set), then how far the
eyes' centres come to lie from where they were after the face was turned by 25 to 150 degrees and reduced, before and
after it was looked at again, in pixels of 256; and processor time for each picture.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from pipeline.core.images import ImageError, Pixels, decode
from pipeline.faces.geometry import apply, centred, inverse
from pipeline.ingest import align
from pipeline.ingest.align import Aligner
from pipeline.pretrained.registry import WeightsError
from pipeline.sources.open import open_archive
from pipeline.synthetic.portrait import portrait

_TURNS = (25, 70, -40, 150)
_SCALES = (0.6, 0.35)
_SIDE = 1200


def _pictures(path: Path | None, count: int) -> list[Pixels]:
    if path is None:
        return [portrait(0, index) for index in range(count)]
    with TemporaryDirectory() as scratch:
        source = open_archive(str(path), Path(scratch))
        return [decode(source.read(entry.key)) for entry in islice(source.entries(), count)]


def _turned(picture: Pixels, degrees: float, scale: float) -> tuple[Pixels, np.ndarray]:
    """The picture turned and reduced in the middle of a black one, and the matrix that did it."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = scale * np.array(((cosine, -sine), (sine, cosine)))
    height, width = picture.shape[:2]
    matrix = np.column_stack((turn, _SIDE / 2 - turn @ (width / 2, height / 2)))
    soft = cv2.GaussianBlur(picture, (0, 0), 0.4 / scale)  # so that the reduction does not alias
    return cv2.warpAffine(soft, centred(matrix), (_SIDE, _SIDE), flags=cv2.INTER_CUBIC), matrix


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path, nargs="?")
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--count", type=int, default=24)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        aligner = Aligner("ffhq", None, "largest", max_padding=1.0, detector=options.detector)
    except WeightsError as error:
        print(error)
        return
    centres, sides, spent = [], [], 0.0
    errors: dict[int, list[float]] = {0: [], align._LOOKS: []}
    pictures = _pictures(options.faces, options.count)
    lost = 0
    for number, picture in enumerate(pictures):
        degrees, scale = _TURNS[number % len(_TURNS)], _SCALES[number % len(_SCALES)]
        try:
            begun = time.process_time()
            (face,) = aligner(picture)
            spent += time.process_time() - begun
            back = inverse(face.transform)
            side = face.pixels.shape[0] * float(np.sqrt(np.linalg.det(back[:, :2])))
            centres.append(
                apply(back, np.full((1, 2), face.pixels.shape[0] / 2))[0] - np.array(picture.shape[1::-1]) / 2
            )
            sides.append(side)
            turned, matrix = _turned(picture, degrees, scale)
            # where the middle of the eyes is: 0.1 / 1.8 of half a side above the centre, and half of 1 apart or so
            eyes = apply(back, np.array(((0.4, 0.47), (0.6, 0.47))) * face.pixels.shape[0])
            for looks, found in errors.items():
                align._LOOKS = looks
                (again,) = aligner(turned)
                landed = apply(again.transform, apply(matrix, eyes)) / again.pixels.shape[0]
                found.append(256 * float(np.abs(landed - ((0.4, 0.47), (0.6, 0.47))).max()))
        except ImageError:
            lost += 1
        finally:
            align._LOOKS = max(errors)
    offsets = np.array(centres)
    print(f"{len(sides)} faces, {lost} not found; {1000 * spent / len(sides):.0f} ms of processor time a picture")
    print(f"side of the square: mean {np.mean(sides):.0f}, standard deviation {np.std(sides):.0f} pixels")
    for axis, name in enumerate("xy"):
        mean, spread = offsets[:, axis].mean(), offsets[:, axis].std()
        print(f"its centre against the picture's, {name}: mean {mean:+.1f}, standard deviation {spread:.1f} pixels")
    for looks, found in errors.items():
        print(f"eyes of turned faces, {looks} more looks: median {np.median(found):.1f}, most {max(found):.1f} of 256")


if __name__ == "__main__":
    main()
