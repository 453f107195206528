"""What is known of a model: config, provenance, metrics, licence, use. From its file, and from where it lies."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import FacesrError
from pipeline.core.scales import METHODS
from pipeline.models.checkpoint import load_generator
from pipeline.models.networks import Generator
from pipeline.upscale.generators import load
from pipeline.upscale.weights import PHASES, released

CARD = "card.json"
"""Beside released weights: what their files do not say."""
USE = "enlarging portraits of about 256x256 four times, for viewing and for research"
MISUSE = (
    "What is restored is invented: plausible, not true. Never use a result to identify or to judge a person; it is no "
    "evidence."
)
UNKNOWN = "not recorded"
METRICS = ("psnr", "ssim", "ms_ssim", "consistency", "identity", "lpips", "dists")
"""What a card shows where it is known."""

Figures = dict[str, dict[str, float]]
"""Method -> metric -> value."""


@dataclass(frozen=True)
class Model:
    """All that is known of one model."""

    name: str
    file: str
    phase: str
    """fidelity, realism …"""
    format: str
    sha256: str
    bytes: int
    parameters: int | None
    config: dict[str, Any]
    provenance: dict[str, Any]
    licence: str
    licence_note: str
    trained_on: str
    hardware: str
    date: str
    intended_use: str
    misuse: str
    limits: str
    metrics_on: str
    metrics: Figures


def describe(name: str, path: Path, project: Path = Path()) -> Model:
    """Describe a weights file.

    Args:
        name: what it is called.
        path: of the file.
        project: root of the checkout whose reports may tell of it.

    Raises:
        ModelError: the file cannot be used.
    """
    generator, said = load(path)
    provenance = said["provenance"]
    phase = str(provenance.get("phase", path.stem))
    known = _beside(path, said["sha256"]) or _of_checkout(path, project, phase) or {}
    parameters = sum(value.numel() for value in generator.parameters()) if isinstance(generator, Generator) else None
    figures = known.get("metrics") or _of_adapting(provenance)
    return Model(
        name=name,
        file=path.name,
        phase=phase,
        format="onnx" if parameters is None else "safetensors",
        sha256=said["sha256"],
        bytes=path.stat().st_size,
        parameters=parameters,
        config=said["config"],
        provenance=provenance,
        licence=known.get("licence", "other"),
        licence_note=known.get("licence_note", "as the terms of the training data say, which are not recorded"),
        trained_on=known.get("trained_on", UNKNOWN),
        hardware=known.get("hardware", UNKNOWN),
        date=known.get("date", UNKNOWN),
        intended_use=known.get("intended_use", USE),
        misuse=MISUSE,
        limits=known.get("limits", UNKNOWN),
        metrics_on=known.get("metrics_on", "held-back faces of the adaptation" if figures else ""),
        metrics={method: _shown(values) for method, values in figures.items()},
    )


def _shown(values: dict[str, Any]) -> dict[str, float]:
    return {name: values[name] for name in METRICS if values.get(name) is not None}


def _beside(path: Path, digest: str) -> dict[str, Any] | None:
    """What `card.json` says of released weights, or of a published copy; of others with the same name nothing."""
    folders = [path.parent, *released().values()]
    for file in (folder / CARD for folder in folders):
        known = _json(file)
        if isinstance(known, dict) and digest in known.get("sha256", {}).values():
            return known
    return None


def _of_checkout(path: Path, project: Path, phase: str) -> dict[str, Any] | None:
    """What the reports of a checkout say of a generator that `dvc repro` trained and measured there."""
    measured = _json(project / "reports/metrics.json")
    ingested = _json(project / "data/ingest.json")
    if path.resolve().parent != (project / "models").resolve() or not isinstance(ingested, dict):
        return None
    drawn = bool(ingested.get("synthetic"))
    splits = ingested.get("splits", {})
    known: dict[str, Any] = {
        "licence": "apache-2.0" if drawn else "other",
        "trained_on": f"{splits.get('train', 0)} faces of {', '.join(map(str, ingested.get('sources', [])))}",
        "limits": "Trained on drawn faces alone: photographs fare worse." if drawn else UNKNOWN,
    }
    if drawn:
        known["licence_note"] = "trained on drawn faces, which show nobody"
    scale = "256to1024"
    methods = measured.get("test", {}).get(scale, {}) if isinstance(measured, dict) else {}
    own = next((method for method, generator in METHODS.items() if generator == phase), "")
    if own in methods:
        known["metrics"] = {name: methods[name] for name in ("bicubic", own) if name in methods}
        known["metrics_on"] = f"256 to 1024, {methods[own].get('count')} test faces, clean inputs"
    return known


def _of_adapting(provenance: dict[str, Any]) -> Figures:
    """Figures that `facesr adapt` wrote into the file, of its largest scale."""
    scales = provenance.get("scales")
    if not isinstance(scales, dict) or not scales:
        return {}
    largest = list(scales.values())[-1]
    return {name: largest[name] for name in ("bicubic", "before", "after") if isinstance(largest.get(name), dict)}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def partners(path: Path) -> list[Path]:
    """A pair's files in the order fidelity, realism, and what there is for sharp pictures, where `path` is one of them;
    else `path` alone.
    """
    *pair, sharp = (path.with_name(f"{name}{path.suffix}") for name in PHASES)
    if path not in (*pair, sharp) or not all(file.is_file() for file in pair):
        return [path]
    try:
        alike = len({load_generator(file)[0].config for file in pair}) == 1
    except FacesrError:
        return [path]
    return [*pair, *[sharp] * sharp.is_file()] if alike else [path]
