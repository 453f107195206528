"""Load a generator from whatever file holds it: safetensors, or ONNX."""

from pathlib import Path

from pipeline.models.checkpoint import interpolate, load_generator
from pipeline.models.networks import Generator
from pipeline.models.weights_file import Metadata, ModelError
from pipeline.upscale.onnx_generator import SUFFIX, OnnxGenerator, load_onnx


def load(path: Path) -> tuple[Generator | OnnxGenerator, Metadata]:
    """Load a generator by its file's ending.

    Raises:
        ModelError: the file cannot be used.
    """
    return load_onnx(path) if path.suffix == SUFFIX else load_generator(path)


def mixed(low: Generator | OnnxGenerator, high: Generator | OnnxGenerator, share: float) -> Generator:
    """A generator whose weights lie `share` (0..1) of the way from `low` to `high`.

    Raises:
        ModelError: two architectures, or a file whose weights cannot be changed any more.
    """
    if isinstance(low, Generator) and isinstance(high, Generator):
        return interpolate(low, high, share)
    raise ModelError("exported generators cannot be mixed: realism 0 or 1, or the .safetensors they were exported from")
