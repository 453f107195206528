"""`facesr evaluate`: the pipeline's own data once more, with other tools' results beside it."""

import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from pipeline.cli._shared import fail, fail_on, parse_named, print_problems, refuse_to_replace_report
from pipeline.core.errors import FacesrError
from pipeline.runtime.console import console


def evaluate(
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FOLDER (or archive) of results named by face id or name, or NAME=WEIGHTS of another 4x network"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the reports")] = Path("reports"),
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core by default")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files in OUT that are not from here")] = False,
) -> None:
    """Measure data/ as the stage evaluate does, other methods included. Exit 0: all measured, 1: some not, 2: usage."""
    from pipeline.baselines.spandrel_network import SUFFIXES, load_network
    from pipeline.compare.import_results import enlarge_inputs, import_pictures
    from pipeline.core.scales import BASELINES, METHODS
    from pipeline.evaluate.project import FACES, INPUTS, UPSCALED, describe
    from pipeline.evaluate.summary import headline
    from pipeline.evaluate.worker import measure_all
    from pipeline.params.all_sections import load_params
    from pipeline.report.write import write
    from pipeline.runtime.stage import work_folder
    from pipeline.upscale.measured_inputs import enlarge_degraded

    missing = [folder for folder in (FACES, INPUTS, UPSCALED) if not Path(folder).is_dir()]
    if missing:
        raise fail(f"{missing[0]}: not there; run this in the project's folder after `make repro` or `dvc repro`")
    with fail_on(FacesrError, OSError):
        settings = load_params().evaluate
        config, provenance = describe(settings)
    if workers is not None:
        settings = settings.model_copy(update={"workers": workers})
    named = parse_named(method or [], "--method", [*METHODS, *BASELINES, *config.references])
    refuse_to_replace_report(out, list(named.values()), overwrite, "--out")
    with fail_on(FacesrError, OSError):
        # what lies there now, whatever lay there when such a command was stopped
        contents = [_contents(path) for path in named.values()]
    work = work_folder("evaluate-with", provenance["data, sha256"], asdict(config), settings.unit, named, *contents)
    folders = {name: work / "methods" / name for name in named}
    problems: list[str] = []
    for name, path in named.items():
        with fail_on(FacesrError, OSError, prefix=f"--method {name}: "):
            if Path(path).suffix.lower() in SUFFIXES:
                enlarge_inputs(name, partial(enlarge_degraded, load_network(Path(path))), config, folders[name])
            else:
                problems += import_pictures(name, path, config, folders[name])
    config = replace(
        config,
        references=[*config.references, *named],
        folders={**config.folders, **{name: str(folder) for name, folder in folders.items()}},
        unmatched=[*config.unmatched, *problems],
    )
    measure_all(config, settings, work / "parts")
    summary = write(work / "parts", config, out, provenance | {"methods named": named})
    shutil.rmtree(work)
    console.print(f"evaluate: {headline(summary)}; see {out / 'report.html'}", markup=False)
    print_problems(problems)
    if problems:
        raise typer.Exit(1)


def _contents(path: str) -> Path | list[tuple[str, object]]:
    """What tells results or weights from others at the same place: all of them, or of a store names and stamps."""
    from pipeline.sources.open import open_archive

    if Path(path).exists():
        return Path(path)
    with TemporaryDirectory() as scratch:
        return [(entry.name, entry.stamp) for entry in open_archive(path, Path(scratch)).entries()]
