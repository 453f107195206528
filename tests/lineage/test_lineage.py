"""From a number back to the archive, and from a picture to the models that saw it."""

import json
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
import torch
from support.project import TINY, of_split, run
from support.stages import ROOT

from pipeline.core.files import content_hash
from pipeline.lineage.commands import FIGURES
from pipeline.lineage.lock import maker, read_lock
from pipeline.lineage.trace import numbers
from pipeline.models.checkpoint import load_generator, save_generator
from pipeline.models.networks import Generator


def test_a_number_leads_to_weights_pairs_shards_and_the_source(project: Path) -> None:
    found = run("lineage").output
    for words in (
        "test, 64to256, facesr, PSNR: 31.250",
        "models/fidelity.safetensors",
        "data/pairs.parquet",
        "data/faces",
        "in.zip",
    ):
        assert words in found
    assert "trained on the inputs and pairs that are here" in found
    assert found.count("as locked") >= 5
    (project / "data/pairs.parquet").write_bytes(b"other")
    tree = json.loads(run("lineage", "models/fidelity.safetensors", "--json").output)
    states = {node["path"]: node["state"] for node in tree["made_of"]}
    assert states == {"data/inputs/train": "as locked", "data/pairs.parquet": "changed since"}


def test_the_figures_that_it_begins_with_are_what_a_stage_of_the_pipeline_writes() -> None:
    stages = read_lock((ROOT / "dvc.lock").read_bytes())
    assert maker(stages, FIGURES) is not None
    assert any("facesr, PSNR" in name for name, _ in numbers(ROOT / FIGURES))


def test_a_supervised_twin_learned_from_the_faces_that_are_here(project: Path) -> None:
    data = content_hash(project / "data/faces", project / "data/pairs.parquet")
    provenance = {"phase": "twin", "data_sha256": data}
    twin = project / "models/baselines/twin.safetensors"
    save_generator(twin, Generator(TINY), TINY, provenance, torch.float32)
    found = json.loads(run("lineage", "--image", of_split(project, "train"), "--json").output)
    assert {model["model"]: model["seen"] for model in found["models"]}["models/baselines/twin.safetensors"] is True


def test_a_picture_leads_to_its_split_pairs_results_and_models(project: Path) -> None:
    found = json.loads(run("lineage", "--image", of_split(project, "train")[:10], "--json").output)
    (picture,) = found["pictures"]
    assert picture["split"] == "train"
    assert sum(picture["pairs"].values()) == 4
    assert [shard.split("/")[1] for shard in picture["shards"]] == ["faces", "inputs"]
    assert len(picture["results"]) == 1
    seen = {model["model"]: model["seen"] for model in found["models"]}
    assert seen == {"models/fidelity.safetensors": True, "models/old.safetensors": None}
    found = json.loads(run("lineage", "--image", of_split(project, "test"), "--json").output)
    assert found["models"][0]["seen"] is False
    assert found["pictures"][0]["pairs"] == {}


def test_a_path_may_be_spelled_in_any_way_and_what_is_not_there_is_said(project: Path) -> None:
    usual = run("lineage", "data/faces").output
    for spelling in ("./data/faces", "data/faces/", "data/../data/faces", str(project / "data/faces")):
        assert run("lineage", spelling).output == usual
    assert "no such file" in run("lineage", "data/faces/train-99999.parquet", code=2).output


def test_a_model_that_began_with_weights_of_other_data_is_not_said_to_have_seen_nothing(project: Path) -> None:
    path = project / "models/fidelity.safetensors"
    generator, said = load_generator(path)
    provenance = said["provenance"] | {"earlier_data_sha256": ["unknown"]}
    save_generator(path, generator, generator.config, provenance, torch.float32)
    for split, seen in (("test", None), ("train", True)):
        found = json.loads(run("lineage", "--image", of_split(project, split), "--json").output)
        assert {model["model"]: model["seen"] for model in found["models"]}["models/fidelity.safetensors"] is seen


def test_a_tag_of_any_name_is_looked_at_and_one_without_results_is_not_named(project: Path) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    commands = [["init", "-q"], ["commit", "-qm", "empty", "--allow-empty"], ["tag", "before"]]
    commands += [["add", "-f", "dvc.lock"], ["commit", "-qm", "x", "--allow-empty"], ["tag", "v1"]]
    for arguments in commands:
        subprocess.run([*git, *arguments], cwd=project, check=True)
    found = json.loads(run("lineage", "--image", of_split(project, "train"), "--json").output)
    seen = {model["model"]: model["seen"] for model in found["models"]}
    assert seen["v1"] is True
    assert "before" not in seen


def test_a_tagged_version_made_of_the_same_pairs_is_named(project: Path) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "dvc.lock"], ["commit", "-qm", "x"], ["tag", "fidelity@v1.0.0"]):
        subprocess.run([*git, *arguments], cwd=project, check=True)
    found = json.loads(run("lineage", "--image", of_split(project, "train"), "--json").output)
    assert {model["model"]: model["seen"] for model in found["models"]}["fidelity@v1.0.0"] is True


def test_branches_and_experiments_are_looked_at_and_other_pairs_of_the_same_inputs_saw_it(project: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments], check=True)

    for arguments in (["init", "-q", "-b", "main"], ["add", "dvc.lock"], ["commit", "-qm", "x"]):
        git(*arguments)
    git("branch", "copy")
    text = (project / "dvc.lock").read_text()
    pairs = json.loads(text)["stages"]["pairs"]["outs"][1]["md5"]
    (project / "dvc.lock").write_text(text.replace(pairs, "0" * 32))
    git("commit", "-qam", "other pairs")
    for name in ("refs/heads/other", "refs/exps/ab/cdef/short-pike", "refs/exps/exec/EXEC_HEAD"):
        git("update-ref", name, "HEAD")
    git("tag", "v2")
    git("reset", "-q", "--hard", "HEAD~")
    found = json.loads(run("lineage", "--image", of_split(project, "train"), "--json").output)
    seen = {model["model"]: (model["seen"], model["why"]) for model in found["models"]}
    assert seen["copy"] == (True, "made from the pairs that are here")
    assert seen["v2"] == (True, "made from the inputs that are here")
    assert seen["short-pike, other"] == seen["v2"], "their results are the same"
    assert not {"main", "EXEC_HEAD"} & seen.keys()
    (project / "dvc.lock").write_text(text + " ")  # run again since, and not committed
    found = json.loads(run("lineage", "--image", of_split(project, "train"), "--json").output)
    assert "copy, main" in {model["model"] for model in found["models"]}


def test_a_lock_that_is_not_committed_is_not_said_to_be_of_the_commit(project: Path) -> None:
    for arguments in (
        ["init", "-q"],
        ["add", "dvc.lock"],
        ["-c", "user.name=t", "-c", "user.email=t@x", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *arguments], check=True)
    assert "changed since: not committed" not in run("lineage").output
    with (project / "dvc.lock").open("a") as lock:
        lock.write(" ")
    assert "changed since: not committed" in run("lineage").output


def test_without_the_manifest_nothing_is_said_of_pairs(project: Path) -> None:
    face = of_split(project, "train")
    (project / "data/pairs.parquet").unlink()
    said = run("lineage", "--image", face).output
    assert "pairs: data/pairs.parquet is not here" in said
    assert "models/fidelity.safetensors: not known: data/pairs.parquet is not here" in said


@pytest.mark.parametrize("name", ["result.png", "result.jpg", "result.webp"])
def test_an_enlarged_picture_leads_to_the_weights_that_made_it_and_what_they_learned_from(
    project: Path, name: str
) -> None:
    model = project / "models/fidelity.safetensors"
    run("upscale", "in/1.png", name, "--model", str(model), "--workers", "1")
    said = run("lineage", name).output
    for words in ("models/fidelity.safetensors [", "data/pairs.parquet", "in.zip", "software: facesr "):
        assert words in said
    model.rename(project / "elsewhere.safetensors")
    found = json.loads(run("lineage", name, "--json").output)
    (digest,) = found["weights"]
    assert found["made_by"]["sha256"] == digest
    assert f"weights {digest[:12]}: not here" in run("lineage", name).output


def test_the_released_generators_are_found_by_what_they_made(project: Path) -> None:
    run("upscale", "in/1.png", "result.png", "--realism", "0.5", "--workers", "1")
    said = run("lineage", "result.png").output
    assert "released/fidelity.safetensors" in said
    assert "released/realism.safetensors" in said
    assert "no stage of dvc.lock wrote it" in run("lineage", "in/1.png", code=2).output


def test_a_result_larger_than_what_pillow_takes_for_an_attack_is_read_and_odd_metadata_are_no_traceback(
    project: Path,
) -> None:
    run("upscale", "in/1.png", "large.png", "--workers", "1")
    data = bytearray((project / "large.png").read_bytes())
    data[16:24] = struct.pack(">II", 16_000, 12_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (project / "large.png").write_bytes(data)
    assert "software: facesr" in run("lineage", "large.png").output
    (project / "odd.jpg").write_bytes(b"\xff\xd8\xff\xe1\x00\x16Exif\0\0MM\0*\0\0\0\x08\xff\xff\0\x0b\0\2")
    assert "no stage of dvc.lock wrote it" in run("lineage", "odd.jpg", code=2).output


@pytest.mark.parametrize(
    "arguments", [["lineage", "--image", "nobody"], ["lineage", "README.md"], ["forget", "nobody"]]
)
def test_what_is_not_known_is_one_line(project: Path, arguments: list[str]) -> None:
    assert len(run(*arguments, code=2).output.strip().splitlines()) <= 2
