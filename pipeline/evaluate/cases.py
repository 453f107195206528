"""Read the pictures that belong together: a true face, its low-resolution input, and what each method made of it.

They lie in three folders of shards with the same stems, and are joined by id:
`faces/{stem}.parquet`, `inputs/{split}/{stem}.parquet`, `upscaled/{method}/{scale}/{stem}.parquet`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from pipeline.core.degradation import degrade
from pipeline.core.files import shard_files
from pipeline.core.images import ImageError, Pixels, decode, resize
from pipeline.core.scales import AUGMENTED, BASELINES, FACTOR, MEASURED_SCALES
from pipeline.core.shards import read_range, read_rows


class EvaluationConfig(TypedDict):
    """What the evaluation reads and shows; plain values, so that it travels to workers as JSON would."""

    faces: str
    """Folder of the originals' shards."""
    inputs: str
    """Folder with a folder of 256x256 input shards per split."""
    upscaled: str
    """Folder with `{method}/{scale}/` folders of shards."""
    methods: list[str]
    """Names of the networks' results, in the order shown; the first one is the subject of the report's summary."""
    folders: NotRequired[dict[str, str]]
    """Folder of a method's results, where it is not `{upscaled}/{method}`."""
    peers: NotRequired[list[str]]
    """Methods to compare with, which may cover fewer faces than the others."""
    networks: NotRequired[dict[str, str | None]]
    """Weights file by name of `weights.NETWORKS`; a metric whose network is missing is null."""
    problems: NotRequired[dict[str, str]]
    """Why a network is missing, by its name."""
    device: NotRequired[str]
    """Torch device of the networks: cpu (default) or cuda."""
    baseline: NotRequired[str]
    """What gains are measured against; bicubic by default."""
    baselines: NotRequired[list[str]]
    """Which of BASELINES are made on the spot; both by default."""
    training: NotRequired[str | None]
    """Folder with dvclive's records of each training, for its curves."""
    unmatched: NotRequired[list[str]]
    """What could not be compared and why: the report names it."""
    sheet_faces: NotRequired[int]
    """Faces on each comparison sheet; 4 by default."""
    synthetic: NotRequired[bool]
    """The faces are drawn, not photographed: the report warns."""
    small: NotRequired[dict[str, int]]
    """Faces under 256x256 by split, which nothing can be measured on: the report says so."""
    random_vgg: NotRequired[bool]
    """The perceptual loss had random VGG weights: the report warns."""


@dataclass
class Case:
    """One face at one scale. Pictures are uint8 (height, width, 3), RGB."""

    id: str
    name: str
    low: Pixels | None = None
    """The input; None where it or the truth could not be read, or, of pictures compared, where there is none."""
    truth: Pixels | None = None
    """Four times the input in size."""
    results: dict[str, Pixels] = field(default_factory=dict)
    """By method, baselines included; a method that failed is absent."""


def methods_of(config: EvaluationConfig) -> list[str]:
    """Every method in the order measured: those made on the spot, the networks, the peers."""
    return [*config.get("baselines", BASELINES), *config["methods"], *config.get("peers", [])]


def shards_of(config: EvaluationConfig, method: str, scale: str) -> Path:
    """Folder of a method's shards."""
    folder = config.get("folders", {}).get(method)
    return (Path(folder) if folder else Path(config["upscaled"]) / method) / scale


def _by_id(path: Path, wanted: set[str]) -> dict[str, dict[str, Any]]:
    """Rows of a shard whose id is wanted; none where there is no such shard. Reads pictures of their stretch only."""
    if not path.is_file():
        return {}
    places = [place for place, row in enumerate(read_rows(path, ["id"])) if row["id"] in wanted]
    if not places:
        return {}
    return {row["id"]: row for row in read_range(path, places[0], places[-1] + 1) if row["id"] in wanted}


def _pixels(row: dict[str, Any] | None) -> Pixels | None:
    """The decoded picture of a row; None where there is no row, no picture, or a damaged one."""
    data = (row or {}).get("image") or {}
    if not data.get("bytes"):
        return None
    try:
        return decode(data["bytes"])
    except ImageError:
        return None


def read_cases(config: EvaluationConfig, split: str, scale: str, stem: str, start: int, stop: int) -> Iterator[Case]:
    """Stream the cases of rows `start` to `stop` of an inputs shard, in row order.

    At 64to256 the 256 input is the truth and its reduction the input. At 256to1024 the face itself is the truth where
    it is four times its input. At an augmented scale the input is degraded as the results' rows say. A face without
    such an original yields no case, nor does one that no network has a row of.

    Args:
        config: where the shards are, and which methods to read.
        split: train or test.
        scale: one of MEASURED_SCALES.
        stem: the shard's file name without suffix.
        start: first row of the inputs shard.
        stop: row after the last.
    """
    columns = ["id", "name", "image", "width", "height"]
    source = Path(config["inputs"]) / split / f"{stem}.parquet"
    inputs = list(read_range(source, start, stop, columns))
    wanted = {row["id"] for row in inputs}
    made = config.get("baselines", BASELINES)
    upscaled = {
        method: _by_id(shards_of(config, method, scale) / f"{stem}.parquet", wanted)
        for method in methods_of(config)
        if method not in made
    }
    large = scale.removesuffix(AUGMENTED) == MEASURED_SCALES[1]
    originals = _by_id(Path(config["faces"]) / f"{stem}.parquet", wanted) if large else {}
    for row in inputs:
        done = {method: rows[row["id"]] for method, rows in upscaled.items() if row["id"] in rows}
        if not any(method in done for method in config["methods"]):
            continue  # not among the faces that were to be enlarged
        case = Case(row["id"], row["name"])
        if large:
            original = originals.get(row["id"])
            sides = (FACTOR * row["height"], FACTOR * row["width"])
            if original is None or (original["height"], original["width"]) != sides:
                continue
            low, truth = _pixels(row), _pixels(original)
        else:
            truth = _pixels(row)
            low = None if truth is None else resize(truth, truth.shape[0] // FACTOR, truth.shape[1] // FACTOR)
        if low is None or truth is None or truth.shape != (FACTOR * low.shape[0], FACTOR * low.shape[1], 3):
            yield case
            continue
        if degradation := next((one["degradation"] for one in done.values() if one.get("degradation")), None):
            low = degrade(low, **json.loads(degradation))
        case.low, case.truth = low, truth
        case.results = {method: resize(low, *truth.shape[:2], lanczos=method == "lanczos") for method in made}
        for method, one in done.items():
            result = _pixels(one) if one["status"] == "ok" else None
            if result is not None and result.shape == truth.shape:
                case.results[method] = result
        yield case


def find_cases(config: EvaluationConfig, split: str, scale: str, ids: list[str]) -> list[Case]:
    """The cases of the given ids, in the order of `ids`; arguments as in `read_cases`."""
    wanted = set(ids)
    found: dict[str, Case] = {}
    for path in shard_files(Path(config["inputs"]) / split):
        places = [place for place, row in enumerate(read_rows(path, ["id"])) if row["id"] in wanted]
        for place in places:
            for case in read_cases(config, split, scale, path.stem, place, place + 1):
                found[case.id] = case
    return [found[one] for one in ids if one in found]
