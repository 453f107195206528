"""Evaluate the pipeline's own data, with any results of other tools beside it: what stage and command share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pipeline import weights
from pipeline.aggregate import Summary
from pipeline.cases import EvaluationConfig
from pipeline.evaluation import EvaluationWorker, finish, plan_units
from pipeline.judges import usable
from pipeline.units import do_units

NETWORKS: Final = ("inception", "alexnet", "vgg16", "embedding", "detector")
"""Networks that metrics use; each has a setting of its name."""

SLOW: Final = {"vgg16": "on a CPU VGG-16 takes 20 s and 2.5 GB for a 1024x1024 picture: use a GPU, or name its file"}
"""Networks that are used on a CPU only where their file is named, and why."""


def find_networks(named: Mapping[str, str | None], device: str) -> tuple[dict[str, str | None], dict[str, str]]:
    """The networks at hand, and why others are not; see `judges.usable`.

    Args:
        named: weights file that settings name, by network; null: looked for in the cache, but for SLOW ones on a CPU.
        device: torch device that they are to run on.

    Raises:
        WeightsError: a file that is named does not exist.
    """
    found = {name: weights.find_optional(name, named.get(name)) for name in NETWORKS}
    slow = {name: why for name, why in SLOW.items() if device == "cpu" and found[name] and not named.get(name)}
    good, problems = usable({name: str(path) for name, path in found.items() if path and name not in slow}, device)
    missing = {
        name: f"no {name} weights: `facesr weights {'fetch' if weights.NETWORKS[name].url else 'add'} "
        f"{name if weights.NETWORKS[name].url else weights.NETWORKS[name].file}`"
        for name, path in found.items()
        if path is None
    }
    return good, problems | slow | missing


def assess(config: EvaluationConfig, settings: Any, work: Path, reports: Path, provenance: dict[str, Any]) -> Summary:
    """Measure what `config` names with settings as `params.Evaluate` has them, and write the reports.

    Args:
        config: what to measure.
        settings: `unit`, `workers`, `cpus_per_worker`, `address`.
        work: folder for parts, of this very work.
        reports: folder to write to.
        provenance: see `evaluation.finish`.
    """
    do_units(
        "evaluate",
        EvaluationWorker,
        (config,),
        plan_units(config, work, settings.unit),
        images=lambda unit: unit["stop"] - unit["start"],
        workers=settings.workers,
        cpus_per_worker=settings.cpus_per_worker,
        gpus_per_worker=None if settings.device == "cuda" else 0,
        address=settings.address,
    )
    networks = {name: Path(path).name for name, path in config.get("networks", {}).items() if path}
    return finish(work, config, reports, provenance | {"networks of metrics": networks})
