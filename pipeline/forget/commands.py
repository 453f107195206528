"""`facesr forget`: take pictures out of all that is here, and say what remains to be done."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from pipeline.cli._shared import fail, fail_on
from pipeline.runtime.console import console
from pipeline.runtime.console import results as output

if TYPE_CHECKING:
    from pipeline.lineage.picture import Picture, Seen


def forget(
    ids: Annotated[list[str], typer.Argument(help="Ids, their first 8 digits or more, or names of pictures")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Without it, only say what would be done")] = False,
) -> None:
    """Take pictures out of shards, inputs, manifests and results, list the models that saw them, and keep them out.

    Without --yes nothing is changed. Exit 0: done or shown, 2: not found.
    """
    from pipeline.core.errors import FacesrError
    from pipeline.forget.take_out import shown_in, take_out
    from pipeline.ingest.known import FORGOTTEN, read_forgotten
    from pipeline.lineage.commands import show_pictures
    from pipeline.lineage.picture import find_pictures, models_that_saw

    project = Path()
    with fail_on(FacesrError):
        pictures = find_pictures(ids, project, read_forgotten(project / "data" / FORGOTTEN), go_on=True)
        seen = models_that_saw(pictures, project)
    show_pictures(pictures, seen)
    if not yes:
        _say(pictures, seen, shown_in(project), "would be removed")
        console.print(f"{len(pictures)} picture(s); nothing was changed: say --yes to forget them", markup=False)
        return
    try:
        taken = take_out(pictures, project)
    except (FacesrError, OSError) as error:
        raise fail(f"{error}; what was done is kept: run the same command again", 1) from error
    for path, count in taken.rows.items():
        output().print(Text(f"{path}: {count} row(s) taken out"))
    _say(pictures, seen, taken.removed, "removed")


def _say(pictures: "Sequence[Picture]", seen: "Sequence[Seen]", shown: list[str], removed: str) -> None:
    """Print what shows faces, and the steps that are left to do by hand."""
    from pipeline.forget.steps import remaining

    if shown:
        output().print(Text(f"{removed}, since they show faces: {', '.join(shown)}"))
    for number, step in enumerate(remaining(pictures, seen, Path()), 1):
        output().print(Text(f"{number}. {step}"), soft_wrap=True)
