"""One place for networks that come from elsewhere: where they lie, where to get them, and their checksums."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch

from pipeline.shards import atomic, file_hash


class WeightsError(ValueError):
    """A network is not at hand; the message says which file, where to get it and where to put it."""


@dataclass(frozen=True)
class Network:
    """A published weights file."""

    file: str
    url: str
    sha256_start: str
    """First digits of the file's sha256, as published in its name."""
    use: str


NETWORKS = {
    "vgg19": Network(
        "vgg19-dcbb9e9d.pth",
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        "dcbb9e9d",
        "perceptual loss (torchvision, ImageNet)",
    ),
    "inception": Network(
        "weights-inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        "6726825d",
        "Fréchet Inception distance (torch-fidelity's copy of the 2015-12-05 network)",
    ),
}


def cache_folder() -> Path:
    """Torch's own cache, so that a network which torchvision has fetched already is found."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def find(name: str, file: str | None = None) -> Path:
    """Path of a network's weights: the file named in params, else torch's cache.

    Raises:
        WeightsError: not there; one line says file, where to get it and where to put it.
    """
    if file is not None:
        if not Path(file).is_file():
            raise WeightsError(f"{name}: params name {file}, which does not exist")
        return Path(file)
    network = NETWORKS[name]
    path = cache_folder() / network.file
    if not path.is_file():
        raise WeightsError(
            f"{name}: {network.file} is not on this machine; run `facesr weights fetch {name}`, or get {network.url} "
            f"elsewhere and run `facesr weights add {network.file}` (it belongs in {cache_folder()})"
        )
    return path


def find_optional(name: str, file: str | None = None) -> Path | None:
    """As `find`, with None where params name no file and the cache has none.

    Raises:
        WeightsError: params name a file that does not exist.
    """
    return find(name, file) if file is not None or (cache_folder() / NETWORKS[name].file).is_file() else None


def find_or_fetch(name: str, file: str | None = None) -> Path:
    """As `find`, with a download where the file is in neither place.

    Raises:
        WeightsError: neither found nor reachable.
    """
    try:
        return find(name, file)
    except WeightsError:
        if file is not None:
            raise
        return fetch(name)


def fetch(name: str) -> Path:
    """Download a network into the cache and verify its checksum.

    Raises:
        WeightsError: offline, or the checksum differs.
    """
    network = NETWORKS[name]
    path = cache_folder() / network.file
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(network.url, str(path), hash_prefix=network.sha256_start)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"{name}: {network.url} could not be fetched ({error}); get it elsewhere and run "
            f"`facesr weights add {network.file}` (it belongs in {cache_folder()})"
        ) from error
    return path


def add(file: Path) -> tuple[str, Path]:
    """Copy a file got elsewhere into the cache, recognised by its checksum, and return its network's name and place.

    Raises:
        WeightsError: missing, or not the published file of any network known here.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: no such file")
    digest = file_hash(file)
    for name, network in NETWORKS.items():
        if digest.startswith(network.sha256_start):
            path = cache_folder() / network.file
            with atomic(path) as temporary:
                shutil.copyfile(file, temporary)
            return name, path
    known = ", ".join(f"{network.file} ({network.sha256_start}…)" for network in NETWORKS.values())
    raise WeightsError(
        f"{file}: its sha256 {digest[:8]}… is none of {known}; name another file directly in params.yaml instead"
    )
