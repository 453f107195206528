"""What the commands share: how they fail, what they may replace, and arguments of the form NAME=VALUE."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pipeline.core.errors import FacesrError, without_secrets
from pipeline.runtime.console import console

if TYPE_CHECKING:
    import pyarrow as pa

Ours = Callable[[Path], bool]
"""Says whether a file or folder that is there was written by the command that would replace it."""


def fail(message: str, code: int = 2) -> typer.Exit:
    """Print a message and return the exit to raise: 2 where it cannot start, 1 where it could not complete."""
    console.print(without_secrets(message), style="red", markup=False)
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
        console.print(without_secrets(problem), style="yellow", markup=False)
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


def refuse_to_replace(
    target: Path, ours: Ours, inputs: Iterable[str | Path | None], overwrite: bool, option: str
) -> None:
    """Refuse to write over what is not from here, and over an input whatever is said.

    Args:
        target: file or folder that will be written.
        ours: of what is there now; asked about what exists only.
        inputs: what the command reads: paths, patterns, URIs; None for what was not given.
        overwrite: what is of other origin may be replaced.
        option: how the user names another target.
    """
    if not os.path.lexists(target):
        return
    # compared by device and inode, so that no link, case or detour hides an input
    read = [path for name in inputs if name is not None for path in _local(name)]
    if any(_same(path, target) or _inside(path, target) for path in read):
        raise fail(f"{target} is or holds what is to be read, and is not replaced: name another {option}")
    try:
        if ours(target):
            return
    except (FacesrError, OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RuntimeError):
        pass  # not even readable as what this command writes
    if any(_inside(target, path) for path in read):
        raise fail(f"{target} lies in what is to be read, and is not replaced: name another {option}")
    if not overwrite:
        raise fail(f"{target} is there and not from this command: name another {option}, or --overwrite to replace it")


def refuse_folder(target: Path, option: str) -> None:
    """Refuse a folder where a file is to be written."""
    if target.is_dir():
        raise fail(f"{option} {target} is a folder: name the file to write")


def our_json(*keys: str) -> Ours:
    """Recognises a JSON object by its keys."""

    def ours(path: Path) -> bool:
        value = _json(path)
        return isinstance(value, dict) and set(keys) <= value.keys()

    return ours


def our_figures(*keys: str, depth: int) -> Ours:
    """Recognises JSON of figures by name: objects `depth` deep, each of the last with all these keys."""

    def ours(path: Path) -> bool:
        found = [_json(path)]
        for _ in range(depth):
            found = [inner for value in found for inner in value.values()]
        return bool(found) and all(set(keys) <= value.keys() for value in found)

    return ours


def our_table(schema: "pa.Schema") -> Ours:
    """Recognises a Parquet table of ours by its columns; an older version may have had fewer of them."""

    def ours(path: Path) -> bool:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            found = pq.read_schema(path)
        except pa.ArrowException:
            return False
        return len(found) >= min(4, len(schema)) and all(
            field.name in schema.names and schema.field(field.name).type == field.type for field in found
        )

    return ours


def our_shards(schema: "pa.Schema", name: str = r"(train|valid|test)-\d+\.parquet") -> Ours:
    """Recognises a folder that holds nothing but shards of this schema and name; hidden files are never touched."""
    table = our_table(schema)

    def ours(path: Path) -> bool:
        inside = [one for one in path.iterdir() if not one.name.startswith(".")]
        return all(re.fullmatch(name, one.name) and table(one) for one in inside)

    return ours


def our_text(*begins: str) -> Ours:
    """Recognises a text file by what stands in its first lines."""

    def ours(path: Path) -> bool:
        with path.open("rb") as handle:
            head = handle.read(4096)
        return any(text.encode() in head for text in begins)

    return ours


def refuse_to_replace_report(folder: Path, inputs: Sequence[str | Path | None], overwrite: bool, option: str) -> None:
    """Refuse a folder for a report that holds other files where the report's would come to lie, or is read."""
    from pipeline.core.schema import METRICS
    from pipeline.report.write import FOLDERS, PAGE, recorded

    if folder.exists() and not folder.is_dir():
        raise fail(f"{option} {folder} is a file: name a folder")
    for path in (path for name in inputs if name is not None for path in _local(name)):
        # not by resolve(), which raises on links that lead in a circle
        if path.is_dir() and Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(path)):
            raise fail(f"{option} {folder} lies in {path}, which is read: its pictures would be among those next time")
    known = recorded(folder)
    kinds: dict[str, Ours] = {
        PAGE: lambda path: PAGE in known,
        "metrics.json": our_figures("psnr", depth=3),
        "per_image.parquet": our_table(METRICS),
    }
    for name in FOLDERS:
        kinds[name] = lambda path: all(
            one.relative_to(folder).as_posix() in known for one in path.iterdir() if not one.name.startswith(".")
        )
    for name, ours in kinds.items():
        refuse_to_replace(folder / name, ours, inputs, overwrite, option)


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _local(name: str | Path) -> list[Path]:
    """The files and folders on this machine that an input names."""
    from pipeline.sources.patterns import expand
    from pipeline.storage.path import StoragePath

    if isinstance(name, Path):
        return [name]
    with suppress(FacesrError, OSError):
        return [path.local for path in expand(name) or [StoragePath.of(name)] if path.local is not None]
    return []


def _same(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return one.samefile(other)
    return False


def _inside(path: Path, folder: Path) -> bool:
    """True if a path lies in a folder, as it is written or as it resolves."""
    above = [*path.absolute().parents, *path.resolve().parents]
    return folder.is_dir() and any(_same(parent, folder) for parent in dict.fromkeys(above))
