"""Networks that come from elsewhere: where they lie, where to get them, and their checksums."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from pipeline.core.errors import FacesrError
from pipeline.core.files import atomic, file_hash


class WeightsError(FacesrError):
    """A network is not at hand; the message says which file, where to get it and where to put it."""


@dataclass(frozen=True)
class Network:
    """A published weights file."""

    file: str
    url: str
    """"" where no address of exactly this file is known."""
    sha256: str
    """The file's sha256, or as many of its first digits as are published."""
    use: str
    option: str = ""
    """Option of `facesr upscale` that names a file, "" where params.yaml does."""
    instead: tuple[str, ...] = ()
    """Networks, by name, that serve as well where this one is not at hand."""


def _of_torch(file: str, use: str) -> Network:
    """A file from torch's own server, which names it by the first digits of its sha256."""
    return Network(file, f"https://download.pytorch.org/models/{file}", Path(file).stem.rpartition("-")[2], use)


NETWORKS = {
    "vgg19": _of_torch("vgg19-dcbb9e9d.pth", "perceptual loss (torchvision, ImageNet)"),
    "inception": Network(
        "weights-inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        "6726825d",
        "Fréchet Inception distance (torch-fidelity's copy of the 2015-12-05 network)",
    ),
    "alexnet": _of_torch(
        "alexnet-owt-7be5be79.pth", "LPIPS (torchvision, ImageNet; its linear layers come with torchmetrics)"
    ),
    "vgg16": _of_torch(
        "vgg16-397923af.pth",
        "LPIPS with VGG, DISTS (torchvision, ImageNet; their own layers come with torchmetrics)",
    ),
    # the copy in OpenCV's model zoo, whose checksum the zoo's Git LFS pointer states
    "detector": Network(
        "face_detection_yunet_2023mar.onnx",
        "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx",
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        "finding faces (YuNet): upscale --faces, --check, evaluate",
        option="--detector",
        instead=("detector-320",),
    ),
    # its authors' copy, from onnx/ of ShiqiYu/libfacedetection.train; it changed there: no address is of this one alone
    "detector-320": Network(
        "yunet_n_320_320.onnx",
        "",
        "81dbde155e982455488235acb8ec2dec5d647edf7cf7080d33e4abb69b93a0d2",
        "in place of detector: the file that YuNet's authors published",
        option="--detector",
    ),
    "embedding": Network(
        "mobilefacenet.onnx",
        "",
        "b7120c095d60094f28a4a54ba6a8bf51b297a6273fb40ef6350dfec1f63d9507",
        "identity of enlarged faces (MobileFaceNet, 112x112 to 128 numbers): upscale --check, evaluate",
        option="--embedding",
    ),
}


def cache_folder() -> Path:
    """Torch's own cache, so that a network which torchvision has fetched already is found.

    Where torch is not imported, which takes two seconds and which measuring without networks does not need, the place
    is worked out as `torch.hub.get_dir` documents it.
    """
    if "torch" in sys.modules:
        return Path(sys.modules["torch"].hub.get_dir()) / "checkpoints"
    usual = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    return Path(os.environ.get("TORCH_HOME", usual)).expanduser() / "hub/checkpoints"


def _cached(name: str) -> Path | None:
    """A network's file in the cache, or that of one that serves as well."""
    paths = (cache_folder() / NETWORKS[known].file for known in (name, *NETWORKS[name].instead))
    return next((path for path in paths if path.is_file()), None)


def _how_to_get(name: str, fetchable: bool) -> str:
    """What a user can do to have a network, in words."""
    network = NETWORKS[name]
    get = f"get {network.url} elsewhere"
    if not network.url:
        get = f"no download address is known; get a file called {network.file}"
    steps = [f"run `facesr weights fetch {name}`"] if network.url and fetchable else []
    steps.append(f"{get} and run `facesr weights add {network.file}`")
    if network.option:
        steps.append(f"name one with {network.option} FILE")
    files = [NETWORKS[known] for known in (name, *network.instead)]
    sums = ", or ".join(f"{file.file} with sha256 {file.sha256}" for file in files)
    return f"{', or '.join(steps)} (it belongs in {cache_folder()}: {sums})"


def find(name: str, file: str | None = None) -> Path:
    """Path of a network's weights: the file that params or an option name, else torch's cache.

    Raises:
        WeightsError: not there; one line says file, where to get it and where to put it.
    """
    network = NETWORKS[name]
    path = _cached(name) if file is None else Path(file)
    if path is None:
        raise WeightsError(f"{name}: {network.file} is not on this machine; {_how_to_get(name, True)}")
    if not path.is_file():
        raise WeightsError(f"{name}: {network.option or 'params.yaml'} names {file}, which does not exist")
    return path


def find_optional(name: str, file: str | None = None) -> Path | None:
    """As `find`, with None where no file is named and the cache has none.

    Raises:
        WeightsError: the file that is named does not exist.
    """
    return find(name, file) if file is not None or _cached(name) else None


def find_or_fetch(name: str, file: str | None = None) -> Path:
    """As `find`, with a download where the file is in neither place.

    Raises:
        WeightsError: neither found nor reachable.
    """
    return find_optional(name, file) or fetch(name)


def fetch(name: str) -> Path:
    """Download a network into the cache and verify its checksum.

    Raises:
        WeightsError: offline, the checksum differs, or no address is known.
    """
    network = NETWORKS[name]
    path = cache_folder() / network.file
    if path.is_file():
        return path
    if not network.url:
        raise WeightsError(f"{name}: {_how_to_get(name, False)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        import torch

        torch.hub.download_url_to_file(network.url, str(path), hash_prefix=network.sha256)
    except (URLError, OSError, RuntimeError) as error:
        message = f"{name}: {network.url} could not be fetched ({error}); {_how_to_get(name, False)}"
        raise WeightsError(message) from error
    return path


def add(file: Path) -> tuple[str, Path]:
    """Copy a file got elsewhere into the cache, recognised by its checksum, and return its network's name and path.

    Raises:
        WeightsError: missing, or not the published file of any network known here.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: no such file")
    digest = file_hash(file)
    for name, network in NETWORKS.items():
        if digest.startswith(network.sha256):
            path = cache_folder() / network.file
            with atomic(path) as temporary:
                shutil.copyfile(file, temporary)
            return name, path
    known = ", ".join(f"{network.file} ({network.sha256[:8]}…)" for network in NETWORKS.values())
    raise WeightsError(
        f"{file}: its sha256 {digest[:8]}… is none of {known}; name another file directly instead, in "
        "params.yaml or with --detector or --embedding of `facesr upscale`"
    )
