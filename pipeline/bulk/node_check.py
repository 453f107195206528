"""What must be the same on every node of a cluster: code, weights, INPUT and OUTPUT. Asked before the start."""

import hashlib
import os
import secrets
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from pipeline.bulk.outputs import Output
from pipeline.bulk.task import Settings
from pipeline.core.errors import FacesrError
from pipeline.core.files import file_hash
from pipeline.models.device import choose_device, choose_precision
from pipeline.runtime.nodes import on_every_node
from pipeline.runtime.ray_session import WorkerError
from pipeline.sources.base import SourceError
from pipeline.sources.open import open_archive
from pipeline.storage.path import StoragePath
from pipeline.version import __version__


class ClusterError(FacesrError):
    """A node that cannot do the work; the message says which and why."""


def code_hash() -> str:
    """sha256 over the package's modules: two nodes with the same one compute the same."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}:".encode() + path.read_bytes())
    return digest.hexdigest()


def look(source: str, marker: str, files: list[str]) -> dict[str, Any]:
    """What this machine is and sees; runs on every node."""
    device = choose_device()
    facts: dict[str, Any] = {
        "version": __version__,
        "code": code_hash(),
        "torch": torch.__version__,
        "precision": "bf16" if choose_precision("auto", device) is torch.bfloat16 else "fp32",
        "cpus": os.cpu_count() or 1,
        "gpus": torch.cuda.device_count(),
        "files": {file: file_hash(Path(file)) if Path(file).is_file() else None for file in files},
    }
    try:
        facts["marker"] = StoragePath.of(marker).read_bytes().decode()
    except OSError:
        facts["marker"] = None
    facts["input"] = seen(source)
    return facts


def seen(source: str) -> list[Any] | None:
    """What this machine sees of INPUT, without reading it; None where it sees nothing."""
    try:
        place = StoragePath.of(source)
        if place.exists():
            return ["folder"] if place.is_dir() else ["file", place.size()]
        with TemporaryDirectory() as scratch:  # a pattern
            first = next(iter(open_archive(source, Path(scratch)).entries()), None)
        return None if first is None else ["several", first.name]
    except (SourceError, OSError):
        return None


def check_nodes(address: str, source: str, output: Output, settings: Settings) -> list[dict[str, Any]]:
    """Ask every node, and compare with this machine.

    Args:
        address: of the cluster.
        source: INPUT.
        output: OUTPUT.
        settings: of the run.

    Returns:
        What each node is: `precision`, `cpus`, `gpus`.

    Raises:
        ClusterError: code, weights, INPUT or OUTPUT differ on a node, or it cannot run this at all.
    """
    files = [
        file for file in (settings.fidelity, settings.realism_model, settings.detector, settings.embedding) if file
    ]
    secret = secrets.token_hex(16)
    marker = output.work / "marker"
    marker.write_bytes(secret.encode())
    try:
        nodes = on_every_node(look, (source, marker.uri, files), address)
    except WorkerError as error:
        raise ClusterError(str(error)) from error
    finally:
        marker.remove()
    here: dict[str, Any] = {"version": __version__, "code": code_hash(), "input": seen(source)}
    here["files"] = {file: file_hash(Path(file)) for file in files}
    problems = [
        f"node {node}: {problem}" for node, facts in nodes.items() for problem in _problems(facts, here, secret)
    ]
    if problems:
        raise ClusterError("\n".join(problems))
    return list(nodes.values())


def _problems(facts: dict[str, Any], here: dict[str, Any], secret: str) -> list[str]:
    if facts["version"] != here["version"] or facts["code"] != here["code"]:
        return [f"runs another facesr ({facts['version']}, here {here['version']}): install the same on every node"]
    problems = []
    for file, digest in here["files"].items():
        if facts["files"][file] is None:
            problems.append(f"has no {file}: put the weights on storage that all nodes share")
        elif facts["files"][file] != digest:
            problems.append(f"has other weights at {file}: put them on storage that all nodes share")
    if facts["marker"] != secret:
        problems.append("does not see OUTPUT: it must lie on storage that all nodes share (NFS, s3://…)")
    if facts["input"] != here["input"]:
        problems.append("does not see INPUT: it must lie on storage that all nodes share (NFS, s3://…)")
    return problems
