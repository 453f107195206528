"""Networks that metrics need: which are at hand, and why others are not."""

from collections.abc import Mapping
from typing import Final

from pipeline.core.errors import FacesrError, first_line
from pipeline.evaluate.cases import EvaluationConfig
from pipeline.evaluate.scorer import Scorer
from pipeline.pretrained import registry

NETWORKS: Final = ("inception", "alexnet", "vgg16", "embedding", "detector")
"""Networks that metrics use; each has a setting of its name."""

SLOW: Final = {"vgg16": "on a CPU VGG-16 takes 20 s and 2.5 GB for a 1024x1024 picture: use a GPU, or name its file"}
"""Networks that are used on a CPU only where their file is named, and why."""


def find_networks(named: Mapping[str, str | None], device: str) -> tuple[dict[str, str], dict[str, str]]:
    """The weights files at hand that can be loaded, and why others are not used, by network.

    Args:
        named: weights file that settings name, by network; null: looked for in the cache, but for SLOW ones on a CPU.
        device: torch device that they are to run on.

    Raises:
        WeightsError: a file that is named does not exist.
    """
    files = {name: registry.find_optional(name, named.get(name)) for name in NETWORKS}
    networks: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name, path in files.items():
        if path is None:
            known = registry.NETWORKS[name]
            how = f"fetch {name}" if known.url else f"add {known.file}"
            problems[name] = f"no {name} weights: `facesr weights {how}`"
        elif device == "cpu" and name in SLOW and not named.get(name):
            problems[name] = SLOW[name]
        else:
            try:
                Scorer(EvaluationConfig(methods=[], networks={name: str(path)}, device=device))
            except (FacesrError, RuntimeError) as error:  # RuntimeError: torch has no such device
                problems[name] = first_line(error)
            else:
                networks[name] = str(path)
    return networks, problems
