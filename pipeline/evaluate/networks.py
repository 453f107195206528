"""Networks that metrics need: which are at hand, and why others are not."""

from collections.abc import Mapping
from typing import Final

from pipeline.evaluate.scorer import usable
from pipeline.pretrained import registry as weights

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
