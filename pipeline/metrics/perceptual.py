"""Metric networks: Inception for distances of sets, AlexNet and VGG-16 for LPIPS and DISTS.

Each comes from a weights file that lies on this machine; nothing is downloaded and nothing is unpickled. The code is
torch-fidelity's and torchmetrics'; ours hands them the weights.
"""

import io
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.errors import first_line
from pipeline.core.images import Pixels, resize_floats
from pipeline.pretrained.registry import WeightsError

_SIDE: Final = 299


@contextmanager
def _usable(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a loader raises into a WeightsError that names the file."""
    try:
        yield
    except Exception as error:  # unpickling and load_state_dict raise half a dozen kinds
        raise WeightsError(f"{path} holds no usable {what}: {first_line(error)}") from error


def _tensors(path: Path, what: str) -> dict[str, torch.Tensor]:
    """A file's tensors by name.

    Raises:
        WeightsError: missing or no such file.
    """
    with _usable(path, f"{what} weights"):
        # tensors only: other loaders unpickle, that is run, whatever the file holds
        try:
            state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:  # torch advises to turn weights_only off
            raise ValueError("it is no file of tensors alone, as torch.save writes it") from error
        if not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ValueError("it is not a state dict")
    return state


def clean_resize(pixels: Pixels) -> NDArray[np.float32]:
    """To 299x299 by Pillow's antialiased bicubic, each channel in floats, cut to 0-255, not rounded: (299, 299, 3).

    As clean-fid does (Parmar, Zhang, Zhu, CVPR 2022).
    """
    return np.clip(resize_floats(pixels, _SIDE, _SIDE), 0, 255)


class InceptionFeatures:
    """Pool-3 features of the Inception network that FID is defined on, from a weights file."""

    def __init__(self, weights: Path, device: str = "cpu", layer: str = "2048") -> None:
        """Load the state dict of torch-fidelity's `FeatureExtractorInceptionV3` (TensorFlow's 2015-12-05 Inception).

        Args:
            weights: a PyTorch file of tensors by name.
            device: torch device to run on.
            layer: 2048 is FID's, the last pooling; 64, 192 and 768 are earlier ones, for other distances.

        Raises:
            WeightsError: the file is missing or is not such a state dict.
        """
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        buffer = io.BytesIO()
        torch.save(_tensors(weights, "Inception"), buffer)
        buffer.seek(0)
        with _usable(weights, "Inception weights"):
            network = FeatureExtractorInceptionV3("inception", [layer], feature_extractor_weights_path=buffer)
        self._device = torch.device(device)
        self._network = network.to(self._device)

    def __call__(self, pixels: Pixels, resize: str = "fid") -> NDArray[np.float32]:
        """Features (2048,) of one picture, uint8 (height, width, 3) RGB of any size; `resize` is of RESIZES."""
        with torch.inference_mode():
            if resize == "fid":
                image = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).unsqueeze(0).to(self._device)
                return self._run(image)
            ready = torch.from_numpy(clean_resize(pixels)).permute(2, 0, 1).unsqueeze(0).to(self._device)
            # torch-fidelity takes 8-bit pictures only, and resizes them itself: ours goes in right behind that
            first = self._network.Conv2d_1a_3x3
            handle = first.register_forward_pre_hook(lambda module, given: ((ready - 128) / 128,))
            try:
                return self._run(torch.zeros((1, 3, _SIDE, _SIDE), dtype=torch.uint8, device=self._device))
            finally:
                handle.remove()

    def _run(self, image: Any) -> NDArray[np.float32]:
        features: NDArray[np.float32] = self._network(image)[0][0].cpu().numpy()
        return features


class Perceptual:
    """A distance of two pictures by a network's features: LPIPS or DISTS as torchmetrics has them."""

    def __init__(self, kind: str, weights: Path, device: str = "cpu") -> None:
        """Load the trunk.

        Args:
            kind: `lpips` (AlexNet), `lpips_vgg` or `dists` (VGG-16).
            weights: torchvision's state dict of the trunk, ImageNet's.
            device: torch device to run on.

        Raises:
            WeightsError: the file is missing or is not such a state dict.
        """
        from torchmetrics.functional.image import dists, lpips

        state = _tensors(weights, "AlexNet" if kind == "lpips" else "VGG-16")
        if kind == "dists":
            # its constructor would download the trunk; it is filled from the file below
            with patch.object(dists, "vgg16", lambda weights: SimpleNamespace(features=_layers("vgg16"))):
                network: Any = dists.DISTSNetwork()
            trunk = network
        else:
            with patch.object(lpips, "_get_tv_model_features", lambda net, pretrained: _layers(net)):
                network = lpips._NoTrainLpips(net="alex" if kind == "lpips" else "vgg", pnet_rand=True)
            trunk = network.net
        parts = trunk.state_dict()
        with _usable(weights, f"trunk for {kind}"):
            for name, value in parts.items():
                if found := re.fullmatch(r"(?:slice|stage)\d\.(\d+\.(?:weight|bias))", name):
                    parts[name] = state[f"features.{found[1]}"]
                    if parts[name].shape != value.shape:
                        raise ValueError(f"features.{found[1]} is {tuple(parts[name].shape)}")
            trunk.load_state_dict(parts)
        self._span = (0.0, 1.0) if kind == "dists" else (-1.0, 1.0)
        self._device = torch.device(device)
        self._network = network.to(self._device).eval()

    def __call__(self, truth: Pixels, result: Pixels) -> float:
        """Distance of two uint8 (h, w, 3) pictures, RGB; 0 for identical ones."""
        low, high = self._span
        with torch.inference_mode():
            first, second = (
                torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].to(self._device).float() / 255 * (high - low)
                + low
                for pixels in (result, truth)
            )
            return float(self._network(first, second))


def _layers(net: str) -> Any:
    """Torchvision's feature layers alone: the ones behind them are 100 million parameters that nobody needs."""
    from torchvision.models import alexnet
    from torchvision.models.vgg import cfgs, make_layers

    return make_layers(cfgs["D"]) if net == "vgg16" else alexnet(weights=None).features
