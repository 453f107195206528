"""Enlarge shards of inputs: the worker of the upscale stage."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.degradation import Degradations, degrade, draw_degradation, reduce
from pipeline.core.errors import FacesrError, first_line
from pipeline.core.images import decode, encode_png
from pipeline.core.scales import AUGMENTED, METHODS, SIDE
from pipeline.core.schema import UPSCALED
from pipeline.core.shards import read_range, write_rows
from pipeline.runtime.units import RowUnit, Statistics
from pipeline.upscale.allocator import keep_freed_memory
from pipeline.upscale.upscaler import Upscaler


class UpscaleWorker:
    """Columns in: FACES (inputs). Columns out: UPSCALED, one row per input, ok or failed.

    At 256to1024 the input itself is enlarged; at 64to256 the input reduced 4 times is, if it is 256x256: smaller inputs
    have no row there. At an augmented scale that is degraded first, by what `draw_degradation` draws with
    `augment`.
    """

    def __init__(
        self,
        inputs: str,
        models: Mapping[str, str],
        options: Mapping[str, Any],
        augment: Degradations | None = None,
    ):
        keep_freed_memory()
        self.inputs = Path(inputs)
        self.models, self.options = models, options
        self.augment = augment
        self.upscalers: dict[tuple[str, bool], Upscaler] = {}

    def __call__(self, unit: RowUnit) -> Statistics:
        """Write the unit's part."""
        path = self.inputs / unit.split / f"{unit.stem}.parquet"
        faces = list(read_range(path, unit.start, unit.stop))
        measured = [face for face in faces if not unit.scale.startswith("64to256") or face["width"] >= SIDE]
        rows = [self._row(unit, face) for face in measured]
        write_rows(Path(unit.part), rows, UPSCALED)
        return {"images": len(faces), "failed": sum(row["status"] == "failed" for row in rows)}

    def _row(self, unit: RowUnit, face: dict[str, Any]) -> dict[str, Any]:
        augmented = unit.scale.endswith(AUGMENTED)
        upscaler = self._upscaler(unit.method, augmented)
        row = {
            "id": face["id"],
            "image": None,
            "name": face["name"],
            "split": unit.split,
            "scale": unit.scale,
            "method": unit.method,
            "status": "failed",
            "error": "",
            "width": 0,
            "height": 0,
            "model": upscaler.metadata["sha256"],
        }
        try:
            low = decode(face["image"]["bytes"])
            low = reduce(low) if unit.scale.startswith("64to256") else low
            if augmented and self.augment is not None:
                drawn = draw_degradation(face["id"], unit.scale, self.augment)
                low = degrade(low, **drawn)
                row["degradation"] = json.dumps(drawn)
            result = upscaler([low])[0]
            image = {"bytes": encode_png(result), "path": str(Path(face["name"]).with_suffix(".png"))}
        except (FacesrError, ValueError, RuntimeError) as error:
            return row | {"error": first_line(error)}
        return row | {"image": image, "status": "ok", "width": result.shape[1], "height": result.shape[0]}

    def _upscaler(self, method: str, augmented: bool) -> Upscaler:
        if (method, augmented) not in self.upscalers:
            options = dict(self.options)
            if METHODS[method] == "realism" or augmented:
                options["back_projection"] = 0  # see params; and noise is nothing to agree with
            self.upscalers[method, augmented] = Upscaler.load(Path(self.models[method]), **options)
        return self.upscalers[method, augmented]
