"""Evaluation config of the project's own data, results and models."""

import json
from pathlib import Path
from typing import Any, Final

from pipeline.core.files import content_hash
from pipeline.core.scales import METHODS
from pipeline.evaluate.cases import EvaluationConfig, Provenance
from pipeline.evaluate.networks import NETWORKS, find_networks
from pipeline.models.weights_file import read_metadata
from pipeline.runtime.stage import environment

FACES: Final = "data/faces"
INPUTS: Final = "data/inputs"
UPSCALED: Final = "data/upscaled"
BASELINES: Final = "data/baselines"
"""Of reference methods: `{method}/{scale}/`, as under UPSCALED, and `methods.json`: what they are, with the
`reason` of one that has no results."""
TRAINING: Final = "reports/train"


def describe(settings: Any) -> tuple[EvaluationConfig, Provenance]:
    """The evaluation's config, and the provenance of what it will measure.

    Args:
        settings: `params.Evaluate`.

    Raises:
        WeightsError: a weights file that settings name does not exist.
        ModelError: a generator's file cannot be read.
    """
    networks, problems = find_networks({name: getattr(settings, name) for name in NETWORKS}, settings.device)
    models = {name: read_metadata(Path("models") / f"{name}.safetensors") for name in METHODS.values()}
    references = sorted(path.name for path in Path(BASELINES).glob("*") if path.is_dir())
    described = Path(BASELINES) / "methods.json"
    others = json.loads(described.read_text()) if described.is_file() else {}
    config = EvaluationConfig(
        methods=list(METHODS),
        faces=FACES,
        inputs=INPUTS,
        upscaled=UPSCALED,
        references=references,
        folders={name: f"{BASELINES}/{name}" for name in references},
        networks=networks,
        problems=problems,
        device=settings.device,
        sheet_faces=settings.sheet_faces,
        synthetic=json.loads(Path("data/ingest.json").read_text())["synthetic"],
        random_vgg=any(metadata["provenance"]["vgg19"] == "random" for metadata in models.values()),
        training=TRAINING,
        unmatched=[f"{name}: {method['reason']}" for name, method in others.items() if method.get("reason")],
    )
    generators = {f"{name} sha256": metadata["sha256"] for name, metadata in models.items()}
    for name, metadata in models.items():
        generators |= {f"{name} {key}": value for key, value in metadata["provenance"].items()}
    folders = [FACES, INPUTS, UPSCALED, *([BASELINES] if references else [])]
    return config, {
        **({"other methods": others} if others else {}),
        "data, sha256": {folder: content_hash(Path(folder)) for folder in folders},
        "generators": generators,
        "environment": environment(),
    }
