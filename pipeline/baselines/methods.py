"""Other methods through our own path: ZSSR, the supervised twin, other people's weights, finished results.

They leave shards as the upscale stage does, `{method}/{scale}/{stem}.parquet`, and `methods.json` beside them. Bicubic
and Lanczos need no shards: evaluation makes them itself (`pipeline.evaluate.cases`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pipeline.baselines.finished_results import load_results
from pipeline.baselines.spandrel_peer import load_peer
from pipeline.baselines.supervised_twin import NoOriginalsError, train_twin
from pipeline.baselines.zssr import zssr
from pipeline.baselines.zssr_training import ZssrConfig
from pipeline.core.degradation import reduce
from pipeline.core.errors import first_line
from pipeline.core.files import file_hash, write_json
from pipeline.core.images import ImageError, Pixels, decode, encode_png
from pipeline.core.scales import FACTOR, SIDE, UPSCALED_SCALES
from pipeline.core.schema import UPSCALED
from pipeline.core.shards import join_parts, read_columns, read_range, row_ranges, write_rows
from pipeline.params.baselines import Baselines
from pipeline.params.train import Train
from pipeline.params.upscale import Upscale
from pipeline.runtime.units import RowUnit, Statistics
from pipeline.upscale.allocator import keep_freed_memory
from pipeline.upscale.upscaler import Upscaler

ABOUT = {
    "zssr": "a network for each picture, trained on that picture alone (Shocher et al., CVPR 2018)",
    "twin": "our generator trained on originals: what supervision would bring",
    "weights": "other people's weights, loaded by spandrel",
    "results": "results made elsewhere",
}


@dataclass(frozen=True)
class Face:
    """A picture to enlarge: uint8 (h, w, 3)."""

    id: str
    name: str
    low: Pixels


Method = Callable[[Sequence[Face]], list[Pixels]]
"""Faces -> uint8 (4h, 4w, 3) each, in order."""


def build_method(described: Mapping[str, Any], scale: str) -> Method:
    """A method as `describe_methods` describes it, ready to enlarge at a scale.

    Raises:
        ModelError: its weights or its folder cannot be used.
        NoSpandrelError: its weights need the extra `peers`.
    """
    kind, options = described["kind"], described["options"]
    if kind == "zssr":
        return lambda faces: zssr([face.low for face in faces], [face.id for face in faces], ZssrConfig(**options))
    if kind == "twin":
        upscaler = Upscaler.load(Path(described["path"]), **options)
        return lambda faces: upscaler([face.low for face in faces])
    if kind == "weights":
        enlarge = load_peer(Path(described["path"]), **options)
        return lambda faces: [enlarge(face.low) for face in faces]
    result = load_results(Path(described["path"]), scale)
    return lambda faces: [result(face.name) for face in faces]


def describe_methods(
    settings: Baselines,
    train: Train,
    upscale: Upscale,
    faces: Path,
    manifest: Path,
    work: Path,
    should_stop: Callable[[], bool],
) -> dict[str, dict[str, Any]] | None:
    """What each method is, as plain values: `kind`, `about`, `options`, `path`, `model` (sha256 of weights, else "")
    and `reason`, why there are no results, else null. Trains the twin; everything else is cheap and checked first.

    Returns:
        By method's name; None if the twin's training was stopped before the end.

    Raises:
        ModelError, NoSpandrelError: as `build_method`.
    """
    common: dict[str, Any] = {"path": None, "model": "", "reason": None}
    described: dict[str, dict[str, Any]] = {}
    for kind, named in (("weights", settings.weights), ("results", settings.results)):
        for name, path in named.items():
            described[name] = {"kind": kind, "about": ABOUT[kind], "options": {}, **common, "path": path}
            # tried now, so that a wrong file is not found out after hours of training
            build_method(described[name], [scale for scale in UPSCALED_SCALES if _covers(Path(path), scale)][-1])
            if kind == "weights":
                described[name]["model"] = file_hash(Path(path))
    for name in settings.methods:
        described[name] = {"kind": name, "about": ABOUT[name], "options": {}, **common}
    if "zssr" in described:
        options = asdict(settings.zssr) | {"seed": settings.seed}
        described["zssr"]["options"] = {name: value for name, value in options.items() if name != "faces"}
    if "twin" in described:
        try:
            twin = train_twin(train, settings.twin, faces, manifest, work / "twin", should_stop)
        except NoOriginalsError as error:
            return described | {"twin": described["twin"] | {"reason": str(error)}}
        if twin is None:
            return None
        # enlarged as the fidelity generator is, so that only the training differs
        options = {name: getattr(upscale, name) for name in ("tile", "precision", "back_projection")}
        described["twin"] |= {"path": str(twin), "model": file_hash(twin), "options": options}
    return described


def plan_units(
    settings: Baselines, described: Mapping[str, dict[str, Any]], faces: Path, inputs: Path, work: Path
) -> Iterator[RowUnit]:
    """Work units of every method that has a way to results, split and scale, each with `part`, the file it leaves.

    256to1024 is left out for splits without originals: nothing could be measured there.
    """
    for split, (name, one), scale in product(settings.splits, described.items(), UPSCALED_SCALES):
        if one["reason"] is not None or (scale == UPSCALED_SCALES[1] and not _has_originals(faces, split)):
            continue
        if one["kind"] == "results" and not _covers(Path(one["path"]), scale):
            continue
        limits = settings.zssr.faces if name == "zssr" and settings.zssr.faces else settings.faces
        for stem, start, stop in row_ranges(inputs / split, "*.parquet", settings.unit, limits.get(split)):
            part = work / "parts" / name / scale / f"{stem}-{start:07d}.parquet"
            yield RowUnit(str(part), start, stop, stem, split, name, scale)


class BaselineWorker:
    """Columns in: FACES (256x256 inputs). Columns out: UPSCALED, one row per input, ok or failed.

    At 256to1024 the input itself is enlarged; at 64to256 the input reduced 4 times is, if it is 256x256.
    """

    def __init__(self, inputs: str, described: Mapping[str, dict[str, Any]]):
        keep_freed_memory()
        self.inputs, self.described = Path(inputs), described
        self.ready: dict[tuple[str, str], Method] = {}

    def __call__(self, unit: RowUnit) -> Statistics:
        """Write the unit's part."""
        path = self.inputs / unit.split / f"{unit.stem}.parquet"
        stored = list(read_range(path, unit.start, unit.stop))
        measured = [face for face in stored if unit.scale != "64to256" or face["width"] >= SIDE]
        rows = [self._row(unit, face) for face in measured]
        faces, places = [], []
        for place, (row, data) in enumerate(rows):
            try:
                low = decode(data)
            except ImageError as error:
                row["error"] = str(error)
                continue
            faces.append(Face(row["id"], row["name"], reduce(low) if unit.scale == "64to256" else low))
            places.append(place)
        for place, result in zip(places, self._results(unit, faces), strict=True):
            row = rows[place][0]
            if isinstance(result, str):
                row["error"] = result
                continue
            image = {"bytes": encode_png(result), "path": str(Path(row["name"]).with_suffix(".png"))}
            row |= {"image": image, "status": "ok", "width": result.shape[1], "height": result.shape[0]}
        write_rows(Path(unit.part), [row for row, _ in rows], UPSCALED)
        return {"images": len(stored), "failed": sum(row["status"] == "failed" for row, _ in rows)}

    def _row(self, unit: RowUnit, face: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        row = {
            "id": face["id"],
            "image": None,
            "name": face["name"],
            "split": unit.split,
            "scale": unit.scale,
            "method": unit.method,
            "status": "failed",
            "error": "",
            "width": 0,
            "height": 0,
            "model": self.described[unit.method]["model"],
        }
        return row, face["image"]["bytes"]

    def _results(self, unit: RowUnit, faces: list[Face]) -> list[Pixels | str]:
        """Results, or why there is none; when several fail together they are tried one by one."""
        key = unit.method, unit.scale
        if key not in self.ready:
            self.ready[key] = build_method(self.described[key[0]], key[1])
        try:
            results = self.ready[key](faces)
            for face, result in zip(faces, results, strict=True):
                if result.shape != (FACTOR * face.low.shape[0], FACTOR * face.low.shape[1], 3):
                    height, width = result.shape[:2]
                    raise ValueError(f"{face.name}: the result is {width}x{height}, not four times its input")
        except Exception as error:  # a stranger's network may raise anything; it is that picture's failure
            if len(faces) == 1:
                return [first_line(error)]
            return [result for face in faces for result in self._results(unit, [face])]
        return list(results)


def assemble(units: Sequence[RowUnit], described: Mapping[str, dict[str, Any]], work: Path) -> list[dict[str, Any]]:
    """Join the parts into `work/out`, with `methods.json`; returns the rows that failed."""
    for method, scale, stem in dict.fromkeys((unit.method, unit.scale, unit.stem) for unit in units):
        target = work / "out" / method / scale / f"{stem}.parquet"
        join_parts(work / "parts" / method / scale, f"{stem}-*.parquet", target, UPSCALED)
    told = {name: {key: one[key] for key in one if key != "path"} for name, one in described.items()}
    write_json(work / "out" / "methods.json", told)
    rows = read_columns(work / "out", ["method", "name", "status", "error"], "**/*.parquet")
    return [row for row in rows if row["status"] == "failed"]


def _has_originals(faces: Path, split: str) -> bool:
    sides = read_columns(faces, ["width", "height"], f"{split}-*.parquet")
    return any(row["width"] == row["height"] == FACTOR * SIDE for row in sides)


def _covers(folder: Path, scale: str) -> bool:
    """Whether a folder of results has this scale; without folders for scales it has 256to1024."""
    if any((folder / known).is_dir() for known in UPSCALED_SCALES):
        return (folder / scale).is_dir()
    return scale == UPSCALED_SCALES[1]
