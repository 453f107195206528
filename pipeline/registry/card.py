"""Cards in Hugging Face's format: of a model, with a sheet of drawn faces, and of an ingested archive."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.core.errors import FacesrError, only_names
from pipeline.core.files import write_bytes
from pipeline.core.images import encode_png
from pipeline.core.scales import SPLITS
from pipeline.core.schema import FACES
from pipeline.models.config import GeneratorConfig
from pipeline.registry.describe import METRICS, Model
from pipeline.registry.sheet import COLUMNS, sheet
from pipeline.upscale.upscaler import Upscaler
from pipeline.version import __version__

README, SHEET = "README.md", "sheet.png"
MARK = "by facesr"
"""Stands in every card, so that it can be told from other people's README."""


class CardError(FacesrError):
    """A card that cannot be written."""


def model_card(
    model: Model, main: str, beside: Sequence[str] = (), exports: Sequence[str] = (), picture: bool = True
) -> str:
    """Write a model's card as Markdown with YAML in front.

    Args:
        model: what is known of it.
        main: file that the examples name.
        beside: names, without endings, of the weights files that lie beside it and belong to it.
        exports: names of exported files beside it.
        picture: a sheet lies beside it.
    """
    columns = [name for name in METRICS if any(name in values for values in model.metrics.values())]
    own = next((model.metrics[key] for key in (model.phase, "after", "facesr") if key in model.metrics), None)
    if own is None and model.metrics:
        own = list(model.metrics.values())[-1]
    config = GeneratorConfig.from_dict(model.config)
    rows: dict[str, Any] = {"phase": model.phase, "sha256": model.sha256, "parameters": model.parameters}
    rows |= {key: only_names(json.dumps(value) if isinstance(value, dict | list) else str(value))
             for key, value in model.provenance.items() if key not in ("phase", "scales")}  # fmt: skip
    rows["network"] = json.dumps(model.config, sort_keys=True)
    return _rendered(
        "model_card.md.j2",
        model=model,
        main=main,
        beside=beside,
        told=config.told,
        exports=exports,
        multiple=2 ** (len(config.widths) - 1),
        columns=columns,
        own=own,
        rows=rows,
        with_sheet=picture,
        sheet_columns=COLUMNS,
        version=__version__,
    )


def data_card(folder: Path) -> str:
    """Write the card of an ingested archive: the folder with `ingest.json` and `faces/`.

    Raises:
        CardError: nothing was ingested there.
    """
    try:
        counts = json.loads((folder / "ingest.json").read_bytes())
        return _rendered(
            "data_card.md.j2",
            counts=counts,
            title=folder.resolve().name,
            size=_size_category(counts["usable"]),
            splits={split: counts["splits"][split] for split in SPLITS if counts["splits"].get(split)},
            sources=[only_names(source) for source in counts["sources"]],
            columns=list(FACES),
            version=__version__,
        )
    except (OSError, ValueError, KeyError) as error:
        raise CardError(f"{folder}: holds no readable ingest.json of facesr ({type(error).__name__})") from error


def write_sheet(path: Path, generator_file: Path) -> None:
    """Write the sheet of drawn faces that a card shows."""
    write_bytes(path, encode_png(sheet(Upscaler.load(generator_file, precision="fp32")), level=9))


def write_card(model: Model, weights: Path, folder: Path) -> list[Path]:
    """Write card and sheet of a model into a folder."""
    write_sheet(folder / SHEET, weights)
    write_bytes(folder / README, model_card(model, weights.name).encode())
    return [folder / README, folder / SHEET]


def is_card(path: Path) -> bool:
    """True if a README was written here."""
    return MARK in path.read_text(encoding="utf-8", errors="replace")


def copy_weights(files: Sequence[Path], folder: Path) -> None:
    """Copy weights files into a folder, each whole or not at all."""
    for file in files:
        write_bytes(folder / file.name, file.read_bytes())


def _size_category(count: int) -> str:
    """As Hugging Face names them."""
    for limit, name in ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if count < limit:
            return name
    return "1M<n<10M"


def _rendered(name: str, **values: Any) -> str:
    environment = Environment(  # noqa: S701  # Markdown, not HTML
        loader=PackageLoader("pipeline.registry"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(**values)
