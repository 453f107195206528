"""`facesr lineage`: from a number to the archive, and from a picture to the models."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text
from rich.tree import Tree

from pipeline.cli._shared import fail_on
from pipeline.runtime.console import results as output

if TYPE_CHECKING:
    from pipeline.lineage.picture import Picture, Seen
    from pipeline.lineage.trace import Node

FIGURES = "reports/metrics.json"
"""What a lineage begins with where nothing is named."""


def lineage(
    path: Annotated[
        str, typer.Argument(help="What a stage wrote: numbers, weights, shards; or a picture that was enlarged")
    ] = FIGURES,
    image: Annotated[
        str | None, typer.Option(help="Id or name of a picture: where it is, and which models saw it")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON on standard output")] = False,
) -> None:
    """Show which weights, pairs, shards and sources made a number, or which splits and models a picture is in."""
    from pipeline.core.errors import FacesrError
    from pipeline.ingest.known import FORGOTTEN, read_forgotten
    from pipeline.lineage.lock import LOCK
    from pipeline.lineage.picture import find_pictures, models_that_saw
    from pipeline.lineage.result import made_by
    from pipeline.lineage.trace import commit_of, numbers, trace

    if image is not None:
        with fail_on(FacesrError):
            pictures = find_pictures([image], forgotten=read_forgotten(Path("data") / FORGOTTEN))
            seen = models_that_saw(pictures)
        if as_json:
            found = {"pictures": [asdict(one) for one in pictures], "models": [asdict(one) for one in seen]}
            typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            show_pictures(pictures, seen)
        return
    if (said := made_by(Path(path))) is not None:
        _show_result(path, said, as_json)
        return
    with fail_on(FacesrError):
        node = trace(path)
    if as_json:
        typer.echo(json.dumps(asdict(node), indent=2, ensure_ascii=False))
        return
    lines = [f"{name}: {value:.3f}" for name, value in numbers(Path(path))]
    if (commit := commit_of(LOCK, Path())) is not None:
        lines.append(f"{LOCK}: commit {commit}")
    output().print(_tree(node, lines))


def _show_result(path: str, said: dict[str, str], as_json: bool) -> None:
    """What an enlarged picture says of itself, and what its weights were made of where a stage of here made them."""
    from pipeline.lineage.lock import LineageError
    from pipeline.lineage.result import weights_of
    from pipeline.lineage.trace import trace
    from pipeline.sources.names import printable

    found = weights_of(said)
    if as_json:
        places = {digest: place and place.as_posix() for digest, place in found.items()}
        typer.echo(json.dumps({"path": path, "made_by": said, "weights": places}, indent=2, ensure_ascii=False))
        return
    tree = Tree(Text(path))
    for key, value in said.items():
        tree.add(Text(printable(f"{key}: {value}")))
    for digest, place in found.items():
        try:
            tree.add(_tree(trace(str(place))) if place else Text(f"weights {digest[:12]}: not here"))
        except LineageError:  # released, or brought from elsewhere
            tree.add(Text(f"weights {digest[:12]}: {place}"))
    output().print(tree)


def _tree(node: "Node", lines: "list[str] | None" = None) -> Tree:
    by = f" ← {node.stage}, code {node.code}" if node.stage else " (from outside)"
    tree = Tree(Text(f"{node.path} [{(node.md5 or '?')[:12]}, {node.state}]{by}"))
    for line in [*node.said, *(lines or [])]:
        tree.add(Text(line))
    for inner in node.made_of:
        tree.add(_tree(inner))
    return tree


def show_pictures(pictures: "list[Picture]", seen: "list[Seen]") -> None:
    """Print pictures and the models that learned from them."""
    from pipeline.lineage.picture import MANIFEST

    no_pairs = "none" if Path(MANIFEST).is_file() else f"{MANIFEST} is not here"
    for picture in pictures:
        tree = Tree(Text(f"{picture.id}: {picture.name} of {picture.source}"))
        tree.add(Text(f"split: {picture.split}" if picture.split else f"rejected: {picture.reason}"))
        if picture.person:
            tree.add(Text(f"person: {picture.person}"))
        pairs = ", ".join(f"{count} of {name}" for name, count in picture.pairs.items())
        tree.add(Text(f"pairs: {pairs or no_pairs}"))
        for line in (*picture.shards, *picture.results):
            tree.add(Text(line))
        output().print(tree)
    for model in seen:
        words = {True: "saw it", False: "did not see it", None: "not known"}[model.seen]
        output().print(Text(f"{model.model}: {words}: {model.why}"))
