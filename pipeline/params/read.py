"""Read values into sections: what is wrong is said by file and key."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from pipeline.core.errors import FacesrError
from pipeline.params.base import Section

Kind = TypeVar("Kind", bound=Section)


class ParamsError(FacesrError):
    """params.yaml cannot be used; the message names file and key."""


class _Loader(yaml.SafeLoader):
    """YAML in which no mapping has a key twice: the last would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` is there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_values(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        ParamsError: missing, not YAML, or a key is there twice.
    """
    try:
        return yaml.load(path.read_bytes(), _Loader)  # noqa: S506  # a safe one
    except OSError as error:
        raise ParamsError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not valid YAML: {error}") from error


def read_sections(kinds: Mapping[str, type[Section]], path: Path = Path("params.yaml")) -> dict[str, Any]:
    """Read and validate some sections of a params file; the others may hold anything.

    Args:
        kinds: class of each section, by its name.
        path: of the file.

    Returns:
        The sections, by name.

    Raises:
        ParamsError: missing, not YAML, an unknown or mistyped key, a value out of range: names file and key.
    """
    values = read_values(path)
    if missing := [name for name in kinds if not isinstance(values, dict) or name not in values]:
        raise ParamsError("\n".join(f"{path}: {name}: missing" for name in missing))
    return {name: validated(kind, values[name], str(path), name) for name, kind in kinds.items()}


def validated(kind: type[Kind], values: Any, where: str, *section: str) -> Kind:
    """Values as a section, or as all of them.

    Args:
        kind: of the section.
        values: as read from YAML.
        where: the values come from, for messages.
        section: that the values are of, where they are one alone.

    Raises:
        ParamsError: an unknown or mistyped key, a value out of range: a line for each.
    """
    try:
        # as JSON, where lists may become tuples and mappings dataclasses, and "500" still is no number; what YAML takes
        # for a date is text again
        return kind.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        problems = [f"{where}: {_key((*section, *problem['loc']))}: {_say(problem)}" for problem in error.errors()]
        raise ParamsError("\n".join(problems)) from error
    except (TypeError, ValueError) as error:  # keys that are lists or dates, a mapping inside itself
        raise ParamsError(f"{where}: {_key(section)}: {error}") from error


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "the whole file"


def _say(problem: Any) -> str:
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return "unknown key"
    if problem["type"] == "missing":
        return "missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return message if isinstance(problem["input"], dict) else f"{message} (got {problem['input']!r})"
