"""A small project with all that the pipeline leaves: shards, pairs, models, results, dvc.lock."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from pipeline.cli import app
from pipeline.core.files import content_hash
from pipeline.core.images import encode_png
from pipeline.core.schema import METRICS, UPSCALED, add_result, upscaled_row
from pipeline.core.shards import write_rows
from pipeline.ingest.run import ingest
from pipeline.lineage.lock import dvc_md5
from pipeline.models.checkpoint import save_generator
from pipeline.models.config import GeneratorConfig
from pipeline.models.networks import Generator
from pipeline.pairs.run import make_pairs
from pipeline.params.ingest import ArchiveSource, Ingest, SplitCounts
from pipeline.params.pairs import Pairs
from support import pictures
from support.stages import faces_of

TINY = GeneratorConfig((8,), 0, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, made once."""
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, in which commands run."""
    before = Path.cwd()
    folder = tmp_path / "project"
    shutil.copytree(made, folder)
    os.chdir(folder)
    yield folder
    os.chdir(before)


def make_project(folder: Path) -> Path:
    """Faces, inputs, pairs, results, a model that saw them and one of other data, and their dvc.lock."""
    (folder / "in").mkdir()
    for index in range(6):
        (folder / f"in/{index}.png").write_bytes(encode_png(pictures.face(index)))
    ingest_again(folder)
    reports = folder / "reports"
    make_pairs(folder / "data/faces", folder / "data", reports / "pairs", Pairs(seed=1, workers=1), folder / "work")
    data = files_data(folder)
    for name, provenance in (("fidelity", {"data_sha256": data, "phase": "fidelity"}), ("old", {"data_sha256": "0"})):
        save_generator(folder / f"models/{name}.safetensors", Generator(TINY), TINY, provenance, torch.float32)
    rows = []
    for face in faces_of(folder / "data/faces"):
        row = upscaled_row(face, face["split"], "64to256", "facesr")
        add_result(row, face["image"]["bytes"], 64, 64)
        rows.append(row)
    write_rows(folder / "data/upscaled/facesr/64to256/all-00000.parquet", rows, UPSCALED)
    figures = [dict.fromkeys(METRICS.names) | {"id": row["id"], "name": row["name"]} for row in rows]
    write_rows(folder / "reports/per_image.parquet", figures, METRICS)
    (folder / "reports/metrics.json").write_text(json.dumps({"test": {"64to256": {"facesr": {"psnr": 31.25}}}}))
    (folder / "reports/sheets").mkdir()
    (folder / "reports/sheets/a.png").write_bytes(b"shows faces")
    lock(folder)

    return folder


def ingest_again(folder: Path) -> None:
    source = ArchiveSource(kind="archive", path=str(folder / "in"), splits=SplitCounts(train="rest", test=2))
    ingest(Ingest(sources=[source], seed=1, workers=1, min_size=64), folder / "data", folder / "work")


def files_data(folder: Path) -> str:
    return content_hash(folder / "data/inputs/train", folder / "data/inputs/valid", folder / "data/pairs.parquet")


def lock(folder: Path) -> None:
    """dvc.lock as DVC writes it."""
    chain = {
        "ingest": ([], ["data/faces"]),
        "pairs": (["data/faces"], ["data/inputs/train", "data/pairs.parquet"]),
        "train": (["data/inputs/train", "data/pairs.parquet"], ["models/fidelity.safetensors"]),
        "evaluate": (["models/fidelity.safetensors", "data/faces"], ["reports/metrics.json"]),
    }
    stages = {
        name: {
            "deps": [{"path": path, "md5": dvc_md5(folder / path)} for path in deps],
            "outs": [{"path": path, "md5": dvc_md5(folder / path)} for path in outs],
        }
        for name, (deps, outs) in chain.items()
    }
    stages["ingest"]["params"] = {"params.yaml": {"ingest": {"sources": [{"kind": "archive", "path": "in.zip"}]}}}  # type: ignore[assignment]
    stages["train"]["deps"].append({"path": "pipeline/core", "md5": "abc.dir"})
    (folder / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))


def run(*arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output + str(done.exception or "")
    return done


def of_split(project: Path, split: str) -> str:
    return next(row["id"] for row in faces_of(project / "data/faces") if row["split"] == split)
