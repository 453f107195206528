"""`facesr evaluate`: the pipeline's own data once more, with other tools' results beside it."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli._shared import fail, parse_named
from pipeline.core.errors import FacesrError
from pipeline.runtime.console import console

WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt")


def evaluate(
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FOLDER (or archive) of results named by face id or name, or NAME=WEIGHTS of another 4x network"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the reports")] = Path("reports"),
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core by default")] = None,
) -> None:
    """Measure data/ as the stage evaluate does, other methods included. Exit 0: all measured, 1: some not, 2: usage."""
    from pipeline.baselines.spandrel_network import load_network
    from pipeline.compare.import_results import enlarge_inputs, import_pictures
    from pipeline.core.scales import METHODS
    from pipeline.evaluate.aggregate import headline
    from pipeline.evaluate.project import FACES, INPUTS, UPSCALED, describe
    from pipeline.evaluate.worker import measure_all
    from pipeline.params.all_sections import load_params
    from pipeline.report.write import finish
    from pipeline.runtime.stage import work_folder

    missing = [folder for folder in (FACES, INPUTS, UPSCALED) if not Path(folder).is_dir()]
    if missing:
        raise fail(f"{missing[0]}: not there; run this in the project's folder after `make repro` or `dvc repro`")
    try:
        settings = load_params().evaluate
        if workers is not None:
            settings = settings.model_copy(update={"workers": workers})
        config, provenance = describe(settings)
    except (FacesrError, OSError) as error:
        raise fail(str(error)) from error
    named = parse_named(method or [], "--method", [*METHODS, *config["peers"], "bicubic", "lanczos"])
    work = work_folder("evaluate-with", provenance["data, sha256"], config, settings.unit, named)
    problems: list[str] = []
    for name, place in named.items():
        target = work / "methods" / name
        try:
            if Path(place).suffix.lower() in WEIGHTS:
                enlarge_inputs(name, load_network(Path(place)), config, target)
            else:
                problems += import_pictures(name, place, config, target)
        except (FacesrError, ValueError, OSError) as error:
            raise fail(f"--method {name}: {error}") from error
    config["peers"] = [*config["peers"], *named]
    config["folders"] = config["folders"] | {name: str(work / "methods" / name) for name in named}
    config["unmatched"] = [*config["unmatched"], *problems]
    measure_all(config, settings, work / "parts")
    summary = finish(work / "parts", config, out, provenance | {"methods named": named})
    console.print(f"evaluate: {headline(summary)}; see {out / 'report.html'}", markup=False)
    for problem in problems[:20]:
        console.print(problem, style="yellow", markup=False)
    if problems:
        raise typer.Exit(1)
