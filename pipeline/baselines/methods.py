"""Other methods through our own path: ZSSR, the supervised twin, other people's weights, finished results.

They leave shards as the upscale stage does, `{method}/{scale}/{stem}.parquet`, and `methods.json` beside them. Bicubic
and Lanczos need no shards: evaluation makes them itself (`pipeline.evaluate.cases`). What a method computes with is
imported when it is asked for: with none of them the stage does not wait for torch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

from pipeline.baselines.finished_results import ResultError, load_results
from pipeline.baselines.originals import NoOriginalsError, originals
from pipeline.core.degradation import MEASURED_SCALES
from pipeline.core.errors import first_line
from pipeline.core.files import file_hash, write_json
from pipeline.core.images import Pixels
from pipeline.core.scales import FACTOR, UPSCALED_SCALES, base_of, inputs_of
from pipeline.params.baselines import Baselines
from pipeline.params.train import Train
from pipeline.params.upscale import Upscale
from pipeline.runtime.units import RowUnit
from pipeline.upscale.measured_inputs import Face, MeasuredInputs, enlarge_degraded
from pipeline.upscale.stage import ShardUpscaler, plan_units

Method = Callable[[Sequence[Face]], list[Pixels]]
"""Faces -> uint8 (4h, 4w, 3) each, in order."""


@dataclass(frozen=True)
class MethodDescription:
    """What a method is, as plain values."""

    kind: str
    """Key of `KINDS`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of what the kind builds."""
    path: str | None = None
    """Its weights, or its folder of results."""
    model: str = ""
    """sha256 of its weights; empty where it has none."""
    reason: str | None = None
    """Why it has no results; None where it has."""


Descriptions = Mapping[str, MethodDescription]
"""By method's name."""


def _zssr(description: MethodDescription, scale: str) -> Method:
    from pipeline.baselines.zssr import zssr
    from pipeline.baselines.zssr_training import ZssrConfig

    config = ZssrConfig(**description.options)
    return lambda faces: zssr([face.low for face in faces], [face.row["id"] for face in faces], config)


def _twin(description: MethodDescription, scale: str) -> Method:
    from pipeline.upscale.upscaler import Upscaler

    upscaler = Upscaler.load(description.path, **description.options)
    return _each(upscaler) if inputs_of(scale) else lambda faces: upscaler([face.low for face in faces])


def _weights(description: MethodDescription, scale: str) -> Method:
    from pipeline.baselines.spandrel_network import load_network

    return _each(load_network(Path(str(description.path))))


def _each(enlarge: Callable[[Pixels], Pixels]) -> Method:
    return lambda faces: [enlarge_degraded(enlarge, face.low, face.chain, face.file) for face in faces]


def _results(description: MethodDescription, scale: str) -> Method:
    result = load_results(Path(str(description.path)), scale)
    return lambda faces: [result(face.row["name"]) for face in faces]


KINDS: Final = {
    "zssr": ("a network for each picture, trained on that picture alone (Shocher et al., CVPR 2018)", _zssr),
    "twin": ("our generator trained on originals: what supervision would bring", _twin),
    "weights": ("other people's weights, loaded by spandrel", _weights),
    "results": ("results made elsewhere", _results),
}
"""Kind of method -> what it is, for the report, and what makes one ready of its description and a scale."""


def build_method(description: MethodDescription, scale: str) -> Method:
    """Make a method ready to enlarge at a scale.

    Raises:
        ModelError: its weights or its folder cannot be used.
        NoSpandrelError: its weights need the extra `peers`.
    """
    _, build = KINDS[description.kind]
    return build(description, scale)


def describe_methods(
    settings: Baselines,
    train: Train,
    upscale: Upscale,
    faces: Path,
    manifest: Path,
    work: Path,
    should_stop: Callable[[], bool],
) -> Descriptions | None:
    """Describe every method of the settings; train the twin. Everything else is cheap and checked first.

    Returns:
        None if the twin's training was stopped before the end.

    Raises:
        ModelError, NoSpandrelError: as `build_method`.
        OutOfMemoryError: in the twin's training.
    """
    descriptions: dict[str, MethodDescription] = {}
    for kind, named in (("weights", settings.weights), ("results", settings.results)):
        for name, path in named.items():
            method = MethodDescription(kind, path=path)
            # tried now, so that a wrong file is not found out after hours of training
            build_method(method, [scale for scale in MEASURED_SCALES if _covers(Path(path), scale)][-1])
            descriptions[name] = replace(method, model=file_hash(Path(path))) if kind == "weights" else method
    options = {key: value for key, value in asdict(settings.zssr).items() if key != "faces"} | {"seed": settings.seed}
    descriptions |= {name: MethodDescription(name, options if name == "zssr" else {}) for name in settings.methods}
    if "twin" in descriptions:
        from pipeline.baselines.supervised_twin import train_twin

        try:
            twin = train_twin(train, settings.twin, faces, manifest, work / "twin", should_stop)
        except NoOriginalsError as error:
            return descriptions | {"twin": replace(descriptions["twin"], reason=str(error))}
        if twin is None:
            return None
        # enlarged as the fidelity generator is, so that only the training differs
        options = {name: getattr(upscale, name) for name in ("tile", "precision", "back_projection")}
        descriptions["twin"] = MethodDescription("twin", options, str(twin), file_hash(twin))
    return descriptions


def plan_baselines(
    settings: Baselines, upscale: Upscale, descriptions: Descriptions, faces: Path, inputs: Path, work: Path
) -> Iterator[RowUnit]:
    """Plan the units of every split, every method that has a way to results, and every scale.

    256to1024 is left out for splits without originals: nothing could be measured there. Degraded inputs of the kinds
    that `upscale` names are enlarged by all but ZSSR, to which each costs a training.
    """
    kinds = upscale.kind_limits()
    for split, (name, method), scale in product(settings.splits, descriptions.items(), (*UPSCALED_SCALES, *kinds)):
        if method.reason is not None or (base_of(scale) == UPSCALED_SCALES[1] and not any(originals(faces, split))):
            continue
        if method.kind == "results" and not _covers(Path(str(method.path)), scale):
            continue
        if method.kind == "zssr" and scale in kinds:
            continue
        limits = settings.zssr.faces if name == "zssr" and settings.zssr.faces else settings.faces
        limit = min(
            (most for most in (limits.get(split), kinds.get(scale, {}).get(split)) if most is not None), default=None
        )
        yield from plan_units(work, inputs, split, name, scale, settings.unit, limit)


class BaselineWorker(ShardUpscaler):
    """Enlarges the faces of a unit together by one of the methods."""

    def __init__(self, inputs: MeasuredInputs, descriptions: Descriptions):
        super().__init__(inputs)
        self.descriptions = descriptions
        self.ready: dict[tuple[str, str], Method] = {}

    def model(self, unit: RowUnit) -> str:
        """Sha256 of the method's weights."""
        return self.descriptions[unit.method].model

    def enlarge(self, unit: RowUnit, faces: Sequence[Face]) -> list[Pixels | str]:
        """Results, or why there is none; when several fail together they are tried one by one."""
        key = unit.method, unit.scale
        if key not in self.ready:
            # one at a time: there may be many scales, each with a network of its own
            self.ready = {key: build_method(self.descriptions[unit.method], unit.scale)}
        try:
            results = self.ready[key](faces)
            for face, result in zip(faces, results, strict=True):
                height, width = result.shape[:2]
                if result.shape != (FACTOR * face.low.shape[0], FACTOR * face.low.shape[1], 3):
                    raise ResultError(f"{face.row['name']}: the result is {width}x{height}, not four times its input")
        except Exception as error:  # a stranger's network may raise anything; it is that image's failure
            if len(faces) == 1:
                return [first_line(error)]
            return [result for face in faces for result in self.enlarge(unit, [face])]
        return list(results)


def write_methods(folder: Path, descriptions: Descriptions) -> None:
    """Write `methods.json`: what each method is, without the paths of this machine."""
    values = {
        name: {"about": KINDS[method.kind][0]} | {key: value for key, value in asdict(method).items() if key != "path"}
        for name, method in descriptions.items()
    }
    write_json(folder / "methods.json", values)


def _covers(folder: Path, scale: str) -> bool:
    """True if a folder of results has this scale; without folders for scales it has 256to1024."""
    if any((folder / known).is_dir() for known in MEASURED_SCALES):
        return (folder / scale).is_dir()
    return scale == UPSCALED_SCALES[1]
