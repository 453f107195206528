"""Load generators from whatever files hold them, safetensors or ONNX: one, two mixed, or one and another for sharp
pictures.
"""

from pathlib import Path

from pipeline.models.checkpoint import interpolate, load_generator
from pipeline.models.networks import Generator
from pipeline.models.weights_file import Metadata, ModelError
from pipeline.upscale.onnx_generator import SUFFIX, OnnxGenerator, load_onnx
from pipeline.upscale.weights import FOR_SHARP, for_sharp

AnyGenerator = Generator | OnnxGenerator


def checksums(metadata: Metadata) -> str:
    """sha256 of all files that pictures may be enlarged by, as `load_all` found them, with a comma between two."""
    return ",".join(filter(None, [metadata["sha256"], metadata.get(FOR_SHARP)]))


def load(path: Path) -> tuple[AnyGenerator, Metadata]:
    """Load a generator by its file's ending.

    Raises:
        ModelError: the file cannot be used.
    """
    return load_onnx(path) if path.suffix == SUFFIX else load_generator(path)


def load_all(fidelity: Path, crisp: Path | None, realism: float) -> tuple[AnyGenerator, Metadata, AnyGenerator | None]:
    """Load what `upscale.weights.choose` chose, and what lies beside it for sharp pictures.

    Args:
        fidelity: weights file.
        crisp: of the realism generator; None where `realism` is 0.
        realism: 0 to 1.

    Returns:
        The generator; what its file says of it, where two were mixed with both in `sha256`, and where there is another
        for sharp pictures with its sha256 as `sharp`; and that other one.

    Raises:
        ModelError: a file cannot be used, or two differ in architecture.
    """
    if crisp is not None and realism == 1:
        return *load(crisp), None
    generator, metadata = load(fidelity)
    if crisp is not None:
        other, described = load(crisp)
        mix = f"{metadata['sha256']}+{realism:g}*{described['sha256']}"
        return _mixed(generator, other, realism), metadata | {"sha256": mix}, None
    beside = for_sharp(fidelity, realism)
    if beside is None:
        return generator, metadata, None
    special, described = load(beside)
    if _interface(special) != _interface(generator):
        raise ModelError(f"{beside}: not of the architecture of {fidelity.name} beside it: move it elsewhere")
    return generator, metadata | {FOR_SHARP: described["sha256"]}, special


def _interface(generator: AnyGenerator) -> tuple[object, ...]:
    """What must be alike for the same pictures to go through one or another, in the same pieces."""
    config = generator.config
    return type(generator), generator.multiple, generator.reach, config.told, config.norm


def _mixed(low: AnyGenerator, high: AnyGenerator, share: float) -> Generator:
    """A generator whose weights lie `share` (0..1) of the way from `low` to `high`.

    Raises:
        ModelError: two architectures, or a file whose weights cannot be changed any more.
    """
    if isinstance(low, Generator) and isinstance(high, Generator):
        return interpolate(low, high, share)
    raise ModelError("exported generators cannot be mixed: realism 0 or 1, or the .safetensors they were exported from")
