"""What the commands share: how they fail, what they name as not done, and arguments of the form NAME=VALUE."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from pipeline.runtime.console import console


def fail(message: str, code: int = 2) -> typer.Exit:
    """Print a message and return the exit to raise: 2 where it cannot start, 1 where it could not complete."""
    console.print(message, style="red", markup=False)
    return typer.Exit(code)


@contextmanager
def fail_on(*errors: type[Exception], prefix: str = "") -> Iterator[None]:
    """Exit with 2 and one line where the block raises one of `errors`: it cannot start."""
    try:
        yield
    except errors as error:
        raise fail(f"{prefix}{error}") from error


def print_problems(problems: Sequence[str], most: int = 20) -> None:
    """Name what could not be done: the first few, and how many more there are."""
    for problem in problems[:most]:
        console.print(problem, style="yellow", markup=False)
    if len(problems) > most:
        console.print(f"and {len(problems) - most} more", style="yellow", markup=False)


def parse_named(values: Sequence[str], option: str, taken: Sequence[str]) -> dict[str, str]:
    """Path by name, of arguments NAME=PATH."""
    found: dict[str, str] = {}
    for value in values:
        name, _, path = value.partition("=")
        if not (name.strip() and path):
            raise fail(f"{option} {value}: NAME=FOLDER is wanted")
        if name in found or name in taken or name == "original":
            raise fail(f"{option} {value}: the name {name} is taken")
        found[name] = path
    return found
