"""Results that other tools made, brought into the layout of the pipeline's own: pictures by name, or a network's.

A picture belongs to the face whose id is its name, or whose name it bears (whatever the suffix, and without the folder
where that is enough to tell). Its size tells the scale: four times the input, or the input's own.
"""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.compare.name_match import NameIndex, file_of, unique_files
from pipeline.core.degradation import reduce
from pipeline.core.files import shard_files
from pipeline.core.images import ImageError, Pixels, decode, encode_png
from pipeline.core.scales import FACTOR, MEASURED_SCALES
from pipeline.core.schema import UPSCALED
from pipeline.core.shards import count_rows, read_rows, write_rows
from pipeline.evaluate.cases import EvaluationConfig, shards_of
from pipeline.sources.base import SourceError
from pipeline.sources.open import open_archive

Row = dict[str, Any]


def _faces(config: EvaluationConfig) -> Iterator[tuple[Path, str, list[Row]]]:
    """(inputs shard, split, its rows without pictures)."""
    for split in ("train", "test"):
        for path in shard_files(Path(config["inputs"]) / split):
            yield path, split, list(read_rows(path, ["id", "name", "width", "height"]))


def _row(face: Row, split: str, scale: str, method: str, data: bytes, size: tuple[int, int]) -> Row:
    return {
        **{key: face[key] for key in ("id", "name")},
        "image": {"bytes": data, "path": str(PurePosixPath(face["name"]).with_suffix(".png"))},
        "split": split,
        "scale": scale,
        "method": method,
        "status": "ok",
        "error": "",
        "height": size[0],
        "width": size[1],
        "model": "",
    }


def import_pictures(method: str, place: str, config: EvaluationConfig, target: Path) -> list[str]:
    """Write shards of what another tool made of the pipeline's inputs.

    Args:
        method: its name.
        place: folder or archive of pictures.
        config: where the inputs lie.
        target: folder for `{scale}/{stem}.parquet`; a compressed tar is unpacked beside them.

    Returns:
        Why pictures were not used, a line each.

    Raises:
        SourceError: `place` cannot be read.
        ValueError: none of its pictures belongs to a face.
    """
    source = open_archive(place, target / "scratch")
    entries = NameIndex((entry.name, entry) for entry in source.entries())
    alone = unique_files(face["name"] for _, _, faces in _faces(config) for face in faces)
    problems: list[str] = []
    used: set[str] = set()
    for path, split, faces in _faces(config):
        found: dict[str, list[Row]] = {scale: [] for scale in MEASURED_SCALES[:2]}
        for face in faces:
            by_name = file_of(face["name"]) in alone
            for entry in entries.find(face["id"], True) or entries.find(face["name"], by_name):
                used.add(entry.name)
                try:
                    data = source.read(entry.key)
                    height, width = decode(data).shape[:2]
                except (SourceError, ImageError) as error:
                    problems.append(f"{method}: {entry.name}: {error}")
                    continue
                sides = {
                    (face["height"], face["width"]): MEASURED_SCALES[0],
                    (FACTOR * face["height"], FACTOR * face["width"]): MEASURED_SCALES[1],
                }
                scale = sides.get((height, width))
                if scale is None:
                    small = " x ".join(map(str, (face["width"], face["height"])))
                    problems.append(f"{method}: {entry.name}: {width}x{height} is neither {small} nor 4 times that")
                    continue
                if any(row["id"] == face["id"] for row in found[scale][-1:]):
                    problems.append(f"{method}: {entry.name}: a second picture of {face['name']}, not used")
                    continue
                found[scale].append(_row(face, split, scale, method, data, (height, width)))
        for scale, rows in found.items():
            if rows:
                write_rows(target / scale / path.name, rows, UPSCALED)
    if not used:
        raise ValueError(f"{method}: no picture in {place} bears a face's id or name")
    return problems + [f"{method}: {name}: no face of this id or name" for name in entries.names() if name not in used]


def enlarge_inputs(method: str, enlarge: Callable[[Pixels], Pixels], config: EvaluationConfig, target: Path) -> None:
    """Write shards of what a function makes of the inputs that the pipeline's own first method enlarged.

    Args:
        method: its name.
        enlarge: uint8 (h, w, 3) -> uint8 (4h, 4w, 3).
        config: where the inputs lie.
        target: folder for `{scale}/{stem}.parquet`.
    """
    for path, split, _ in _faces(config):
        for scale in MEASURED_SCALES[:2]:
            own = shards_of(config, config["methods"][0], scale) / path.name
            if not own.is_file() or not count_rows(own):
                continue
            ids = {row["id"] for row in read_rows(own, ["id"])}

            def made(path: Path = path, split: str = split, scale: str = scale, ids: set[str] = ids) -> Iterator[Row]:
                for face in read_rows(path):
                    if face["id"] in ids:
                        low = decode(face["image"]["bytes"])
                        result = enlarge(reduce(low) if scale == MEASURED_SCALES[0] else low)
                        yield _row(face, split, scale, method, encode_png(result), result.shape[:2])

            write_rows(target / scale / path.name, made(), UPSCALED)
