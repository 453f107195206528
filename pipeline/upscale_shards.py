"""Enlarge shards of inputs: the worker of the upscale stage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.allocator import keep_freed_memory
from pipeline.distributed import Statistics, Unit
from pipeline.images import ImageError, decode, encode_png
from pipeline.inputs import SIDE
from pipeline.pairs import reduce
from pipeline.schema import METHODS, UPSCALED
from pipeline.shards import read_range, write_rows
from pipeline.upscaling import Upscaler


class UpscaleWorker:
    """Columns in: FACES (inputs). Columns out: UPSCALED, one row per input, ok or failed.

    At 256to1024 the input itself is enlarged; at 64to256 the input reduced 4 times is, if it is 256x256: smaller inputs
    have no row there.
    """

    def __init__(self, inputs: str, models: Mapping[str, str], options: Mapping[str, Any]):
        keep_freed_memory()
        self.inputs = Path(inputs)
        self.models, self.options = models, options
        self.upscalers: dict[str, Upscaler] = {}

    def __call__(self, unit: Unit) -> Statistics:
        """Write the unit's part."""
        path = self.inputs / unit["split"] / f"{unit['stem']}.parquet"
        faces = list(read_range(path, unit["start"], unit["stop"]))
        measured = [face for face in faces if unit["scale"] != "64to256" or face["width"] >= SIDE]
        rows = [self._row(unit, face) for face in measured]
        write_rows(Path(unit["part"]), rows, UPSCALED)
        return {"images": len(faces), "failed": sum(row["status"] == "failed" for row in rows)}

    def _row(self, unit: Unit, face: dict[str, Any]) -> dict[str, Any]:
        upscaler = self._upscaler(unit["method"])
        row = {
            "id": face["id"],
            "image": None,
            "name": face["name"],
            "split": unit["split"],
            "scale": unit["scale"],
            "method": unit["method"],
            "status": "failed",
            "error": "",
            "width": 0,
            "height": 0,
            "model": upscaler.metadata["sha256"],
        }
        try:
            low = decode(face["image"]["bytes"])
            result = upscaler([reduce(low) if unit["scale"] == "64to256" else low])[0]
            image = {"bytes": encode_png(result), "path": str(Path(face["name"]).with_suffix(".png"))}
        except (ImageError, ValueError, RuntimeError) as error:
            return row | {"error": str(error).splitlines()[0]}
        return row | {"image": image, "status": "ok", "width": result.shape[1], "height": result.shape[0]}

    def _upscaler(self, method: str) -> Upscaler:
        if method not in self.upscalers:
            options = dict(self.options)
            if METHODS[method] == "realism":
                options["back_projection"] = 0  # see params
            self.upscalers[method] = Upscaler.load(Path(self.models[method]), **options)
        return self.upscalers[method]
