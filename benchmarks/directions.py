"""Which fine frequencies of pictures stand out from others of their radius: a drawn lattice does.

python benchmarks/directions.py ORIGINALS RESULTS [RESULTS ...]    # folders of pictures

Of each folder: by what factor the strongest fine frequency is above its ring's mean, at how many cycles a pixel along
each axis, and how far all are from theirs (root mean square, as a factor). Mean magnitudes of 16x16 blocks' cosine
coefficients, of the half of each picture's blocks that has least of them, where a lattice is seen. Pictures need not be
of the same faces, but photographs by which to tell what is usual belong beside them.
"""

import argparse
from pathlib import Path

import torch

from pipeline.core.images import decode
from pipeline.train.engine.isotropy import SIDE, deviations, magnitudes


def strengths(folder: Path, most: int) -> torch.Tensor:
    """Mean magnitude of each frequency, (16, 16), in the smoother blocks of a folder's first pictures."""
    paths = sorted(folder.iterdir())[:most]
    total = torch.zeros(SIDE, SIDE)
    for path in paths:
        pixels = torch.from_numpy(decode(path.read_bytes()).copy()).permute(2, 0, 1)[None].float() / 255
        blocks = magnitudes(pixels).flatten(0, 2)
        detail = blocks.sum(dim=(1, 2)) - blocks[:, 0, 0]
        total += blocks[detail.argsort()[: len(blocks) // 2]].mean(dim=0)
    return total / len(paths)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=1000, help="pictures of a folder, at most")
    asked = parser.parse_args()
    width = max(len(str(folder)) for folder in asked.folders)
    print(f"{'':{width}}  strongest  at, cycles a pixel  all, rms")
    for folder in asked.folders:
        found = deviations(strengths(folder, asked.count))
        row, column = divmod(int(found.argmax()), SIDE)
        spread = found[found != 0].square().mean().sqrt().exp()
        place = f"{row / (2 * SIDE):.3f}, {column / (2 * SIDE):.3f}"
        print(f"{folder!s:{width}}  {found.max().exp():9.2f}  {place:>18}  {spread:8.2f}", flush=True)


if __name__ == "__main__":
    main()
