"""Typed, validated view of params.yaml: one class per stage, units in the field docs, unknown keys refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.params.base import Section
from pipeline.params.baselines import Baselines
from pipeline.params.evaluate import Evaluate
from pipeline.params.ingest import Ingest
from pipeline.params.pairs import Pairs
from pipeline.params.read import ParamsError, read_values, validated
from pipeline.params.train import Train
from pipeline.params.upscale import Upscale


class Params(Section):
    """A whole params file."""

    ingest: Ingest
    pairs: Pairs
    train: Train
    upscale: Upscale
    baselines: Baselines
    evaluate: Evaluate


def load_params(path: Path = Path("params.yaml"), changes: Sequence[str] = ()) -> Params:
    """Read and validate a params file.

    Args:
        path: of the file.
        changes: `section.key=value` each, the value in YAML; they replace what the file says.

    Raises:
        ParamsError: missing, not YAML, an unknown or mistyped key, a value out of range: names file and key.
    """
    values = read_values(path)
    for change in changes:
        _change(values, change)
    return validated(Params, values, str(path))


def _change(values: Any, change: str) -> None:
    """Apply one `section.key=value` to the values of a file, in place."""
    name, sign, value = change.partition("=")
    *parents, last = name.strip().split(".")
    for parent in parents:
        values = values.setdefault(parent, {}) if isinstance(values, dict) else None
    if not sign or not isinstance(values, dict):
        raise ParamsError(f"{change!r}: expected section.key=value")
    try:
        values[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ParamsError(f"{change!r}: the value is not valid YAML") from error
