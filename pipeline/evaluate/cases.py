"""Read the pictures that belong together: a true face, its low-resolution input, and what each method made of it.

They lie in three folders of shards with the same stems, and are joined by id:
`faces/{stem}.parquet`, `inputs/{split}/{stem}.parquet`, `upscaled/{method}/{scale}/{stem}.parquet`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.chain import Chain
from pipeline.core.degradation import degraded, reduce
from pipeline.core.files import shard_files
from pipeline.core.images import MAX_PIXELS, ImageError, Pixels, decode, resize
from pipeline.core.png import large_png_pixels
from pipeline.core.scales import BASELINE, BASELINES, FACTOR, MEASURED_SPLITS, UPSCALED_SCALES, base_of
from pipeline.core.schema import Row
from pipeline.core.shards import count_rows, read_range, read_rows

Provenance = dict[str, Any]
"""Sections for the end of the report: heading -> values by name, or a text."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What the evaluation reads and shows."""

    methods: Sequence[str]
    """Names of the networks' results, in the order shown; the first one is the subject of the report's summary."""
    faces: str = ""
    """Folder of the originals' shards."""
    inputs: str = ""
    """Folder with a folder of 256x256 input shards per split."""
    upscaled: str = ""
    """Folder with `{method}/{scale}/` folders of shards."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """Folder of a method's results, where it is not `{upscaled}/{method}`."""
    references: Sequence[str] = ()
    """Reference methods, which may cover fewer faces than the others."""
    baselines: Sequence[str] = BASELINES
    """Which of BASELINES are computed where they are measured."""
    baseline: str = BASELINE
    """What gains are measured against; "" for nothing."""
    networks: Mapping[str, str] = field(default_factory=dict)
    """Weights file by name of `networks.NETWORKS`; a metric whose network is missing is null."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Why a network is missing, by its name."""
    device: str = "cpu"
    """Torch device of the networks: cpu or cuda."""
    training: str | None = None
    """Folder with dvclive's records of each training, for its curves."""
    unmatched: Sequence[str] = ()
    """What could not be compared and why: the report names it."""
    sheet_faces: int = 4
    """Faces on each comparison sheet."""
    synthetic: bool = False
    """The faces are drawn, not photographed: the report warns."""
    random_vgg: bool = False
    """The perceptual loss had random VGG weights: the report warns."""

    @property
    def subject(self) -> str:
        """The method that the report is about."""
        return self.methods[0]

    @property
    def all_methods(self) -> list[str]:
        """Every method in the order measured: baselines, networks, reference methods."""
        return [*self.baselines, *self.methods, *self.references]

    def shards(self, method: str, scale: str) -> Path:
        """Folder of a method's shards."""
        return Path(self.folders.get(method, Path(self.upscaled) / method)) / scale


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
    chain: Chain = field(default_factory=Chain)
    """What an input of a kind suffered."""
    scale: str = ""
    """Of MEASURED_SCALES."""


def count_enlarged(config: EvaluationConfig, split: str, scale: str) -> int:
    """Faces of a split that were to be enlarged at a scale: rows of the method that has most."""
    folders = [config.shards(method, scale) for method in config.methods]
    return max(sum(map(count_rows, shard_files(folder, f"{split}-*.parquet"))) for folder in folders)


def faces_until_last_enlarged(config: EvaluationConfig, split: str, scale: str) -> int:
    """Among how many first inputs of a split are all that were to be enlarged at a scale.

    Not every one of these need be: small ones have no row at 64to256, those without an original none as a thumbnail of
    it.
    """
    before = last = 0
    for path in shard_files(Path(config.inputs) / split, f"{split}-*.parquet"):
        folders = (config.shards(method, scale) for method in config.methods)
        done = [folder / path.name for folder in folders if (folder / path.name).is_file()]
        places = [_indices(path, {row["id"] for row in read_rows(results, ["id"])})[-1:] for results in done]
        last = max([last, *(before + place + 1 for (place,) in filter(None, places))])
        before += count_rows(path)
    return last


def count_small(config: EvaluationConfig) -> dict[str, int]:
    """Enlarged faces by split that are under 256x256, where there are any: the upscale stage gives them no 64to256."""
    if not config.upscaled:
        return {}
    counts = {split: [count_enlarged(config, split, scale) for scale in UPSCALED_SCALES] for split in MEASURED_SPLITS}
    return {split: large - small for split, (small, large) in counts.items() if large > small}


def _indices(path: Path, wanted: set[str]) -> list[int]:
    """Rows of a shard whose id is wanted."""
    return [index for index, row in enumerate(read_rows(path, ["id"])) if row["id"] in wanted]


def _by_id(path: Path, wanted: set[str]) -> dict[str, Row]:
    """Rows of a shard whose id is wanted; none where there is no such shard. Reads pictures of their stretch only."""
    indices = _indices(path, wanted) if path.is_file() else []
    rows = read_range(path, indices[0], indices[-1] + 1) if indices else iter(())
    return {row["id"]: row for row in rows if row["id"] in wanted}


def _pixels(row: Row) -> Pixels | None:
    """The decoded picture of a row; None where there is none, or a damaged one."""
    data = (row["image"] or {}).get("bytes") or b""
    # nearly every result is one, and reading them is a tenth of an evaluation
    pixels = large_png_pixels(data, MAX_PIXELS)
    try:
        return decode(data) if pixels is None else pixels
    except ImageError:
        return None


def read_cases(
    config: EvaluationConfig, split: str, scales: Sequence[str], stem: str, start: int, stop: int
) -> Iterator[Case]:
    """Stream the cases of rows `start` to `stop` of an inputs shard, in row order, and of a face in that of `scales`.

    At 64to256 the 256 input is the truth and its reduction the input. At 256to1024 the face itself is the truth where
    it is four times its input. At a degraded scale the input is degraded as the results' rows say. A face without
    such an original yields no case, nor does one at a scale at which no network has a row of it. Cases of one face have
    the same array as their truth.

    Args:
        config: where the shards are, and which methods to read.
        split: train or test.
        scales: of MEASURED_SCALES, of one base.
        stem: the shard's file name without suffix.
        start: first row of the inputs shard.
        stop: row after the last.
    """
    columns = ["id", "name", "image", "width", "height"]
    inputs = list(read_range(Path(config.inputs) / split / f"{stem}.parquet", start, stop, columns))
    wanted = {row["id"] for row in inputs}
    upscaled = {
        scale: {
            method: _by_id(config.shards(method, scale) / f"{stem}.parquet", wanted)
            for method in (*config.methods, *config.references)
        }
        for scale in scales
    }
    large = base_of(scales[0]) == UPSCALED_SCALES[1]
    originals = _by_id(Path(config.faces) / f"{stem}.parquet", wanted) if large else {}
    for row in inputs:
        done = {
            scale: {method: rows[row["id"]] for method, rows in methods.items() if row["id"] in rows}
            for scale, methods in upscaled.items()
        }
        # of those that were to be enlarged
        done = {scale: rows for scale, rows in done.items() if any(method in rows for method in config.methods)}
        original = originals.get(row["id"]) if large else row
        sides = tuple(FACTOR * row[side] if large else row[side] for side in ("height", "width"))
        if not done or original is None or (original["height"], original["width"]) != sides:
            continue
        truth = _pixels(original)
        low = _pixels(row) if large else None if truth is None else reduce(truth)
        for scale, rows in done.items():
            yield _case(config, scale, row, low, truth, rows)


def _case(
    config: EvaluationConfig, scale: str, row: Row, low: Pixels | None, truth: Pixels | None, done: Mapping[str, Row]
) -> Case:
    """The case of a face at a scale: `low` as it is stored, `done` the methods' rows."""
    case = Case(row["id"], row["name"], scale=scale)
    if low is None or truth is None or truth.shape != (FACTOR * low.shape[0], FACTOR * low.shape[1], 3):
        return case
    if degradation := next(filter(None, (result.get("degradation") for result in done.values())), None):
        description = json.loads(degradation)
        low = degraded(low, description, truth)
        case.chain = Chain(**description.get("chain", {}))
    case.low, case.truth = low, truth
    case.results = enlarge(low, config.baselines)
    for method, upscaled_row in done.items():
        result = _pixels(upscaled_row) if upscaled_row["status"] == "ok" else None
        if result is not None and result.shape == truth.shape:
            case.results[method] = result
    return case


def enlarge(low: Pixels, baselines: Sequence[str]) -> dict[str, Pixels]:
    """What the baselines, of BASELINES, make of an input."""
    height, width = FACTOR * low.shape[0], FACTOR * low.shape[1]
    return {method: resize(low, height, width, lanczos=method == "lanczos") for method in baselines}


def find_cases(config: EvaluationConfig, split: str, scale: str, ids: Sequence[str]) -> list[Case]:
    """The cases of the given ids, in the order of `ids`; arguments as in `read_cases`."""
    places = [
        (path.stem, index) for path in shard_files(Path(config.inputs) / split) for index in _indices(path, set(ids))
    ]
    # most of it is decoding and resizing, which need no interpreter
    with ThreadPoolExecutor(4) as pool:
        read = [pool.submit(list, read_cases(config, split, [scale], stem, row, row + 1)) for stem, row in places]
        found = {case.id: case for cases in read for case in cases.result()}
    return [found[face_id] for face_id in ids if face_id in found]
