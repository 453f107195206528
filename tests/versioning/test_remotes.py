"""Remotes, and caches whose files are linked into the workspace."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.dvc_project import ARCHIVE, Versioned, clone, run, stages_run
from support.object_store import s3_server
from support.stages import files_of

SENT = ("data/pairs.parquet", "models/fidelity.safetensors", ARCHIVE)


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    with s3_server() as store, pytest.MonkeyPatch.context() as patch:
        # DVC wants a regular file
        (tmp_path / "aws").touch()
        patch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws"))
        yield f"http://{store.endpoint}"


def test_data_and_models_travel_through_a_bucket(first: Versioned, bucket: str, tmp_path: Path) -> None:
    pytest.importorskip("dvc_s3")
    here, there = clone(first.folder, tmp_path / "here"), tmp_path / "there"
    run(here, "dvc", "pull", "-q")
    run(here, "dvc", "remote", "add", "-q", "-f", "-d", "storage", "s3://bucket/faces")
    run(here, "dvc", "remote", "modify", "storage", "endpointurl", bucket)
    run(here, "dvc", "remote", "modify", "storage", "region", "us-east-1")
    run(here, "git", "commit", "-qam", "a bucket")
    assert "pushed" in run(here, "dvc", "push", *SENT)
    clone(here, there)
    run(there, "dvc", "pull", "-q", *SENT)
    for name in SENT:
        assert (there / name).read_bytes() == (first.folder / name).read_bytes()


def damaged(cache: Path) -> list[str]:
    """Files of a cache that are not what their name says."""
    files = [path for path in cache.glob("files/md5/*/*") if path.is_file()]
    assert files
    return [
        path.name
        for path in files
        if hashlib.md5(path.read_bytes()).hexdigest() != path.parent.name + path.name.removesuffix(".dir")
    ]


def linked(path: Path) -> bool:
    return path.is_symlink() or path.stat().st_nlink > 1


@pytest.mark.parametrize("kind", ["hardlink", "symlink"])
def test_stages_never_write_through_links_into_the_cache(first: Versioned, kind: str, tmp_path: Path) -> None:
    mine = clone(first.folder, tmp_path / "mine", kind)
    run(mine, "dvc", "pull", "-q")
    for name in (
        ARCHIVE,
        "models/fidelity.safetensors",
        "data/pairs.parquet",
        "data/ingest.json",
        "reports/report.html",
    ):
        assert linked(mine / name), name
    assert stages_run(run(mine, "dvc", "repro")) == []
    before = files_of(mine / "models")
    params = mine / "params.yaml"
    text = params.read_text().replace("shard_mb: 4", "shard_mb: 3").replace("draws: 1", "draws: 2")
    params.write_text(text.replace("steps: 4", "steps: 3"))
    # without DVC, which would remove what is there first
    for stage in ("ingest", "pairs", "train", "evaluate") if kind == "hardlink" else ("ingest", "train"):
        run(mine, sys.executable, "-m", f"stages.{stage}")
    assert files_of(mine / "models") != before
    assert not linked(mine / "models/fidelity.safetensors")
    assert damaged(mine / ".dvc/cache") == []
