"""What the commands share: how they fail, and arguments of the form NAME=VALUE."""

import typer

from pipeline.runtime.console import console


def fail(message: str, code: int = 2) -> typer.Exit:
    """Print a message and return the exit to raise: 2 where it cannot start, 1 where it could not complete."""
    console.print(message, style="red", markup=False)
    return typer.Exit(code)


def parse_named(values: list[str], option: str, taken: list[str]) -> dict[str, str]:
    """NAME=PLACE of each."""
    found: dict[str, str] = {}
    for value in values:
        name, sign, place = value.partition("=")
        if not (sign and name.strip() and place):
            raise fail(f"{option} {value}: NAME=FOLDER is wanted")
        if name in found or name in taken or name == "original":
            raise fail(f"{option} {value}: the name {name} is taken")
        found[name] = place
    return found
