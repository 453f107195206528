"""Export a generator as ONNX or as a torch.export program, and check what was written against the original.

The bicubic skip has no operator in ONNX: antialiased enlargement by 4 is written as convolution with the 16 kernels of
its sub-pixel positions, 5x5 taps, and pixel shuffle, divided by the same of a picture of ones, since at the border the
taps that are left are weighted to a sum of 1.
"""

import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.errors import FacesrError
from pipeline.core.files import atomic, write_bytes
from pipeline.models.checkpoint import load_generator
from pipeline.models.networks import Generator, enlarge
from pipeline.upscale.onnx_generator import FORMAT, IMAGE, RESULT, SUFFIX, TOLD_INPUT, load_onnx

FORMATS = {SUFFIX: "onnx", ".pt2": "torch"}
"""Ending -> format."""
TOLERANCE = 1.0
"""Grey levels by which a pixel of the exported generator may differ."""
_SIZES = ((1, 1, 1), (2, 3, 2), (1, 5, 4))
"""Batch, height and width in units of 16 pixels that the export is checked at."""


class ExportError(FacesrError):
    """A generator that could not be exported, or whose export differs from it."""


class Enlarge(nn.Module):
    """`networks.enlarge` by convolutions: (N, 3, h, w) -> (N, 3, 4h, 4w)."""

    def __init__(self) -> None:
        super().__init__()
        impulse = torch.zeros(1, 1, 9, 9)
        impulse[..., 4, 4] = 1
        out = enlarge(impulse)[0, 0].double()
        # what an input pixel gives to the 16 results of the pixel d rows below and e columns right of it
        taps = [
            [[float(out[4 * (4 - d) + y, 4 * (4 - e) + x]) for e in range(-2, 3)] for d in range(-2, 3)]
            for y in range(4)
            for x in range(4)
        ]
        self.register_buffer("kernel", torch.tensor(taps)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """Zeros around the picture add nothing, and the sum of the weights that count is divided by."""
        kernel = self.kernel
        assert isinstance(kernel, Tensor)  # noqa: S101
        result = F.conv2d(F.pad(x, (2, 2, 2, 2)), kernel.repeat(3, 1, 1, 1), groups=3)
        weights = F.conv2d(F.pad(torch.ones_like(x[:1, :1]), (2, 2, 2, 2)), kernel)
        return F.pixel_shuffle(result, 4) / F.pixel_shuffle(weights, 4)


class _Blind(nn.Module):
    """A generator as it is exported: image -> enlarged."""

    def __init__(self, generator: Generator):
        super().__init__()
        self.generator, self.enlarge = generator, Enlarge()

    def forward(self, image: Tensor) -> Tensor:
        return self.enlarge(image) + self.generator.drawn(image)


class _Told(_Blind):
    """A generator that is told of its input: image, told -> enlarged."""

    def forward(self, image: Tensor, told: Tensor) -> Tensor:  # type: ignore[override]
        return self.enlarge(image) + self.generator.drawn(image, told)


def export(weights: Path, target: Path) -> float:
    """Write a generator as ONNX (`.onnx`) or as a torch.export program (`.pt2`): float32, batch and sides dynamic.

    Inputs: `image` (N, 3, h, w) in 0..1, sides multiples of the generator's `multiple`; of a generator that is told,
    also `told` (N, 2). Output: `enlarged` (N, 3, 4h, 4w), not clamped.

    Returns:
        The largest difference from the original on pictures of random pixels, grey levels.

    Raises:
        ExportError: another ending, the extra is not installed, or results differ by more than `TOLERANCE`.
        ModelError: the weights cannot be used.
    """
    if target.suffix not in FORMATS:
        raise ExportError(f"{target}: must end in {' or '.join(FORMATS)}")
    generator, described = load_generator(weights)
    module = (_Told if generator.config.told else _Blind)(generator).eval()
    arguments = _arguments(generator, 2, 2, 3)
    metadata = {
        "format": FORMAT,
        "config": json.dumps(described["config"], sort_keys=True),
        "provenance": json.dumps(described["provenance"], sort_keys=True),
        "weights_sha256": described["sha256"],
        "multiple": str(generator.multiple),
        "scale": "4",
    }
    with _quiet(), torch.no_grad():
        program = torch.export.export(module, arguments, dynamic_shapes=_shapes(generator), strict=False)
        if target.suffix == SUFFIX:
            _write_onnx(program, arguments, metadata, target)
        else:
            _write_program(program, metadata, target)
        return _checked(generator, target)


def _arguments(generator: Generator, count: int, height: int, width: int) -> tuple[Tensor, ...]:
    """Random inputs; sides in units of 16 pixels, which every generator takes."""
    random = torch.Generator().manual_seed(1)
    image = torch.rand(count, 3, 16 * height, 16 * width, generator=random)
    told = torch.rand(count, len(generator.config.told), generator=random)
    return (image, told) if generator.config.told else (image,)


def _shapes(generator: Generator) -> tuple[Any, ...]:
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    sides = [torch.export.Dim(name, min=1, max=1 << 16) for name in ("rows", "columns")]
    if generator.multiple > 1:
        sides = [generator.multiple * side for side in sides]
    image = {0: batch, 2: sides[0], 3: sides[1]}
    return (image, {0: batch}) if generator.config.told else (image,)


def _write_onnx(program: Any, arguments: tuple[Tensor, ...], metadata: dict[str, str], target: Path) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError as error:
        raise ExportError("exporting as ONNX needs `pip install -e '.[export]'`") from error
    names = [IMAGE, TOLD_INPUT][: len(arguments)]
    done = torch.onnx.export(program, arguments, dynamo=True, verbose=False, input_names=names, output_names=[RESULT])
    assert done is not None  # noqa: S101
    model = done.model_proto
    model.producer_name = "facesr"
    for node in (*model.graph.node, *model.graph.value_info, *(n for f in model.functions for n in f.node)):
        node.doc_string = ""
        del node.metadata_props[:]  # stack traces with folders of this machine
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    write_bytes(target, model.SerializeToString(deterministic=True))


def _write_program(program: Any, metadata: dict[str, str], target: Path) -> None:
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    program._example_inputs = None
    with atomic(target) as temporary, tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "program.pt2"  # torch wants the ending
        torch.export.save(program, written, extra_files={"facesr.json": json.dumps(metadata, sort_keys=True)})
        temporary.write_bytes(written.read_bytes())


def _checked(generator: Generator, target: Path) -> float:
    """Largest difference of what was written, grey levels, as a reader of the file gets it."""
    run = load_onnx(target)[0] if target.suffix == SUFFIX else torch.export.load(target).module()
    worst = 0.0
    for size in _SIZES:
        arguments = _arguments(generator, *size)
        wanted, found = generator(*arguments), run(*arguments)
        worst = max(worst, float((wanted - found).abs().max()) * 255)
    if not np.isfinite(worst) or worst > TOLERANCE:
        target.unlink()
        raise ExportError(f"{target}: differs by {worst:.2f} grey levels from the weights, and was not kept")
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch's exporter says of its own future is nothing to the user."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
