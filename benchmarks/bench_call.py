"""What one face of 256x256 costs on its way through: processor time of each part, on one thread.

python benchmarks/bench_call.py                       # both precisions, a few seconds each
python benchmarks/bench_call.py --precisions bf16 --rounds 15 --json call.json

All parts run once a round, in an order drawn anew; the table has medians of milliseconds and the quartiles around them.
`network` is the generator alone, a forward pass; what follows it in the table with a dot is contained in it. `call` is
a whole `Upscaler` call of an array: estimate, network, back-projection, pixels. `share` is the network's share of
reading a PNG, the call, and writing a PNG or a JPEG. `bicubic, as laid out` is not done: it is what enlarging would
take if the tensor were left channels-last. The face is drawn, not photographed.
"""

import argparse
import io
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from upscale_common import Faces

from pipeline.codecs.reader import read_picture
from pipeline.codecs.writer import encode_picture
from pipeline.core.images import Pixels
from pipeline.models.allocator import keep_freed_memory
from pipeline.models.convolution import layout
from pipeline.models.device import to_pixels, to_tensor
from pipeline.models.networks import Generator, enlarge
from pipeline.upscale.back_projection import back_projected
from pipeline.upscale.estimate import find_degradation
from pipeline.upscale.upscaler import CLEAN_STEPS, Upscaler


def parts_of(low: Pixels, precision: str) -> dict[str, Callable[[], Any]]:
    """Parts by name."""
    upscaler = Upscaler.load(precision=precision)
    generator = upscaler.generator
    assert isinstance(generator, Generator)
    buffer = io.BytesIO()
    Image.fromarray(low).save(buffer, "png")
    file = buffer.getvalue()
    metadata = read_picture(file).metadata
    high = upscaler(low)
    x = to_tensor(low[None], upscaler.device).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        result = generator(x)
        width = generator.config.widths[0]
        features = generator.from_rgb.weight.new_zeros(1, width, *low.shape[:2])
        features = features.contiguous(memory_format=layout(upscaler.device, upscaler.dtype))
    parts: dict[str, Callable[[], Any]] = {
        "read PNG": lambda: read_picture(file),
        "estimate": lambda: find_degradation(low, None),
        "network": lambda: generator(x),
        ". residual blocks": lambda: generator.bottleneck(features),
        ". last convolution": lambda: generator.to_rgb(F.leaky_relu(features, 0.2)),
        ". bicubic": lambda: enlarge(x),
        "bicubic, as laid out": lambda: F.interpolate(x, scale_factor=4, mode="bicubic", antialias=True),
        "back-projection": lambda: back_projected(result, x, CLEAN_STEPS, upscaler.repairs),
        "pixels": lambda: to_pixels(result),
        "call": lambda: upscaler(low),
        "write PNG": lambda: encode_picture(high, metadata, "png", 95, {}),
        "write JPEG": lambda: encode_picture(high, metadata, "jpeg", 95, {}),
    }
    return parts


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--side", type=int, default=256, help="of the face, pixels")
    parser.add_argument("--precisions", nargs="+", choices=("bf16", "fp32"), default=["bf16", "fp32"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    # without noise: a noisy face would not be back-projected
    face = Image.fromarray(Faces().portraits[0])
    low = np.asarray(face.resize((options.side, options.side), Image.Resampling.BICUBIC)).copy()
    order, found = random.Random(0), {}
    for precision in options.precisions:
        parts = parts_of(low, precision)
        taken: dict[str, list[float]] = {name: [] for name in parts}
        with torch.inference_mode():
            for part in parts.values():
                part()
            for _ in range(options.rounds):
                for name in order.sample(list(parts), len(parts)):
                    start = time.process_time()
                    parts[name]()
                    taken[name].append(1e3 * (time.process_time() - start))
        print(f"{precision}, {options.side}x{options.side}, processor time, ms")
        for name, values in taken.items():
            middle = statistics.median(values)
            low_quartile, _, high_quartile = statistics.quantiles(values, n=4) if len(values) > 1 else [middle] * 3
            print(f"  {name:20} {middle:8.1f}   {low_quartile:.1f}…{high_quartile:.1f}")
        middles = {name: statistics.median(values) for name, values in taken.items()}
        for kind in ("PNG", "JPEG"):
            share = middles["network"] / (middles["read PNG"] + middles["call"] + middles[f"write {kind}"])
            print(f"  share of the network, writing {kind}: {share:.2f}")
        found[precision] = taken
    if options.json:
        options.json.write_text(json.dumps({"side": options.side, "milliseconds": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
