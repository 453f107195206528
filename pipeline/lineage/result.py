"""What an enlarged picture says of itself: the weights that made it, and where these lie."""

import json
import re
import warnings
from pathlib import Path

from PIL import Image

from pipeline.core.files import file_hash

_TEXT = "facesr"
"""Keyword of a PNG's text."""
_TAG = 0x000B
"""ProcessingSoftware, of EXIF: where JPEG and WebP have it."""


def made_by(path: Path) -> dict[str, str] | None:
    """What `facesr upscale` wrote into a picture: software, model, sha256 of weights, realism; None where nothing."""
    # its header alone is read, so that it may be of any size; a result is larger than what Pillow takes for an attack
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            text = image.info.get(_TEXT) or image.getexif().get(_TAG)
        said = json.loads(text) if isinstance(text, str | bytes) else None
    except Exception:  # no picture, or metadata of whatever kind of damage
        return None
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    if not isinstance(said, dict) or "sha256" not in said:
        return None
    return {str(key): str(value) for key, value in said.items()}


def weights_of(said: dict[str, str], project: Path = Path()) -> dict[str, Path | None]:
    """sha256 of each weights file that made a picture -> where it is, among the project's models and the released ones.

    Args:
        said: as `made_by` read it; of mixed generators it names two.
        project: root of the checkout.
    """
    wanted = re.findall("[0-9a-f]{64}", said["sha256"])
    # the last of two equal files counts: the project's own, since its dvc.lock may know what that was made of
    folders = Path(__file__).parent.parent / "released", project / "models"
    files = [
        path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in (".safetensors", ".onnx")
    ]
    known = {file_hash(path): path for path in files} if wanted else {}
    return {digest: known.get(digest) for digest in wanted}
