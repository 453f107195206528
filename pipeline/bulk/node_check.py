"""What must be the same on every node of a cluster: code, weights, INPUT and OUTPUT. Checked before the start."""

import hashlib
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from pipeline.bulk.outputs import Output
from pipeline.bulk.settings import Settings, absolute, cores
from pipeline.core.errors import FacesrError
from pipeline.core.files import file_hash
from pipeline.models.device import choose_device, choose_precision
from pipeline.runtime.nodes import on_every_node
from pipeline.runtime.ray_session import WorkerError
from pipeline.sources.base import SourceError
from pipeline.sources.open import open_archive
from pipeline.storage.path import StoragePath
from pipeline.upscale.weights import for_sharp
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


@dataclass(frozen=True)
class Machine:
    """What a machine computes with."""

    precision: str
    """bf16 where the hardware computes in it, else fp32."""
    cpus: int
    gpus: int

    @classmethod
    def here(cls) -> "Machine":
        """Ask torch and the operating system of this one."""
        precision = "bf16" if choose_precision("auto", choose_device()) is torch.bfloat16 else "fp32"
        return cls(precision, cores(), torch.cuda.device_count())


@dataclass(frozen=True)
class Node:
    """What a machine is and sees."""

    machine: Machine
    version: str
    code: str
    files: dict[str, str | None]
    """Weights -> sha256; None where there is no such file."""
    marker: str | None
    """What the marker holds that lies beside OUTPUT; None where it is not seen."""
    input: list[Any] | None
    """As `seen` gives it."""


def look(source: str, marker: str, files: list[str]) -> Node:
    """What this machine is and sees; runs on every node."""
    found = None
    with suppress(OSError):
        found = StoragePath.of(marker).read_bytes().decode()
    hashes = {file: file_hash(Path(file)) if Path(file).is_file() else None for file in files}
    return Node(Machine.here(), __version__, code_hash(), hashes, found, seen(source))


def seen(source: str) -> list[Any] | None:
    """What this machine sees of INPUT, without reading it; None where it sees nothing."""
    try:
        path = StoragePath.of(source)
        if path.exists():
            return ["folder"] if path.is_dir() else ["file", path.size()]
        with TemporaryDirectory() as scratch:  # a pattern
            first = next(iter(open_archive(source, Path(scratch)).entries()), None)
        return None if first is None else ["several", first.name]
    except (SourceError, OSError):
        return None


def check_nodes(address: str, source: str, output: Output, settings: Settings) -> list[Machine]:
    """Look from every node, and compare with this machine.

    Args:
        address: of the cluster.
        source: INPUT.
        output: OUTPUT.
        settings: of the run.

    Returns:
        What each node computes with.

    Raises:
        ClusterError: code, weights, INPUT or OUTPUT differ on a node, or it cannot run this at all.
    """
    paths = [settings.fidelity, settings.realism_model, settings.detector, settings.embedding]
    if settings.fidelity is not None:
        paths.append(absolute(for_sharp(Path(settings.fidelity), settings.realism)))
    marker = output.work / "marker"
    marker.write_bytes(secrets.token_hex(16).encode())
    arguments = (source, marker.uri, [path for path in paths if path])
    try:
        here = look(*arguments)
        nodes: dict[str, Node] = on_every_node(look, arguments, address)
    except WorkerError as error:
        raise ClusterError(str(error)) from error
    finally:
        marker.remove()
    problems = [f"node {name}: {problem}" for name, node in nodes.items() for problem in _problems(node, here)]
    if problems:
        raise ClusterError("\n".join(problems))
    return [node.machine for node in nodes.values()]


def _problems(node: Node, here: Node) -> list[str]:
    if node.version != here.version or node.code != here.code:
        return [f"runs another facesr ({node.version}, here {here.version}): install the same on every node"]
    problems = []
    for file, digest in here.files.items():
        if node.files[file] is None:
            problems.append(f"has no {file}: put the weights on storage that all nodes share")
        elif node.files[file] != digest:
            problems.append(f"has other weights at {file}: put them on storage that all nodes share")
    for name, same in (("OUTPUT", node.marker == here.marker), ("INPUT", node.input == here.input)):
        if not same:
            problems.append(f"does not see {name}: it must lie on storage that all nodes share (NFS, s3://…)")
    return problems
