"""Training batches: which pairs a step takes, and which crops of them. All of it follows from (seed, step)."""

import os
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from pipeline.core.chain import TOLD
from pipeline.core.degradation import ground_truth, low_side, make_pair, told_of
from pipeline.core.errors import FacesrError
from pipeline.core.images import Pixels, resize
from pipeline.core.scales import FACTOR, GROUND_TRUTH_SIDE, SCALE_OF_USE
from pipeline.core.schema import Row
from pipeline.train.engine.config import BatchConfig
from pipeline.train.engine.dataset import DECODED_BYTES, Inputs, Pairs, read_manifest
from pipeline.train.engine.drawing import draw

SMOOTHER_FACTOR = (1.2, 3.0)
"""Range by which ground truths that are to be smoother are enlarged."""
RESULT_FACTOR = (1.4, 3.0)
"""Range by which results are reduced that are to be ground truths: below it a generator would learn what it does."""
TOLD_ERROR = 0.3
"""Largest error of what a generator is told in training, in logarithms: at use it is an estimate."""
MARGIN, GRID = 16, 16
"""Input pixels beside a crop that are degraded with it, and the grid that they end on: JPEG's blocks stay where they
are in the whole picture."""


class Batch(NamedTuple):
    """What a step learns from."""

    low: Tensor
    """Inputs, uint8 (N, h, w, 3)."""
    truth: Tensor
    """Ground truths, uint8 (N, 4h, 4w, 3); at the scale of use (N, h, w, 3), to compare reduced results with; without
    channels, (N, s, s, 0), where they are still to be made: results of `low` reduced to that side."""
    told: Tensor
    """Values of `core.chain.TOLD`'s planes, float32 (N, 2)."""


class ManifestError(FacesrError):
    """The pairs manifest does not go with the inputs or the settings."""


class PairData:
    """Pairs of one split, made on the fly from the inputs and the manifest: the only files it ever opens.

    What it holds in memory, `pipeline.train.engine.dataset` tells: 0.8 GB for the paper's 3,998 inputs.

    Args:
        inputs: folder of input shards of this split.
        manifest: the pairs manifest.
        split: `train` or `valid`.
        decoded_bytes: decoded inputs kept; batches are the same whatever it is.

    Raises:
        ManifestError: the manifest names an image that the inputs lack, or has no pair of this split.
        ImageError: an input cannot be decoded.
    """

    def __init__(self, inputs: Path, manifest: Path, split: str, decoded_bytes: int = DECODED_BYTES):
        self.images: Mapping[str, Pixels] = Inputs(inputs, decoded_bytes)
        table, rows = read_manifest(manifest, split)
        named = pc.unique(table["image_id"]).to_pylist()
        missing = next((name for name in named if name not in self.images), None)
        if missing is not None:
            raise ManifestError(f"{manifest} names image {missing}, which {inputs} does not hold")
        if not named:
            raise ManifestError(f"{manifest} has no pairs of split {split!r}")
        self.rows: Mapping[str, Sequence[Row]] = rows

    def pairs(self, scale: str, count: int) -> Pairs:
        """The first `count` full pairs of a scale: (ground truth, low-resolution input)."""
        return [make_pair(self.images[row["image_id"]], row) for row in self.rows.get(scale, [])[:count]]

    def shown(self, count: int) -> Pairs:
        """Up to `count` full pairs for validation, of every scale as large a share as it has; large scales first."""
        total = sum(map(len, self.rows.values()))
        count = min(count, total)
        chosen: Pairs = []
        before = taken = 0
        for scale in sorted(self.rows, key=lambda scale: -GROUND_TRUTH_SIDE[scale]):
            before += len(self.rows[scale])
            share = -(-count * before // total) - taken
            chosen += self.pairs(scale, share)
            taken += share
        return chosen

    def batch(self, config: BatchConfig, step: int, share: slice = slice(None)) -> Batch:
        """The batch of a step, whatever was drawn before.

        Args:
            config: how to draw.
            step: of the training.
            share: the part of the batch to make, where several processes share it.

        Returns:
            Inputs of c/4 pixels and ground truths of c; c is the crop's side, or the whole side at scales that are
            smaller.

        Raises:
            ManifestError: it has no pair of the scales that the config names.
        """
        random = np.random.Generator(np.random.PCG64([config.seed, step]))
        scales = sorted(scale for scale in self.rows if config.scale_chances.get(scale, 0) > 0)
        if not scales:
            raise ManifestError(f"no pairs of the scales asked for, {sorted(config.scale_chances)}")
        # few large faces are not shown again and again because their scale has a chance of its own
        most = max(len(self.rows[scale]) for scale in scales)
        chances = np.array([config.scale_chances[scale] * (len(self.rows[scale]) / most) for scale in scales])
        scale = scales[int(random.choice(len(scales), p=chances / chances.sum()))]
        if scale != SCALE_OF_USE and config.results:
            # numbers of its own, as below
            own = np.random.Generator(np.random.PCG64([config.seed, step, 2]))
            if own.random() < config.results:
                return self._of_results(own, scale, config, share)
        side = config.crop if scale == SCALE_OF_USE else min(config.crop, GROUND_TRUTH_SIDE[scale])
        numbers = 6 if config.drawn and scale != SCALE_OF_USE else 4
        lows, truths, told = self._draw(random, scale, side, config, share, numbers)
        # numbers of its own, so that a generator that is told nothing learns what it always did
        errors = np.random.Generator(np.random.PCG64([config.seed, step, 1])).uniform(
            -TOLD_ERROR, TOLD_ERROR, (config.batch, len(TOLD))
        )
        return Batch(lows, truths, told * torch.from_numpy(np.exp(errors[share]).astype(np.float32)))

    def _draw(
        self, random: np.random.Generator, scale: str, side: int, config: BatchConfig, share: slice, numbers: int
    ) -> Batch:
        """Draw the pairs of a batch and so many `numbers` for the crop of each, and stack the share's."""
        chosen = random.integers(len(self.rows[scale]), size=config.batch)
        # all numbers of the batch are drawn, also those of other processes' shares: the batch is one and the same
        draws = random.random((config.batch, numbers))
        rows = [self.rows[scale][index] for index in chosen[share]]
        pairs = [self._crop(row, side, config, drawn) for row, drawn in zip(rows, draws[share].tolist(), strict=True)]
        lows, truths = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
        told = np.array([told_of(row) for row in rows], np.float32)
        return Batch(torch.from_numpy(lows), torch.from_numpy(truths), torch.from_numpy(told))

    def _of_results(self, random: np.random.Generator, scale: str, config: BatchConfig, share: slice) -> Batch:
        """Parts of clean inputs, whose results are to be reduced to ground truths."""
        rows = [self.rows[scale][index] for index in random.integers(len(self.rows[scale]), size=config.batch)]
        factor, places = random.uniform(*RESULT_FACTOR), random.random((config.batch, 2))
        images = [ground_truth(self.images[row["image_id"]], SCALE_OF_USE, row["augmentation"]) for row in rows[share]]
        part = min(round(config.crop * factor / FACTOR**2) * FACTOR, *(image.shape[0] for image in images))
        parts = []
        for image, (across, down) in zip(images, places[share].tolist(), strict=True):
            top, left = round(down * (image.shape[0] - part)), round(across * (image.shape[1] - part))
            parts.append(image[top : top + part, left : left + part])
        lows = torch.from_numpy(np.stack(parts))
        return Batch(lows, lows.new_empty(len(lows), config.crop, config.crop, 0), torch.zeros(len(lows), len(TOLD)))

    def _crop(self, row: Row, side: int, config: BatchConfig, draws: Sequence[float]) -> tuple[Pixels, Pixels]:
        """One pair; `draws` from 0 to 1 decide whether it is a smoother one, how much so, and where it is cut out; two
        more, whether things are drawn on it, and which.
        """
        chance, strength, across, down, *of_drawn = draws
        image = self.images[row["image_id"]]
        if row["scale"] == SCALE_OF_USE:
            return cut_of_use(ground_truth(image, SCALE_OF_USE, row["augmentation"]), row, side // FACTOR, across, down)
        if chance < config.smoother:
            least, most = SMOOTHER_FACTOR
            part = max(FACTOR * 4, round(side / (least + strength * (most - least))))
            truth = ground_truth(image, row["scale"], row["augmentation"])
            top, left = round(down * (truth.shape[0] - part)), round(across * (truth.shape[1] - part))
            truth = resize(np.ascontiguousarray(truth[top : top + part, left : left + part]), side, side)
            low = None
        else:
            truth, low = make_pair(image, row)
            low, truth = cut_pair(low, truth, side, across, down)
        if of_drawn and of_drawn[0] < config.drawn:
            truth = draw(truth, np.random.Generator(np.random.PCG64(int(of_drawn[1] * 2**53))))
            low = None
        return low_side(truth, row) if low is None else low, truth


def cut_pair(low: Pixels, truth: Pixels, side: int, across: float, down: float) -> tuple[Pixels, Pixels]:
    """Cut a window of `side` pixels out of the truth and its quarter out of the input, at shares from 0 to 1.

    It lies on the input's grid, so that both sides show the same part of the face.
    """
    small = side // FACTOR
    top, left = round(down * (low.shape[0] - small)), round(across * (low.shape[1] - small))
    y, x = FACTOR * top, FACTOR * left
    return low[top : top + small, left : left + small], truth[y : y + side, x : x + side]


def cut_of_use(truth: Pixels, row: Row, side: int, across: float, down: float) -> tuple[Pixels, Pixels]:
    """Cut a window of `side` pixels out of the clean face, at shares from 0 to 1, and degrade it with its surroundings.

    Returns:
        Input and ground truth, both uint8 (side, side, 3).
    """
    top, left = round(down * (truth.shape[0] - side)), round(across * (truth.shape[1] - side))
    y, x = (max(0, start - MARGIN) // GRID * GRID for start in (top, left))
    low = low_side(truth[y : top + side + MARGIN, x : left + side + MARGIN], row)
    window = slice(top, top + side), slice(left, left + side)
    return low[top - y : top - y + side, left - x : left - x + side], truth[window]


def prefetch(
    data: PairData, config: BatchConfig, first: int, last: int, share: slice = slice(None)
) -> Generator[tuple[int, Batch], None, None]:
    """Yield (step, batch) for steps `first` (included) to `last` (excluded), made ahead by threads.

    Resizing and JPEG leave Python's lock, so more threads make more pairs; a GPU wants several, a CPU that also
    trains has none to spare.
    """
    threads = min(8, os.cpu_count() or 1) if torch.cuda.is_available() else 1
    ahead = 2 * threads
    with ThreadPoolExecutor(threads) as pool:
        pending = [pool.submit(data.batch, config, step, share) for step in range(first, min(first + ahead, last))]
        for step in range(first, last):
            batch = pending.pop(0).result()
            if step + ahead < last:
                pending.append(pool.submit(data.batch, config, step + ahead, share))
            yield step, batch
