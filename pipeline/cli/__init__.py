"""The `facesr` command: a module for each of its commands."""

import re
import sys
from typing import Annotated

import typer

from pipeline.cli import (
    adapt,
    compare,
    evaluate,
    ingest,
    inspect,
    pairs,
    profile,
    score,
    synth,
    table,
    train,
    upscale,
    view,
    weights,
)
from pipeline.cli._shared import fail
from pipeline.forget.commands import forget
from pipeline.lineage.commands import lineage
from pipeline.registry import commands as models
from pipeline.runtime.console import print_anything
from pipeline.version import __version__

app = typer.Typer(
    help="Make faces four times larger, and reproduce how the networks that do it were trained.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    train.train,
    score.score,
    upscale.upscale,
    view.view,
    view.demo,
    inspect.inspect,
    adapt.adapt,
    ingest.ingest,
    pairs.pairs,
    evaluate.evaluate,
    compare.compare,
    synth.synth,
    profile.profile,
    table.table,
    lineage,
    forget,
):
    app.command()(command)
app.add_typer(weights.app, name="weights")
app.add_typer(models.app, name="models")


_NO_MEMORY = "(?i)failed to map segment|cannot allocate memory|can't allocate memory|can't start new thread"
"""How loaders of libraries and torch say it."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"facesr {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
) -> None:
    print_anything()


def main() -> None:
    """Run the command; an error that a user can do something about is one line."""
    from pipeline.core.errors import FacesrError, first_line

    print_anything()
    try:
        app()
    except (MemoryError, ImportError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not re.search(_NO_MEMORY, str(error)):
            raise
        fail(f"out of memory ({first_line(error)}): close other programs, or allow more address space (ulimit -v)")
        sys.exit(1)
    except (FacesrError, OSError) as error:
        fail(str(error))
        sys.exit(1)
