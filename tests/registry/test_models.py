"""Models by name: released, older, of this checkout, tagged in a repository; their cards; published copies."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from support.upscaling import encoded, make_models, pictures, upscale
from typer.testing import CliRunner, Result

from pipeline import Upscaler
from pipeline.cli import app
from pipeline.models.checkpoint import save_generator
from pipeline.models.config import GeneratorConfig
from pipeline.models.networks import Generator
from pipeline.registry import publish
from pipeline.registry.artifacts import Reference
from pipeline.upscale import weights
from pipeline.upscale.weights import NoModelError

TINY = GeneratorConfig((8,), 0, 1)


def models(*arguments: object, code: int = 0) -> str:
    done: Result = CliRunner().invoke(app, ["models", *map(str, arguments)], env={"COLUMNS": "250"})
    assert done.exit_code == code, done.output + str(done.exception or "")
    return done.output


def save(path: Path, seed: int, provenance: dict[str, object] | None = None) -> Path:
    torch.manual_seed(seed)
    generator = Generator(TINY)
    torch.nn.init.normal_(generator.to_rgb.weight, std=0.05)
    save_generator(path, generator, TINY, {"phase": path.stem} | (provenance or {}), torch.float32)
    return path


@pytest.fixture(autouse=True)
def one_face(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sheet of one face, since drawing and enlarging takes the most time."""
    monkeypatch.setattr("pipeline.registry.sheet.FACES", 1)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of released weights with an older pair in it."""
    folder = tmp_path / "released"
    for seed, name in enumerate(("fidelity", "realism", "1/fidelity", "1/realism")):
        save(folder / f"{name}.safetensors", seed)
    monkeypatch.setattr(weights, "FOLDER", folder)
    return folder


def test_the_released_pair_is_there_with_card_licence_and_figures() -> None:
    assert "released" in models("list")
    for phase in ("fidelity", "realism"):
        known = json.loads(models("info", "released", "--phase", phase, "--json"))
        assert known["licence"] != "other"
        assert known["metrics"][phase]["psnr"] > known["metrics"]["bicubic"]["psnr"]
        assert len(known["provenance"]["data_sha256"]) == 64
        assert known["parameters"] > 100_000


def test_an_older_pair_goes_by_its_number_with_its_own_realism(released: Path) -> None:
    assert list(weights.released()) == ["released", "released-1"]
    low = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for name, realism, file in (
        ("released", 0.0, "fidelity"),
        ("released-1", 0.0, "1/fidelity"),
        ("released-1", 1.0, "1/realism"),
    ):
        wanted = Upscaler.load(released / f"{file}.safetensors", back_projection=0)(low)
        assert (Upscaler.load(name, realism=realism, back_projection=0)(low) == wanted).all()
    with pytest.raises(NoModelError, match="no released pair has that name: released, released-1"):
        Upscaler.load("released-9")


def test_facesr_upscale_takes_a_name(tmp_path: Path, released: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(1))
    upscale(tmp_path / "a.png", tmp_path / "out", "--model", "released-1", "--realism", "0.5", "--workers", 1)
    assert list(pictures(tmp_path / "out")) == ["a.png"]


def test_a_model_of_the_checkout_has_the_figures_of_its_reports(here: Path) -> None:
    save(here / "models/fidelity.safetensors", 1)
    (here / "data").mkdir()
    (here / "reports").mkdir()
    counts = {"synthetic": True, "sources": ["synthetic (seed 1)"], "splits": {"train": 64}}
    (here / "data/ingest.json").write_text(json.dumps(counts))
    figures = {"psnr": 31.5, "ssim": 0.82, "count": 24}
    report = {"test": {"256to1024": {"bicubic": figures | {"psnr": 30.0}, "facesr": figures}}}
    (here / "reports/metrics.json").write_text(json.dumps(report))
    known = json.loads(models("info", "fidelity", "--json"))
    assert known["licence"] == "apache-2.0"
    assert known["metrics"]["facesr"] == {"psnr": 31.5, "ssim": 0.82}
    assert "models/fidelity.safetensors" in models("list")


# repositories


def git(folder: Path, *arguments: str) -> None:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "tag.gpgSign=false", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC repository with two versions of a model, the older of them in stage prod."""
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "-q")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    artifacts = {
        name: {"path": f"models/{name}.safetensors", "type": "model", "desc": f"{name} of somebody", "labels": ["tiny"]}
        for name in ("fidelity", "realism")
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"artifacts": artifacts}))
    for number in (1, 2):
        for offset, name in enumerate(artifacts):
            save(folder / f"models/{name}.safetensors", 10 * number + offset)
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", f"version {number}")
        git(folder, "tag", "-a", f"fidelity@v{number}.0.0", "-m", "registered")
    git(folder, "tag", "-a", "fidelity#prod#1", "-m", "assigned", "fidelity@v1.0.0^{}")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("pipeline.registry.artifacts.cache_folder", lambda: tmp_path / "cache/checkpoints")
    return tmp_path / "cache"


def test_tagged_versions_of_another_repository_are_listed_with_stages_and_labels(repository: Path) -> None:
    listed = {row["name"]: row for row in json.loads(models("list", "--repo", repository, "--json"))}
    assert set(listed) == {
        f"{repository}#fidelity@v1.0.0",
        f"{repository}#fidelity@v2.0.0",
        f"{repository}#realism",
    }
    assert listed[f"{repository}#fidelity@v1.0.0"]["note"] == "prod; fidelity of somebody; tiny"
    assert "no version is tagged" in listed[f"{repository}#realism"]["note"]


def test_upscale_takes_a_version_or_stage_of_a_repository_with_its_realism(
    tmp_path: Path, repository: Path, cache: Path
) -> None:
    (tmp_path / "a.png").write_bytes(encoded(1))
    results = {}
    for version in ("v1.0.0", "prod", "v2.0.0"):
        out = tmp_path / version
        model = f"{repository}#fidelity@{version}"
        upscale(tmp_path / "a.png", out, "--model", model, "--realism", "0.5", "--workers", 1)
        image = Image.open(out / "a.png")
        results[version] = np.asarray(image)
    assert (results["v1.0.0"] == results["prod"]).all()
    assert (results["v1.0.0"] != results["v2.0.0"]).any()
    assert len(list(cache.rglob("*.safetensors"))) == 4, "kept for the next time"


@pytest.mark.parametrize(
    ("name", "words"),
    [("#fidelity@v9.0.0", "tagged: v1.0.0, v2.0.0, prod"), ("#nobody@v1.0.0", "no such artifact; there are fidelity")],
)
def test_what_a_repository_lacks_is_one_line_that_says_what_it_has(repository: Path, name: str, words: str) -> None:
    assert words in " ".join(models("info", f"{repository}{name}", code=2).split())


def test_a_folder_that_is_no_repository_is_one_line(tmp_path: Path) -> None:
    assert len(models("list", "--repo", tmp_path / "nothing", code=2).strip().splitlines()) <= 2


def test_a_file_with_a_hash_sign_in_its_name_is_a_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a#b.safetensors", 1)
    assert Reference.parse(str(path)) is None
    assert Reference.parse("https://host/r.git#a@v1.0.0") == Reference("https://host/r.git", "a", "v1.0.0")
    assert Reference.parse("#a") == Reference(None, "a")


# cards and publishing


def front_matter(card: str) -> dict[str, object]:
    _, head, _ = card.split("---\n", 2)
    found: dict[str, object] = yaml.safe_load(head)
    return found


def test_a_published_folder_holds_weights_card_and_sheet_and_says_what_it_is(tmp_path: Path) -> None:
    model = make_models(tmp_path)
    models("publish", model, "--to", tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    described = {"README.md", "sheet.png", "config.json", "card.json"}
    assert names == {"fidelity.safetensors", "realism.safetensors", *described}
    card = (tmp_path / "out/README.md").read_text()
    head = front_matter(card)
    assert (head["license"], head["library_name"], head["pipeline_tag"]) == ("other", "facesr", "image-to-image")
    for heading in ("Intended use", "Not for", "Training", "Limits and bias", "Licence", "How to cite"):
        assert heading in card
    assert str(tmp_path) not in card
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.size == (4 * 256 + 3 * 4, 256)
    models("publish", model, "--to", tmp_path / "out")  # again: its own files are replaced


def test_the_card_of_the_released_pair_has_its_figures_and_survives_publishing(tmp_path: Path) -> None:
    models("publish", "released", "--to", tmp_path)
    card = (tmp_path / "README.md").read_text()
    head = front_matter(card)
    assert head["license"] == "cc-by-nc-sa-4.0"
    assert head["model-index"][0]["results"][0]["metrics"][0]["type"] == "psnr"  # type: ignore[index]
    for phase in ("fidelity", "realism"):
        known = json.loads(models("info", tmp_path / f"{phase}.safetensors", "--json"))
        assert known["licence"] == "cc-by-nc-sa-4.0"


def test_a_folder_of_other_files_is_not_published_into(tmp_path: Path) -> None:
    model = make_models(tmp_path / "models") if (tmp_path / "models").mkdir() is None else None
    (tmp_path / "out").mkdir()
    (tmp_path / "out/README.md").write_text("mine")
    models("publish", model, "--to", tmp_path / "out", code=2)
    models("card", model, "--to", tmp_path / "out", code=2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["README.md"]


def test_a_dry_run_for_a_hub_names_the_files_and_writes_nothing(tmp_path: Path) -> None:
    model = make_models(tmp_path)
    said = models("publish", model, "--to", "hf://somebody/facesr-tiny", "--dry-run")
    for name in ("fidelity.safetensors", "README.md", "sheet.png", "hf://somebody/facesr-tiny"):
        assert name in said
    models("publish", model, "--to", "hf://somebody", "--dry-run", code=2)


def test_an_upload_is_one_commit_of_the_published_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: dict[str, object] = {}

    class Hub:
        def create_repo(self, repo: str, **options: object) -> None:
            uploaded["repo"] = repo, options

        def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> object:
            uploaded["files"] = sorted(path.name for path in Path(folder_path).iterdir())
            return type("Commit", (), {"commit_url": f"hub/{repo_id}/commit"})()

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    said = models("publish", make_models(tmp_path), "--to", "hf://somebody/tiny", "--private")
    assert "hub/somebody/tiny/commit" in said
    assert uploaded["repo"] == ("somebody/tiny", {"private": True, "exist_ok": True})
    assert publish.CONFIG in uploaded["files"]  # type: ignore[operator]


def test_an_ingested_archive_has_a_data_card(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["synth", str(tmp_path / "in"), "--count", "6", "--size", "64", "--workers", "1"])
    assert done.exit_code == 0, done.output
    options = ["--train", "rest", "--test", "2", "--min-size", "64", "--workers", "1"]
    done = CliRunner().invoke(app, ["ingest", str(tmp_path / "in"), "--out", str(tmp_path / "faces"), *options])
    assert done.exit_code == 0, done.output
    models("card", tmp_path / "faces", "--to", tmp_path / "card")
    card = (tmp_path / "card/README.md").read_text()
    head = front_matter(card)
    assert head["license"] == "other"
    assert [part["split"] for part in head["configs"][0]["data_files"]] == ["train", "test"]  # type: ignore[index]
    assert "| test | 2 |" in card
    assert str(tmp_path) not in card
    models("card", tmp_path, "--to", tmp_path / "card", code=2)
