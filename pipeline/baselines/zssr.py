"""Zero-shot super-resolution: for each picture a small network, trained on that picture alone. Plain torch.

A. Shocher, N. Cohen, M. Irani, "Zero-Shot Super-Resolution using Deep Internal Learning", CVPR 2018, from the paper:
fathers are the picture at several sizes, their sons the same reduced; a fully convolutional network of 8 hidden layers
learns what an enlarged son lacks; L1, Adam; the learning rate falls where a line through the reconstruction errors
falls by less than they scatter; factors rise gradually, and what was enlarged joins the fathers; the result is the
median over 8 turns and reflections, back-projected. Ours: a budget of steps, by whose end the learning rate has fallen
in any case, and several pictures side by side, as groups of one convolution.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.baselines.zssr_training import (
    Examples,
    Networks,
    ZssrConfig,
    interpolated,
    train,
    turned,
    turned_back,
)
from pipeline.core.images import Pixels
from pipeline.models.device import autocast, choose_device, choose_precision, to_pixels, to_tensor
from pipeline.train.engine.loop import DivergedError
from pipeline.upscale.back_projection import back_projected


def zssr(pictures: Sequence[Pixels], keys: Sequence[str], config: ZssrConfig) -> list[Pixels]:
    """Enlarge pictures 4 times, each by a network of its own.

    Args:
        pictures: uint8 (h, w, 3), sides from 16 up.
        keys: one for each; with the seed it determines all that is random about that picture, so that a result does
            not depend on what is enlarged beside it, rounding apart.
        config: of all of them.

    Returns:
        uint8 (4h, 4w, 3) each, in order.

    Raises:
        DivergedError: says which key.
        ValueError: a picture that is too small.
    """
    results: dict[int, Pixels] = {}
    shapes = [picture.shape for picture in pictures]
    for shape in dict.fromkeys(shapes):
        if min(shape[:2]) < 16:
            raise ValueError(f"{shape[1]}x{shape[0]} is too small to learn from: at least 16x16")
        alike = [index for index, other in enumerate(shapes) if other == shape]
        for start in range(0, len(alike), config.at_once):
            group = alike[start : start + config.at_once]
            done = _enlarge_together([pictures[index] for index in group], [keys[index] for index in group], config)
            results |= dict(zip(group, done, strict=True))
    return [results[index] for index in range(len(pictures))]


def _enlarge_together(pictures: list[Pixels], keys: list[str], config: ZssrConfig) -> list[Pixels]:
    """Enlarge pictures of one shape side by side."""
    device = choose_device()
    dtype = choose_precision(config.precision, device)
    sizes = [[picture] for picture in pictures]  # of each picture: itself, then enlarged by one factor after the other
    for scale in config.scales:
        networks = Networks(config, [f"{config.seed}:{key}:{scale}" for key in keys]).to(device)
        examples = [
            Examples(sources, scale, config.crop, f"{config.seed}:{key}:{scale}:crops", device)
            for sources, key in zip(sizes, keys, strict=True)
        ]
        with autocast(device, dtype):
            train(networks, examples, config)
            for index, (sources, key) in enumerate(zip(sizes, keys, strict=True)):
                result = _apply(networks, index, sources[0], scale, config)
                if not result.isfinite().all():
                    raise DivergedError(f"{key}: the network has become NaN at factor {scale:g}; lower learning_rate")
                sources.append(to_pixels(result))
    return [sources[-1] for sources in sizes]


@torch.inference_mode()
def _apply(networks: Networks, index: int, picture: Pixels, scale: float, config: ZssrConfig) -> Tensor:
    """Enlarge a picture by its network: float32 (3, scale h, scale w)."""
    device = next(networks.parameters()).device
    low = to_tensor(picture, device)[None]
    height, width = (round(scale * length) for length in picture.shape[:2])
    start = interpolated(picture, height, width, device)
    results = []
    for how in range(8) if config.ensemble else (0,):
        x = turned(start, how)[None]
        result = turned_back((x + networks(x, [index]))[0], how)[None]
        results.append(back_projected(result, low, config.back_projection))
    if len(results) == 1:
        return results[0][0]
    ordered = torch.cat(results).sort(dim=0).values
    median = (ordered[3] + ordered[4])[None] / 2
    return back_projected(median, low, config.back_projection)[0]
