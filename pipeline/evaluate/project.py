"""Where the pipeline's own data, results and models lie, as the evaluation wants to be told."""

import json
from pathlib import Path
from typing import Any, Final

from pipeline.core.files import content_hash
from pipeline.core.scales import METHODS
from pipeline.evaluate.cases import EvaluationConfig
from pipeline.evaluate.networks import NETWORKS, find_networks
from pipeline.models.checkpoint import load_generator
from pipeline.runtime.stage import environment

FACES: Final = "data/faces"
INPUTS: Final = "data/inputs"
UPSCALED: Final = "data/upscaled"
BASELINES: Final = "data/baselines"
"""Of methods to compare with: `{method}/{scale}/`, as under UPSCALED, and `methods.json`: what they are, with the
`reason` of one that has no results."""
TRAINING: Final = "reports/train"


def describe(settings: Any) -> tuple[EvaluationConfig, dict[str, dict[str, Any]]]:
    """The evaluation's config, and the provenance of what it will measure.

    Args:
        settings: `params.Evaluate`.

    Raises:
        WeightsError: a weights file that settings name does not exist.
        ModelError: a generator cannot be read.
    """
    networks, problems = find_networks({name: getattr(settings, name) for name in NETWORKS}, settings.device)
    models = {name: load_generator(Path("models") / f"{name}.safetensors")[1] for name in METHODS.values()}
    peers = sorted(path.name for path in Path(BASELINES).glob("*") if path.is_dir())
    told = Path(BASELINES) / "methods.json"
    others = json.loads(told.read_text()) if told.is_file() else {}
    config: EvaluationConfig = {
        "faces": FACES,
        "inputs": INPUTS,
        "upscaled": UPSCALED,
        "methods": list(METHODS),
        "peers": peers,
        "folders": {peer: f"{BASELINES}/{peer}" for peer in peers},
        "networks": networks,
        "problems": problems,
        "device": settings.device,
        "sheet_faces": settings.sheet_faces,
        "synthetic": json.loads(Path("data/ingest.json").read_text())["synthetic"],
        "random_vgg": any(facts["provenance"]["vgg19"] == "random" for facts in models.values()),
        "training": TRAINING,
        "unmatched": [f"{name}: {one['reason']}" for name, one in others.items() if one.get("reason")],
    }
    places = [FACES, INPUTS, UPSCALED, *([BASELINES] if peers else [])]
    data = {folder: content_hash(Path(folder)) for folder in places}
    trained = {f"{name} {key}": value for name, facts in models.items() for key, value in facts["provenance"].items()}
    hashes = {f"{name} sha256": facts["sha256"] for name, facts in models.items()}
    facts = {"other methods": others} if others else {}
    return config, facts | {"data, sha256": data, "generators": hashes | trained, "environment": environment()}
