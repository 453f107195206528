"""Score generators at 256 -> 1024, the scale that training never sees, on faces that have originals.

For choosing between checkpoints and between trainings; it stands apart from training, which cannot reach an original.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.core.files import shard_files
from pipeline.core.images import Pixels, decode, psnr, resize
from pipeline.core.scales import FACTOR
from pipeline.core.shards import read_rows
from pipeline.metrics.distances import FeatureStatistics, frechet_distance
from pipeline.metrics.fidelity import Reference, consistency
from pipeline.models.device import autocast, choose_device, choose_precision
from pipeline.sources.open import open_archive
from pipeline.train.engine.losses import PerceptualLoss

CELLS = 16
"""Each picture is cut into 16x16 cells; the texture of a cell is its mean VGG-19 features."""
LAYER = "relu3_1"

Enlarge = Callable[[Pixels], Pixels]


def originals(place: Path, split: str, scratch: Path, limit: int | None = None) -> Iterator[Pixels]:
    """True pictures to score on.

    Args:
        place: folder of the pipeline's face shards, of which `split` is read, or any archive of pictures.
        split: `train`, `valid` or `test`.
        scratch: where a compressed tar may be unpacked.
        limit: at most so many.

    Raises:
        ImageError: a picture cannot be decoded.
        SourceError: no such archive.
    """
    shards = shard_files(place, f"{split}-*.parquet") if place.is_dir() else []
    if shards:
        data: Iterable[bytes] = (row["image"]["bytes"] for shard in shards for row in read_rows(shard, ["image"]))
    else:
        source = open_archive(str(place), scratch)
        data = (source.read(entry.key) for entry in source.entries() if not entry.problem)
    for count, image in enumerate(data):
        if count == limit:
            return
        yield decode(image)


class TextureFeatures:
    """VGG-19 features of a picture's cells: (256, 256) float32 for one uint8 (h, w, 3), sides from 64 up.

    Args:
        vgg: weights file with the first five convolutions of ImageNet's VGG-19.
    """

    def __init__(self, vgg: Path):
        self.device = choose_device()
        self.network = PerceptualLoss((LAYER,), vgg).to(self.device).to(memory_format=torch.channels_last)
        self.dtype = choose_precision("auto", self.device)

    @torch.inference_mode()
    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """Features of the cells, row by row."""
        image = torch.from_numpy(pixels.copy())[None].to(self.device).permute(0, 3, 1, 2).float() / 255
        with autocast(self.device, self.dtype):
            (features,) = self.network.extract(image)
        cells: NDArray[np.float32] = F.adaptive_avg_pool2d(features.float(), CELLS)[0].flatten(1).T.cpu().numpy()
        return cells


def score(
    methods: Mapping[str, Enlarge],
    faces: Iterable[Pixels],
    textures: TextureFeatures | None = None,
    done: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, Any]]:
    """Score methods, bicubic and Lanczos on the same faces.

    Args:
        methods: name -> uint8 (h, w, 3) -> uint8 (4h, 4w, 3).
        faces: true pictures, sides multiples of 4; the input is each reduced 4x by Pillow's bicubic.
        textures: None leaves out the Fréchet distance.
        done: called after each face.

    Returns:
        By method: `psnr` (dB), `ssim`, `gain` (dB over bicubic), `consistency` (grey levels between the result reduced
        4x and the input), means over faces; `fd`, the Fréchet distance of cell textures to those of the originals as a
        ratio to bicubic's, or None; `count`.

    Raises:
        ValueError: no face, or a face whose sides are no multiples of 4.
    """

    def baseline(lanczos: bool) -> Enlarge:
        return lambda low: resize(low, FACTOR * low.shape[0], FACTOR * low.shape[1], lanczos)

    every = {"bicubic": baseline(False), "lanczos": baseline(True), **methods}
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in every}
    cells = {name: FeatureStatistics.empty(256) for name in ("", *every)}
    for truth in faces:
        if truth.shape[0] % FACTOR or truth.shape[1] % FACTOR:
            raise ValueError(f"a true picture of {truth.shape[1]}x{truth.shape[0]} cannot be reduced 4x exactly")
        low = resize(truth, truth.shape[0] // FACTOR, truth.shape[1] // FACTOR)
        reference = Reference(truth)
        if textures:
            cells[""].add(textures(truth))
        for name, enlarge in every.items():
            result = enlarge(low)
            rows[name].append((psnr(truth, result), reference.ssim(result), consistency(result, low)))
            if textures:
                cells[name].add(textures(result))
        done()
    if not rows["bicubic"]:
        raise ValueError("no faces to score on")
    means = {name: np.mean(values, axis=0).tolist() for name, values in rows.items()}
    distances = {name: frechet_distance(cells[""], cells[name]) if textures else None for name in every}
    base = distances["bicubic"]
    return {
        name: {
            "psnr": mean[0],
            "gain": mean[0] - means["bicubic"][0],
            "ssim": mean[1],
            "consistency": mean[2],
            "fd": (distances[name] or 0.0) / base if base else None,
            "count": len(rows[name]),
        }
        for name, mean in means.items()
    }
