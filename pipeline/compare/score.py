"""Score generators at 256 -> 1024, the scale that training never sees, on faces that have originals.

For choosing between checkpoints and between trainings; it stands apart from training, which cannot reach an original.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.core.chain import degrade_to_file
from pipeline.core.degradation import CLEAN, KINDS, draw_kind, reduce, reduced_for
from pipeline.core.files import shard_files
from pipeline.core.images import ImageError, Pixels, decode, pixel_hash, psnr
from pipeline.core.scales import BASELINE, BASELINES, FACTOR, SCALE_OF_USE, SPLITS
from pipeline.core.shards import read_rows
from pipeline.evaluate.cases import enlarge
from pipeline.metrics.distances import FeatureStatistics, frechet_distance
from pipeline.metrics.fidelity import Reference, consistency
from pipeline.metrics.ssim import WINDOW
from pipeline.models.device import autocast, choose_device, choose_precision
from pipeline.sources.open import open_archive
from pipeline.train.engine.losses import PerceptualLoss

CELLS = 16
"""Each picture is cut into 16x16 cells; the texture of a cell is its mean VGG-19 features."""
LAYER = "relu3_1"

Enlarge = Callable[[Pixels], Pixels]
Figures = dict[str, float | None]
"""Of a method, by metric."""


def originals(
    path: Path | str, split: str, scratch: Path, limit: int | None = None, problems: list[str] | None = None
) -> Iterator[Pixels]:
    """True pictures to score on.

    Args:
        path: folder of the pipeline's face shards, of which `split` is read, or path or URI of any archive of pictures.
        split: `train`, `valid` or `test`.
        scratch: where a compressed tar may be unpacked.
        limit: at most so many.
        problems: names and reasons of what cannot be used are added to it.

    Raises:
        SourceError: no such archive.
    """
    folder = Path(path)
    if folder.is_dir() and any(shard_files(folder, f"{name}-*.parquet") for name in SPLITS):
        shards = shard_files(folder, f"{split}-*.parquet")
        rows = (row for shard in shards for row in read_rows(shard, ["name", "image"]))
        data: Iterable[tuple[str, bytes | str]] = ((row["name"], row["image"]["bytes"]) for row in rows)
    else:
        source = open_archive(str(path), scratch)
        data = ((entry.name, entry.problem or source.read(entry.key)) for entry in source.entries())
    count = 0
    for name, image in data:
        if count == limit:
            return
        try:
            if isinstance(image, str):
                raise ImageError(image)
            pixels = decode(image)
            if problem := unusable(pixels):
                raise ImageError(problem)
        except ImageError as error:
            if problems is not None:
                problems.append(f"{name}: {error}")
        else:
            count += 1
            yield pixels


def unusable(truth: Pixels) -> str | None:
    """Why nothing can be scored on a picture; None where it can."""
    height, width = truth.shape[:2]
    if height % FACTOR or width % FACTOR:
        return f"a true picture of {width}x{height} cannot be reduced 4x exactly"
    if min(height, width) < WINDOW:
        return f"a true picture of {width}x{height}: SSIM needs {WINDOW} pixels a side"
    return None


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


def _degraded(low: Pixels, truth: Pixels, kind: str) -> tuple[Pixels, bytes | None]:
    """The input of a kind, and the JPEG that it was decoded from, where it is one."""
    drawn = draw_kind(pixel_hash(truth), f"{SCALE_OF_USE}-{kind}", 0)
    chain = KINDS[kind]
    low, file = degrade_to_file(reduced_for(low, chain, truth), chain, drawn["seed"])
    return (low if file is None else decode(file)), file


def score(
    methods: Mapping[str, Enlarge],
    faces: Iterable[Pixels],
    textures: TextureFeatures | None = None,
    done: Callable[[], None] = lambda: None,
    kind: str = CLEAN,
) -> dict[str, Figures]:
    """Score methods, bicubic and Lanczos on the same faces.

    Args:
        methods: name -> uint8 (h, w, 3) -> uint8 (4h, 4w, 3). With a kind they are given `file` too: the JPEG that the
            input was decoded from, or None.
        faces: true pictures, sides multiples of 4; the input is each reduced 4x by Pillow's bicubic.
        textures: None leaves out the Fréchet distance.
        done: called after each face.
        kind: of the inputs: CLEAN, or one of `core.degradation.KINDS`, drawn from the face's pixels alone.

    Returns:
        By method: `psnr` (dB), `ssim`, `gain` (dB over bicubic), `consistency` (grey levels between the result reduced
        4x and the input), means over faces; `fd`, the Fréchet distance of cell textures to those of the originals as a
        ratio to bicubic's, or None; `count`.

    Raises:
        ImageError: a face whose sides are no multiples of 4, or too small for SSIM.
        ValueError: no face.
    """
    names = (*BASELINES, *methods)
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    cells = {name: FeatureStatistics.empty(256) for name in ("", *names)}
    for truth in faces:
        if problem := unusable(truth):
            raise ImageError(problem)
        low, given = reduce(truth), {}
        if kind != CLEAN:
            low, given["file"] = _degraded(low, truth, kind)
        reference = Reference(truth)
        results = enlarge(low, BASELINES) | {name: method(low, **given) for name, method in methods.items()}
        for name, result in results.items():
            rows[name].append((psnr(truth, result), reference.ssim(result), consistency(result, low)))
        if textures:
            for name, picture in {"": truth, **results}.items():
                cells[name].add(textures(picture))
        done()
    if not rows[BASELINE]:
        raise ValueError("no faces to score on")
    means = {name: np.mean(values, axis=0).tolist() for name, values in rows.items()}
    distances = {name: frechet_distance(cells[""], cells[name]) if textures else 0.0 for name in names}
    base = distances[BASELINE]
    return {
        name: {
            "psnr": mean[0],
            "gain": mean[0] - means[BASELINE][0],
            "ssim": mean[1],
            "consistency": mean[2],
            "fd": distances[name] / base if base else None,
            "count": len(rows[name]),
        }
        for name, mean in means.items()
    }
