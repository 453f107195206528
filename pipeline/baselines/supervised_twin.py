"""The supervised twin: the same generator, trained on 256 -> 1024 pairs of true originals instead of on inputs alone.

What a supervised method gains by its high-resolution data shows against it (figure 4 of the paper compares with PAN).
Here alone a training sees 1024 originals; the `train` stage neither imports this module nor depends on what it reads.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipeline.baselines.originals import NoOriginalsError, original_rows, originals
from pipeline.core.degradation import low_side, reduce
from pipeline.core.files import atomic, content_hash
from pipeline.core.images import Pixels
from pipeline.core.scales import FACTOR, QUARTER_TURNS, SCALE_OF_USE, SIDE
from pipeline.core.schema import Row
from pipeline.params.baselines import Twin
from pipeline.params.train import Train
from pipeline.train.engine.batches import Batch, PairData, cut_pair
from pipeline.train.engine.config import BatchConfig
from pipeline.train.engine.loop import Training, steps_done
from pipeline.train.from_params import phase_config
from pipeline.train.live_log import live_log

SCALE = "64to256"
"""Rows of the manifest at this scale tell how the twin's pairs are turned and degraded: they are those of training."""


class SupervisedPairs(PairData):
    """Pairs of an original and its 256x256 input, degraded and turned as the manifest says of that face.

    The decoded originals lie in a memory-mapped file, 3 MB each, so that memory stays flat; a crop reads its rows only.

    Args:
        faces: folder of face shards.
        manifest: the pairs manifest, which names every training face.
        canvas: the file of decoded originals; one that is complete is used as it is.
        limit: at most so many originals.

    Raises:
        NoOriginalsError: no training face that the manifest names has one.
    """

    def __init__(self, faces: Path, manifest: Path, canvas: Path, limit: int | None = None):
        filters = [("split", "==", "train"), ("scale", "==", SCALE)]
        rows = pq.read_table(manifest, filters=filters).to_pylist()
        named = {row["image_id"] for row in rows}
        ids = [row["id"] for row in originals(faces, "train") if row["id"] in named][:limit]
        if not ids:
            raise NoOriginalsError(f"{faces}: no face of the train split is {FACTOR * SIDE}x{FACTOR * SIDE}")
        self.index = {image_id: index for index, image_id in enumerate(ids)}
        """Of each original in `originals`."""
        self.rows = {SCALE: [row for row in rows if row["image_id"] in self.index]}
        shape = (len(ids), FACTOR * SIDE, FACTOR * SIDE, 3)
        if not canvas.exists():
            with atomic(canvas) as temporary:
                filled = np.memmap(temporary, np.uint8, "w+", shape=shape)
                for image_id, pixels in original_rows(faces, "train"):
                    if image_id in self.index:
                        filled[self.index[image_id]] = pixels
                filled.flush()
        self.originals = np.memmap(canvas, np.uint8, "r", shape=shape)
        self.images = {name: reduce(np.asarray(self.originals[index])) for name, index in self.index.items()}

    def batch(self, config: BatchConfig, step: int, share: slice = slice(None)) -> Batch:
        """Make a step's batch: low uint8 (N, c/4, c/4, 3) of the inputs and truth uint8 (N, c, c, 3) of the originals.

        Crops have the side of the self-supervised training's largest, `config.crop`.
        """
        random = np.random.Generator(np.random.PCG64([config.seed, step]))
        return self._draw(random, SCALE, config.crop, config, share, 2)

    def _crop(self, row: Row, side: int, config: BatchConfig, draws: Sequence[float]) -> tuple[Pixels, Pixels]:
        turns = QUARTER_TURNS.get(row["augmentation"], 0)
        # the input is reduced already, as at the scale of use
        low = low_side(np.rot90(self.images[row["image_id"]], turns), row | {"scale": SCALE_OF_USE})
        truth = np.rot90(self.originals[self.index[row["image_id"]]], turns)
        return cut_pair(low, truth, side, *draws)


def train_twin(
    settings: Train,
    twin: Twin,
    faces: Path,
    manifest: Path,
    work: Path,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path | None:
    """Train the twin, or take its training up where it was; a finished one is kept.

    Args:
        settings: the train section: generator, batch, crop and fidelity phase are the twin's too.
        twin: what it has of its own.
        faces: folder of face shards; the train split is learned from, the valid split chosen by.
        manifest: the pairs manifest.
        work: folder of states, log and result.
        should_stop: see `Training.run`.

    Returns:
        Path of the weights; None if it was stopped before the end.

    Raises:
        NoOriginalsError: there is nothing to be supervised by.
    """
    result = work / "generator.safetensors"
    if result.exists():
        return result
    data = SupervisedPairs(faces, manifest, work / "originals.bin", twin.faces)
    valid = [(pixels, reduce(pixels)) for _, pixels in original_rows(faces, "valid", twin.valid_faces)]
    phase = replace(settings.fidelity, steps=twin.steps or settings.fidelity.steps, smoother=0.0, drawn=0.0)
    provenance = {
        "phase": "twin",
        "supervised_by": f"{len(data.index)} originals of {FACTOR * SIDE}x{FACTOR * SIDE}",
        "data_sha256": content_hash(faces, manifest),
        "params_sha256": content_hash(settings.model_dump(), twin.model_dump()),
    }
    config = phase_config(settings, phase, provenance)
    config = replace(config, validate_every=twin.validate_every or config.validate_every)
    training = Training(config, data, valid, work)
    with live_log(work / "log", "twin", config.steps, steps_done(work)) as log:
        if training.run(log.values, log.sample, should_stop) is None:
            return None
    (work / "originals.bin").unlink()
    return result
