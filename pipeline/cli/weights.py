"""`facesr weights`: networks that come from elsewhere, where they lie and how to get them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipeline.cli._shared import fail, fail_on
from pipeline.runtime.console import console

app = typer.Typer(help="Networks that come from elsewhere: where they lie and how to get them.")


@app.command("list")
def weights_list() -> None:
    """Show the networks, what they are for and whether they are on this machine."""
    from pipeline.pretrained import registry

    shown = Table("name", "file", "used for", "here")
    for name, network in registry.NETWORKS.items():
        here = (registry.cache_folder() / network.file).is_file()
        shown.add_row(name, network.file, network.use, "yes" if here else "no")
    console.print(shown, soft_wrap=False)
    console.print(f"They lie in {registry.cache_folder()}", markup=False)


@app.command("fetch")
def weights_fetch(names: Annotated[list[str] | None, typer.Argument(help="All by default")] = None) -> None:
    """Download networks and verify their checksums."""
    from pipeline.pretrained import registry

    unknown = set(names or []) - set(registry.NETWORKS)
    if unknown:
        raise fail(f"unknown network {', '.join(sorted(unknown))}; known are {', '.join(registry.NETWORKS)}")
    failed = False
    # those without an address can only be got elsewhere: asking for everything does not fail for them
    for name in names or [name for name, network in registry.NETWORKS.items() if network.url]:
        try:
            console.print(f"{name}: {registry.fetch(name)}", markup=False)
        except registry.WeightsError as error:
            fail(str(error))
            failed = True
    if failed:
        raise typer.Exit(1)


@app.command("add")
def weights_add(file: Annotated[Path, typer.Argument(help="A file got elsewhere, recognised by its checksum")]) -> None:
    """Put a network's file where it is looked for."""
    from pipeline.pretrained import registry

    with fail_on(registry.WeightsError):
        name, path = registry.add(file)
    console.print(f"{name}: {path}", markup=False)
