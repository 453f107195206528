"""Shards of small faces with results of two networks, and their measurement."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipeline.core.images import Pixels, encode_png, pixel_hash, resize
from pipeline.core.schema import FACES, UPSCALED
from pipeline.core.shards import write_rows
from pipeline.evaluate.cases import EvaluationConfig
from pipeline.evaluate.worker import EvaluationWorker, plan_units

SIDE = 64


METHODS = ["facesr", "facesr-realism"]


CONFIG = EvaluationConfig(METHODS)


def face(seed: int) -> Pixels:
    random = np.random.default_rng(seed)
    coarse = resize(random.integers(0, 256, (24, 24, 3), dtype=np.uint8), 4 * SIDE, 4 * SIDE)
    return np.clip(coarse.astype(int) + random.integers(-8, 9, coarse.shape), 0, 255).astype(np.uint8)


def image(pixels: Pixels | None) -> dict[str, bytes | str | None]:
    return {"bytes": None if pixels is None else encode_png(pixels), "path": "face.png"}


def better(low: Pixels, truth: Pixels) -> Pixels:
    """Half-way from bicubic to the truth."""
    return np.rint((resize(low, *truth.shape[:2]).astype(float) + truth) / 2).astype(np.uint8)


def mirrored(low: Pixels, truth: Pixels) -> Pixels:
    return better(low, truth)[:, ::-1].copy()


def build(root: Path, splits: dict[str, int], *, originals: bool = True, realism=mirrored) -> EvaluationConfig:
    """Shards of small faces: inputs of 64 pixels, originals of 256, and two networks' results for both scales."""
    for offset, (split, count) in enumerate(splits.items()):
        stem = f"{split}-00000.parquet"
        faces, inputs, upscaled = [], [], {}
        for number in range(count):
            truth = face(100 * offset + number)
            low = resize(truth, SIDE, SIDE)
            row = {"id": pixel_hash(truth), "name": f"{split}/{number}.png", "source": "test", "split": split}
            kept = truth if originals else low
            faces.append({**row, "image": image(kept), "width": kept.shape[1], "height": kept.shape[0]})
            inputs.append({**row, "image": image(low), "width": SIDE, "height": SIDE})
            for scale, small, large in (("64to256", resize(low, 16, 16), low), ("256to1024", low, truth)):
                for method, make in (("facesr", better), ("facesr-realism", realism)):
                    upscaled.setdefault((method, scale), []).append(
                        {
                            **{key: row[key] for key in ("id", "name", "split")},
                            "image": image(make(small, large)),
                            "scale": scale,
                            "method": method,
                            "status": "ok",
                            "error": "",
                        }
                    )
        write_rows(root / "faces" / stem, faces, FACES)
        write_rows(root / "inputs" / split / stem, inputs, FACES)
        for (method, scale), rows in upscaled.items():
            write_rows(root / "upscaled" / method / scale / stem, rows, UPSCALED)
    folders = {name: str(root / name) for name in ("faces", "inputs", "upscaled")}
    return EvaluationConfig(METHODS, sheet_faces=2, **folders)


class FakeInception:
    """Features that are colour means: as good as any for what is done with them."""

    def __init__(self, weights: Path, device: str) -> None:
        self.weights = weights

    def __call__(self, pixels: Pixels, resize: str) -> np.ndarray:
        return np.concatenate([pixels.mean(axis=(0, 1)), pixels.std(axis=(0, 1))]).astype(np.float32)


def measure(config: EvaluationConfig, parts: Path, size: int = 16) -> list[dict]:
    worker = EvaluationWorker(config)
    return [worker(unit) for unit in plan_units(config, parts, size)]


def change(path: Path, schema, edit) -> None:
    """Rewrite a shard with `edit(rows)`."""
    rows = pq.read_table(path).to_pylist()
    write_rows(path, edit(rows), schema)
