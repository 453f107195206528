"""Publish a model: a folder with weights, card, sheet, config and exports, or the same as a repository on a hub."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.core.errors import FacesrError, first_line
from pipeline.core.files import file_hash, write_json
from pipeline.registry.card import README, SHEET, copy_weights, model_card, write_sheet
from pipeline.registry.describe import CARD, Model, partners
from pipeline.registry.export import export

_HUB = re.compile(r"hf://(?:models/)?(?P<repo>[\w.-]+/[\w.-]+)/?")
CONFIG = "config.json"


class PublishError(FacesrError):
    """A model that could not be published."""


def hub_repo(target: str) -> str | None:
    """`owner/name` of hf://owner/name; None of a folder.

    Raises:
        PublishError: an address of another form.
    """
    if "://" not in target:
        return None
    match = _HUB.fullmatch(target)
    if match is None:
        raise PublishError(f"{target}: a folder or hf://OWNER/NAME")
    return match["repo"]


def assemble(model: Model, weights: Path, folder: Path, formats: Sequence[str] = ()) -> list[Path]:
    """Write all that is published into a folder.

    Args:
        model: what is known of the weights.
        weights: file; where others belong to it, all are taken.
        folder: to write to.
        formats: endings of exports beside the weights, such as `.onnx`.

    Returns:
        The files.

    Raises:
        ExportError: an export differs from the weights, or the extra is not installed.
    """
    files = partners(weights)
    copy_weights(files, folder)
    exports = []
    for file in files:
        for ending in formats:
            export(file, folder / f"{file.stem}{ending}")
            exports.append(f"{file.stem}{ending}")
    write_sheet(folder / SHEET, weights)
    shown = replace(model, name=model.name.rpartition("/")[2])
    card = model_card(shown, files[0].name, [file.stem for file in files[1:]], exports)
    (folder / README).write_text(card, encoding="utf-8")
    write_json(folder / CONFIG, {"library_name": "facesr", "config": model.config, "format": "facesr-generator"})
    # so that the copy can still be asked what it is: `facesr models info`
    known = {key: value for key, value in asdict(model).items() if key in _KEPT}
    write_json(folder / CARD, known | {"sha256": {file.stem: file_hash(file) for file in files}})
    names = [*(file.name for file in files), *exports, README, SHEET, CONFIG, CARD]
    return [folder / name for name in names]


_KEPT = ("licence", "licence_note", "trained_on", "hardware", "date", "intended_use", "limits", "metrics_on", "metrics")


def upload(repo: str, model: Model, weights: Path, formats: Sequence[str], private: bool) -> str:
    """Upload to a hub's repository, which is made where it is not there; a commit with all files.

    Returns:
        The address of the commit.

    Raises:
        PublishError: huggingface_hub is not installed, or the hub refuses.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise PublishError("publishing to hf:// needs `pip install -e '.[hub]'`") from error
    with TemporaryDirectory() as scratch:
        assemble(model, weights, Path(scratch), formats)
        api = HfApi()
        try:
            api.create_repo(repo, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo, folder_path=scratch, commit_message=f"{model.name}, {model.sha256[:16]}"
            )
        except Exception as error:  # the hub's, or of the way to it
            raise PublishError(f"hf://{repo}: {first_line(error)}") from error
    return str(commit.commit_url)


def is_published(path: Path) -> bool:
    """True if a folder's config.json was written here."""
    return json.loads(path.read_bytes()).get("library_name") == "facesr"
