"""Which modules of the project import which, read off their syntax trees."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from support.stages import ROOT


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run: what only type checkers see is no import."""
    if isinstance(tree, ast.If) and isinstance(tree.test, ast.Name) and tree.test.id == "TYPE_CHECKING":
        return
    yield tree
    for child in ast.iter_child_nodes(tree):
        yield from _nodes(child)


@cache
def names(path: Path) -> frozenset[str]:
    """Dotted names that a file imports, wherever in it: modules, and `module.name` of each name taken from one."""
    found: set[str] = set()
    for node in _nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return frozenset(found)


@cache
def has_code(path: Path) -> bool:
    """True if there is more than a docstring in a file."""
    return len(ast.parse(path.read_text()).body) > 1


@cache
def modules(path: Path) -> frozenset[Path]:
    """Files of the project that a file imports.

    Packages on the way are among them where their `__init__` has code, but for the project's own, whose names are lazy.
    """
    found: set[Path] = set()
    for name in names(path):
        parts = name.split(".")
        if parts[0] not in ("pipeline", "stages"):
            continue
        for end in range(2, len(parts) + 1):
            place = ROOT.joinpath(*parts[:end])
            files = (place.with_suffix(".py"), place / "__init__.py")
            found |= {file for file in files if file.is_file() and (file.name != "__init__.py" or has_code(file))}
    return frozenset(found)


def reached(start: Path) -> set[str]:
    """`start` and all that it imports, directly or not, as paths from the root."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += modules(path)
    return {path.relative_to(ROOT).as_posix() for path in seen}
