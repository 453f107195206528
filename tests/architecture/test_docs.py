"""What the documents and the deployment files promise exists: options, files, versions, pictures."""

import re
import shlex
import tempfile
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from PIL import Image
from support.stages import ROOT

from pipeline.cli import app

DOCUMENTS = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OTHERS = ("python", "pip", "docker", "kubectl", "make", "dvc", "ray", "git", "gto")
"""Commands whose options are not ours."""


def leaves(commands: dict[str, Any], before: str = "") -> dict[str, Any]:
    """`upscale`, `weights list` … -> command."""
    found: dict[str, Any] = {}
    for name, one in commands.items():
        inner = getattr(one, "commands", None)
        found |= leaves(inner, f"{before}{name} ") if inner else {f"{before}{name}": one}
    return found


LEAVES = leaves(COMMANDS)


def options_of(command: Any) -> set[str]:
    found = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return {name for name in found if name.startswith("-")} | {"--help", "-h"}


ANY = set().union(*map(options_of, LEAVES.values())) | {"--version"}


def code_of(text: str) -> list[str]:
    """Lines of indented blocks, and code spans; comments left out."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    spans = [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", prose)]
    return [re.split(r"(?:^|\s)#\s", piece)[0].strip() for piece in lines + spans]


def problems(text: str) -> list[str]:
    """Commands and options in the code of a document that do not exist."""
    found = []
    for piece in code_of(text):
        start = re.search(r"(?:^|\s)facesr ([a-z]+(?: [a-z]+)?)", piece)
        if start is not None:
            name = next((name for name in (start[1], start[1].split()[0]) if name in LEAVES), None)
            if name is None:
                found.append(f"{piece}: no such command")
                continue
            known = options_of(LEAVES[name])
        elif piece.split(" ")[0] in OTHERS:
            continue
        else:
            known = ANY
        found += [f"{piece}: {word}" for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", piece) if word not in known]
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_option_that_a_document_names_exists(path: Path) -> None:
    # of scripts that are run by `python …`, options are named in prose as well
    scripts = "".join(file.read_text() for file in (ROOT / "benchmarks").glob("*.py"))
    assert [one for one in problems(path.read_text()) if f'"{one.rpartition(": ")[2]}"' not in scripts] == []


def test_a_wrong_command_or_option_in_a_document_is_found() -> None:
    assert problems("    facesr upscale in out --relism 1   # --nothing\n") != []
    assert problems("Give `--workerz 3`.") != []
    assert problems("Give `facesr enlarge in out`.") != []
    assert problems("Try `facesr upscale in out --realism 1` or `ray start --head` or `facesr weights list`.") == []


def test_every_option_of_upscale_is_told_in_the_document_about_it() -> None:
    told = (ROOT / "docs/upscaling.md").read_text() + (ROOT / "docs/cluster.md").read_text()
    wanted = {name for name in options_of(LEAVES["upscale"]) if name.startswith("--")} - {"--help"}
    assert {name for name in wanted if not re.search(rf"{name}(?![\w-])", told)} == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_pictures_lead_to_files(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (path.parent / link).exists()] == []


def test_the_picture_of_realism_is_small_and_fits_a_page() -> None:
    path = ROOT / "docs/realism.webp"
    assert path.stat().st_size < 300_000
    with Image.open(path) as image:
        assert image.width <= 1000
    assert "realism.webp" in (ROOT / "docs/upscaling.md").read_text()


# deployment


def ray_job() -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load((ROOT / "deploy/rayjob.yaml").read_text())
    return job


def pinned(name: str) -> str:
    found = re.search(rf"^{name}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_job_names_the_ray_that_was_tested_and_a_command_that_exists() -> None:
    job = ray_job()
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned("ray")
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:2] == ["facesr", "upscale"]
    # parsed as the command itself would, which knows also whether values fit
    context = LEAVES["upscale"].make_context("upscale", words[2:])
    assert context.params["address"] == "auto"
    assert context.params["input"].startswith("s3://")
    with pytest.raises(Exception, match="No such option"):
        LEAVES["upscale"].make_context("upscale", [*words[2:], "--workerz", "3"])


def test_the_job_ends_its_cluster_resumes_and_holds_the_workers_that_it_asks_for() -> None:
    spec = ray_job()["spec"]
    cluster = spec["rayClusterSpec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] > 0
    assert cluster["enableInTreeAutoscaling"] is True
    head, (group,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    images = set()
    for part in (head, group):
        (container,) = part["template"]["spec"]["containers"]
        images.add(container["image"])
        assert container["envFrom"] == [{"secretRef": {"name": "facesr-s3"}}]
        assert container["resources"]["requests"] == container["resources"]["limits"]
    assert len(images) == 1, "every node runs the same facesr"
    room = group["maxReplicas"] * int(group["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"])
    assert f"--workers 1:{room} " in f"{spec['entrypoint']} "


def test_the_image_copies_files_that_exist_and_all_that_the_package_is_built_of() -> None:
    text = (ROOT / "deploy/Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert [word for word in copied if not (ROOT / word).exists()] == []
    assert {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "pipeline"} <= set(copied)
    kept = re.findall(r"^!(\S+)$", (ROOT / "deploy/Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert sorted(kept) == sorted(copied), "what is copied must not be ignored, and nothing else is sent"
    tested = re.search(r"Python (3\.\d+)", (ROOT / "constraints.txt").read_text())
    assert tested is not None
    assert f"FROM python:{tested[1]}-slim" in text
    assert "-c constraints.txt" in text
    assert re.search(r"^USER (?!root)\w+$", text, re.MULTILINE)
    assert 'ENTRYPOINT ["facesr"]' in text


HOSTS = {"docs.ray.io", "nvidia.com", "ray.io"}
"""All that documents and deployment may name; the last two are how Kubernetes calls GPUs and KubeRay's API."""


def test_documents_and_deployment_name_no_other_host_and_no_folder_of_a_machine() -> None:
    everywhere = (Path("/"), Path(tempfile.gettempdir()))
    folders = {f"{folder}/" for folder in (ROOT, ROOT.parent, Path.home()) if folder not in everywhere}
    for path in [*DOCUMENTS, *(ROOT / "deploy").iterdir()]:
        text = path.read_text()
        named = set(re.findall(r"\b[\w-]+(?:\.[\w-]+)*\.(?:org|io|com|net|dev)\b", text, re.IGNORECASE))
        assert named <= HOSTS, path
        assert not [folder for folder in folders if folder in text], path


@pytest.mark.parametrize(
    "path", [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "params.yaml"], ids=lambda path: path.name
)
def test_every_module_that_a_document_names_exists(path: Path) -> None:
    named = re.findall(r"\b(?:pipeline|tests|stages|benchmarks)/[\w/]+\.\w+", path.read_text())
    assert [name for name in named if not (ROOT / name).exists() and not re.search("NAME|SECTION", name)] == []
