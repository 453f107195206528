"""Results that other tools made, brought into the layout of the pipeline's own: pictures by name, or a network's.

A picture belongs to the face whose id is its name, or whose name it bears (whatever the suffix, and without the folder
where that is enough to tell). Its size tells the scale: four times the input, or the input's own. What was made of
degraded inputs lies in a folder with the name of their scale, such as `256to1024-jpeg75/`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pipeline.compare.name_match import MatchError, assign
from pipeline.core.chain import Chain
from pipeline.core.degradation import MEASURED_SCALES
from pipeline.core.files import shard_files
from pipeline.core.images import ImageError, Pixels, decode
from pipeline.core.png import large_png
from pipeline.core.scales import FACTOR, MEASURED_SPLITS, UPSCALED_SCALES, base_of, inputs_of
from pipeline.core.schema import UPSCALED, Row
from pipeline.core.shards import count_rows, read_rows, write_rows
from pipeline.evaluate.cases import EvaluationConfig, read_cases
from pipeline.sources.base import SourceError
from pipeline.sources.open import open_archive

_PIECE = 16


def _faces(config: EvaluationConfig) -> Iterator[tuple[Path, str, list[Row]]]:
    """(inputs shard, split, its rows without pictures)."""
    for split in MEASURED_SPLITS:
        for path in shard_files(Path(config.inputs) / split):
            yield path, split, list(read_rows(path, ["id", "name", "width", "height"]))


def _row(face: tuple[str, str], split: str, scale: str, method: str, data: bytes, size: tuple[int, int]) -> Row:
    return {
        "id": face[0],
        "name": face[1],
        "image": {"bytes": data, "path": str(PurePosixPath(face[1]).with_suffix(".png"))},
        "split": split,
        "scale": scale,
        "method": method,
        "status": "ok",
        "error": "",
        "height": size[0],
        "width": size[1],
        "model": "",
    }


def import_pictures(method: str, path: str, config: EvaluationConfig, target: Path) -> list[str]:
    """Write shards of what another tool made of the pipeline's inputs.

    Args:
        method: its name.
        path: folder or archive of pictures.
        config: where the inputs lie.
        target: folder for `{scale}/{stem}.parquet`; a compressed tar is unpacked beside them.

    Returns:
        Why pictures were not used, a line each.

    Raises:
        SourceError: `path` cannot be read.
        MatchError: none of its pictures belongs to a face.
    """
    source = open_archive(path, target / "scratch")
    entries = sorted(source.entries(), key=lambda entry: entry.name)
    listed = [(face["id"], face["name"]) for _, _, faces in _faces(config) for face in faces]
    belonging = _belonging(listed, [entry.name for entry in entries])
    problems: list[tuple[str, str]] = []
    used: set[str] = set()
    for shard, split, faces in _faces(config):
        rows: dict[str, list[Row]] = {scale: [] for scale in MEASURED_SCALES}
        for face in faces:
            side = (face["height"], face["width"])
            scales = dict(zip((side, (FACTOR * side[0], FACTOR * side[1])), UPSCALED_SCALES, strict=True))
            for entry in (entries[index] for index in belonging[face["id"], face["name"]]):
                used.add(entry.name)
                try:
                    data = source.read(entry.key)
                    height, width = decode(data).shape[:2]
                except (SourceError, ImageError) as error:
                    problems.append((entry.name, str(error)))
                    continue
                scale = scales.get((height, width))
                named = _named_scale(entry.name)
                if named and base_of(named) == scale:
                    scale = named
                if scale is None or (named and scale != named):
                    problems.append((entry.name, f"{width}x{height} is neither {side[1]} x {side[0]} nor 4 times that"))
                elif rows[scale] and rows[scale][-1]["id"] == face["id"]:
                    problems.append((entry.name, f"a second picture of {face['name']}, not used"))
                else:
                    rows[scale].append(_row((face["id"], face["name"]), split, scale, method, data, (height, width)))
        for scale, results in rows.items():
            if results:
                write_rows(target / scale / shard.name, results, UPSCALED)
    if not used:
        raise MatchError(f"{method}: no picture in {path} bears a face's id or name")
    problems += [(name, "no face of this id or name") for name in (entry.name for entry in entries) if name not in used]
    return [f"{method}: {name}: {why}" for name, why in problems]


def _named_scale(name: str) -> str | None:
    """The scale of degraded inputs that a folder in a picture's path names; None where none does."""
    folders = PurePosixPath(name).parts[:-1]
    return next((folder for folder in folders if folder in MEASURED_SCALES and inputs_of(folder)), None)


def _belonging(faces: Sequence[tuple[str, str]], names: Sequence[str]) -> dict[tuple[str, str], list[int]]:
    """Indices of the pictures that bear a face's id, or else its name; each scale's folder by itself."""
    found: dict[tuple[str, str], list[int]] = {face: [] for face in faces}
    scales = [_named_scale(name) for name in names]
    for scale in dict.fromkeys(scales):
        chosen = [index for index, own in enumerate(scales) if own == scale]
        inside = [names[index].replace(f"{scale}/", "", 1) for index in chosen]
        by_id, by_name = (assign(known, inside) for known in ([face[0] for face in faces], [face[1] for face in faces]))
        for face, ids, same in zip(faces, by_id, by_name, strict=True):
            found[face] += [chosen[index] for index in ids or same]
    return found


def enlarge_inputs(
    method: str, enlarge: Callable[[Pixels, Chain], Pixels], config: EvaluationConfig, target: Path
) -> None:
    """Write shards of what a function makes of the inputs that the pipeline's own first method is measured on.

    Args:
        method: its name.
        enlarge: uint8 (h, w, 3), and what it suffered where it is of a kind -> uint8 (4h, 4w, 3).
        config: where the inputs lie.
        target: folder for `{scale}/{stem}.parquet`.
    """
    own = replace(config, methods=[config.subject], references=(), baselines=())
    for path, split, faces in _faces(config):
        for scale in MEASURED_SCALES:
            results = config.shards(config.subject, scale) / path.name
            if not results.is_file() or not count_rows(results):
                continue

            def made(
                path: Path = path, split: str = split, scale: str = scale, count: int = len(faces)
            ) -> Iterator[Row]:
                # in pieces: results of a whole shard need not be in memory at once
                for start in range(0, count, _PIECE):
                    for case in read_cases(own, split, [scale], path.stem, start, min(start + _PIECE, count)):
                        if case.low is not None:
                            result = enlarge(case.low, case.chain)
                            size = result.shape[:2]
                            yield _row((case.id, case.name), split, scale, method, large_png(result), size)

            write_rows(target / scale / path.name, made(), UPSCALED)
