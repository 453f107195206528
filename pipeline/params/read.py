"""Read values into sections: what is wrong is said by file and key."""

from typing import Any, TypeVar

from pydantic import ValidationError

from pipeline.params.base import Section

Kind = TypeVar("Kind", bound=Section)


class ParamsError(ValueError):
    """params.yaml cannot be used; the message names file and key."""


def validated(kind: type[Kind], values: Any, where: str) -> Kind:
    """Values as a section, or as all of them.

    Args:
        kind: of the section.
        values: as read from YAML.
        where: the values come from, for messages.

    Raises:
        ParamsError: an unknown or mistyped key, a value out of range: a line for each.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = [f"{where}: {_key(problem['loc'])}: {_say(problem)}" for problem in error.errors()]
        raise ParamsError("\n".join(problems)) from error


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "the whole file"


def _say(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "unknown key"
    if problem["type"] == "missing":
        return "missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return message if isinstance(problem["input"], dict) else f"{message} (got {problem['input']!r})"
