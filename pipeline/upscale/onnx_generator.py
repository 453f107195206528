"""A generator that `facesr models export` wrote as ONNX, run by ONNX Runtime in the place of torch's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.core.errors import first_line
from pipeline.core.files import file_hash
from pipeline.models.config import GeneratorConfig
from pipeline.models.networks import Generator
from pipeline.models.weights_file import Metadata, ModelError, check_format

FORMAT = "facesr-onnx-1"
SUFFIX = ".onnx"
IMAGE, TOLD_INPUT, RESULT = "image", "told", "enlarged"
"""Names of the graph's inputs and of its output."""


class OnnxGenerator(nn.Module):
    """As `Generator`, in float32 whatever the precision: (N, 3, h, w) -> (N, 3, 4h, 4w).

    Args:
        session: of ONNX Runtime.
        config: of the generator that was exported.
    """

    def __init__(self, session: Any, config: GeneratorConfig):
        super().__init__()
        self.session, self.config = session, config
        with torch.device("meta"):  # of its shape alone
            described = Generator(config)
        self.multiple, self.reach = described.multiple, described.reach

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        """Arguments as of `Generator.forward`."""
        values = {IMAGE: _array(x)}
        if self.config.told:
            count = len(x), len(self.config.told)
            values[TOLD_INPUT] = np.zeros(count, np.float32) if told is None else _array(told)
        return torch.from_numpy(self.session.run([RESULT], values)[0]).to(x.device)


def _array(x: Tensor) -> Any:
    return np.ascontiguousarray(x.detach().float().cpu().numpy())


def load_onnx(path: Path) -> tuple[OnnxGenerator, Metadata]:
    """Load an exported generator. ONNX is data: no code of the file is run, and no operators but the standard's are.

    Returns:
        The generator, and what the file says of it, as `load_generator` does.

    Raises:
        ModelError: missing, damaged, not of facesr, of a newer facesr; or ONNX Runtime is not installed.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    try:
        import onnxruntime  # an extra
    except ImportError as error:
        raise ModelError(f"{path}: ONNX needs `pip install -e '.[export]'`") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # the runtime has classes of its own for each way of being damaged
        raise ModelError(f"{path}: not a readable ONNX file ({first_line(error)})") from error
    said = session.get_modelmeta().custom_metadata_map
    check_format(path, said.get("format"), FORMAT)
    try:
        config = GeneratorConfig.from_dict(json.loads(said["config"]))
        provenance = json.loads(said["provenance"]) | {"exported_from": said["weights_sha256"]}
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: says nothing usable of its generator ({first_line(error)})") from error
    generator = OnnxGenerator(session, config)
    return generator, {"config": json.loads(said["config"]), "provenance": provenance, "sha256": file_hash(path)}


def is_export(path: Path) -> bool:
    """True if a file was exported here."""
    with path.open("rb") as handle:
        data = handle.read()
    return FORMAT.rpartition("-")[0].encode() in data
