"""Other people's 4x networks, to compare with: weights that spandrel can load.

spandrel (`pip install -e '.[peers]'`) knows the architectures of Real-ESRGAN, ESRGAN, SwinIR, Swin2SR, HAT, DAT, SPAN
and others by the names and shapes of their weights. Weights are read as plain tensors: nothing is unpickled.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from pipeline.core.errors import FacesrError, first_line
from pipeline.core.images import Pixels
from pipeline.core.scales import FACTOR
from pipeline.models.device import choose_device
from pipeline.models.weights_file import FORMAT, ModelError
from pipeline.upscale.tiles import enlarge_tiles
from pipeline.upscale.upscaler import Upscaler

TILE: Final = 512
"""Side of the tiles that larger images are cut into, input pixels; a face of 256 goes through at once."""
OVERLAP: Final = 32
"""How far tiles reach into their neighbours, input pixels."""
SUFFIXES: Final = (".safetensors", ".pth", ".pt", ".ckpt")


class NoSpandrelError(FacesrError):
    """The extra that loads other people's weights is not installed."""


class SpandrelNetwork:
    """A network made by others, in float32: uint8 (h, w, 3) -> uint8 (4h, 4w, 3), sides from 1 up.

    Args:
        descriptor: spandrel's, of the loaded network.
    """

    def __init__(self, descriptor: Any):
        self.device = choose_device()
        self.network = descriptor.to(self.device, torch.float32).eval()
        self.architecture = str(descriptor.architecture.name)
        self.whole = descriptor.tiling.name != "SUPPORTED"
        """Tiles would show: the network looks at the whole image, or cuts it itself."""

    @torch.inference_mode()
    def __call__(self, image: Pixels) -> Pixels:
        """Enlarge one image."""
        height, width = image.shape[:2]
        canvas = np.empty((FACTOR * height, FACTOR * width, 3), np.uint8)
        tile = max(height, width) if self.whole else TILE
        enlarge_tiles(lambda low, _: self._enlarge(low), image, canvas, tile=tile, overlap=OVERLAP, device=self.device)
        return canvas

    def _enlarge(self, low: Tensor) -> Tensor:
        """One pass; spandrel pads by reflection, which must not be wider than the image, so small ones grow first."""
        height, width = low.shape[-2:]
        if min(height, width) < 32:
            low = F.pad(low, (0, max(0, 32 - width), 0, max(0, 32 - height)), mode="replicate")
        result: Tensor = self.network(low)[..., : FACTOR * height, : FACTOR * width]
        if result.shape[-2:] != (FACTOR * height, FACTOR * width):
            raise ModelError(f"{self.architecture} made {tuple(result.shape[-2:])} of {height}x{width}: not 4x")
        return result


def load_network(path: Path) -> Callable[[Pixels], Pixels]:
    """Load a weights file as a method: uint8 (h, w, 3) -> uint8 (4h, 4w, 3), RGB.

    Args:
        path: .safetensors, .pth, .pt or .ckpt of an architecture that spandrel knows, or a generator of facesr, which
            runs as it is, without back-projection.

    Raises:
        ModelError: missing, damaged, of no known architecture, or no 4x network from RGB to RGB.
        NoSpandrelError: the extra is not installed.
    """
    if path.suffix == ".safetensors" and _ours(path):
        return Upscaler.load(path, back_projection=0)
    try:
        import spandrel
    except ImportError as error:
        raise NoSpandrelError(
            f"{path}: other people's weights need spandrel: run `pip install -e '.[peers]'`"
        ) from error
    tensors = spandrel.canonicalize_state_dict(_tensors(path))
    try:
        descriptor = spandrel.MAIN_REGISTRY.load(tensors)
    except spandrel.UnsupportedModelError as error:
        raise ModelError(f"{path}: spandrel knows no architecture with these weights") from error
    except (RuntimeError, KeyError, ValueError, AssertionError, IndexError, AttributeError, TypeError) as error:
        raise ModelError(f"{path}: weights that do not fit their architecture ({first_line(error)})") from error
    name = descriptor.architecture.name
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise ModelError(f"{path}: {name} fills in masked parts of a picture, it does not enlarge")
    if descriptor.scale == 1 and descriptor.purpose == "FaceSR":
        raise ModelError(f"{path}: {name} restores faces 512x512 → 512x512: not a 4x peer")
    if descriptor.scale != FACTOR:
        raise ModelError(f"{path}: {name} enlarges {descriptor.scale}x: not a 4x peer")
    if (descriptor.input_channels, descriptor.output_channels) != (3, 3):
        raise ModelError(f"{path}: {name} has {descriptor.input_channels} channels in, not RGB")
    return SpandrelNetwork(descriptor)


def _ours(path: Path) -> bool:
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False  # said where the tensors are read


def _tensors(path: Path) -> dict[Any, Any]:
    """Read the tensors of a weights file, as they lie in it."""
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    if path.suffix not in SUFFIXES:
        raise ModelError(f"{path}: not a weights file ({', '.join(SUFFIXES)})")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: holds more than tensors and is not loaded: it could run code; save its state dict alone"
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: not a readable weights file ({first_line(error)})") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: holds {type(found).__name__}, not a state dict")
    return found
