"""What surrounds the head: a lit backdrop, in or out of focus, and the clothes at the lower edge."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.synthetic.canvas import F32, SIZE, U8, Rng, blend, blurred, crop, curve, darken, polygon_mask
from pipeline.synthetic.functions import cos, exp, sin
from pipeline.synthetic.pose import Pose, neck_width
from pipeline.synthetic.traits import Traits

_Q = SIZE // 4


def _hsv(hue: float, saturation: float, value: float) -> F32:
    k = (np.array([5, 3, 1], np.float32) + hue * 6) % 6
    return np.asarray(255 * value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1)), np.float32)


def _clouds(rng: Rng, cells: int) -> F32:
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (_Q, _Q), interpolation=cv2.INTER_CUBIC), np.float32)


def _blobs(rng: Rng, back: F32, count: int, colours: F32, low: float, high: float, alpha: float) -> None:
    for _ in range(count):
        layer = back.copy()
        colour = colours[int(rng.integers(0, len(colours)))] * np.float32(rng.uniform(0.7, 1.25))
        centre = (int(rng.uniform(0, _Q) * 16), int(rng.uniform(0, _Q) * 16))
        radius = int(rng.uniform(low, high) * 16)
        cv2.circle(layer, centre, radius, [float(c) for c in colour], -1, cv2.LINE_AA, 4)
        cv2.addWeighted(layer, alpha, back, 1 - alpha, 0, dst=back)


def draw_backdrop(rng: Rng, traits: Traits) -> U8:
    """Return a backdrop (1024, 1024, 3)."""
    hue, saturation = float(rng.random()), float(rng.beta(1.3, 3.2) * 0.75)
    value = float(rng.uniform(0.14, 0.92))
    base = _hsv(hue, saturation, value)
    y, x = np.mgrid[0:_Q, 0:_Q].astype(np.float32) / _Q - 0.5
    kind = traits.backdrop
    if kind == "sky":
        base = _hsv(0.58 + rng.normal(0, 0.03), float(rng.uniform(0.15, 0.5)), float(rng.uniform(0.6, 0.95)))
    if kind == "foliage":
        base = _hsv(0.26 + rng.normal(0, 0.05), 0.45, float(rng.uniform(0.18, 0.5)))
    back: F32 = np.broadcast_to(base, (_Q, _Q, 3)).astype(np.float32, order="C")
    if kind == "sky":
        cloud = np.clip(_clouds(rng, 5) + 0.5 * _clouds(rng, 11) - 0.2 + 2 * y, 0, 1.2)[..., None]
        back = back * (1 - 0.6 * cloud) + np.float32(240) * 0.6 * cloud
    elif kind == "bokeh":
        colours = np.stack([_hsv(hue + rng.normal(0, 0.12), rng.uniform(0.05, 0.45), 0.9) for _ in range(5)])
        _blobs(rng, back, 16, colours, 10, 44, float(rng.uniform(0.2, 0.45)))
        back = blurred(back, float(rng.uniform(1.5, 5)))
    elif kind == "foliage":
        colours = np.stack(
            [_hsv(0.24 + rng.normal(0, 0.06), rng.uniform(0.1, 0.55), rng.uniform(0.12, 0.95)) for _ in range(8)]
        )
        _blobs(rng, back, 46, colours, 4, 26, 0.5)
        back = blurred(back, float(rng.uniform(3, 7)))
    elif kind == "room":
        for _ in range(int(rng.integers(5, 12))):
            a = rng.uniform(-20, _Q, 2)
            b = a + rng.uniform(16, 110, 2) * np.array([1, 1.5])
            colour = _hsv(hue + rng.normal(0, 0.1), saturation * rng.uniform(0.3, 1.4), rng.uniform(0.15, 0.95))
            cv2.rectangle(back, tuple(map(int, a)), tuple(map(int, b)), [float(c) for c in colour], -1)
        back = blurred(back, float(rng.uniform(3, 8)))
    elif kind == "studio":
        glow = exp(-(((x - rng.uniform(-0.3, 0.3)) / 0.45) ** 2) - ((y - rng.uniform(-0.3, 0.3)) / 0.5) ** 2)
        back = back * (0.65 + 0.6 * glow + 0.06 * _clouds(rng, 9))[..., None]
    elif kind == "wall":
        back = back * (1 + 0.07 * _clouds(rng, 6) + 0.04 * _clouds(rng, 24))[..., None]
    else:
        back = _bricks(rng, back)
    slope = x * (-float(traits.light[0])) * -0.5 + x * rng.normal(0, 0.25) - y * rng.uniform(-0.2, 0.5)
    back = np.clip(back * (1 + slope)[..., None], 4, 250)
    picture: U8 = cv2.resize(back, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    gain = {"wall": 1.0, "brick": 0.8, "studio": 0.45}.get(kind, 0.0)
    if gain:
        picture = np.asarray(cv2.addWeighted(picture, 1, crop(rng, "plaster"), gain, -128 * gain), np.uint8)
    return picture


def _bricks(rng: Rng, back: F32) -> F32:
    height = int(rng.integers(13, 24))
    length = int(height * 2.4)
    mortar = np.clip(back * 1.25 + 14, 0, 255)
    wall = mortar.copy()
    for row in range(_Q // height + 1):
        start = -(row % 2) * length // 2 - int(rng.integers(0, 3))
        for column in range(_Q // length + 2):
            x, y = start + column * length, row * height
            colour = back[0, 0] * np.float32(rng.uniform(0.78, 1.12))
            corner = (x + length - 3, y + height - 3)
            cv2.rectangle(wall, (x, y), corner, [float(c) for c in colour], -1)
    return blurred(wall, float(rng.uniform(0.8, 2.6)))


def _fabric(rng: Rng, traits: Traits, top: int) -> U8:
    """Return the cloth of the garment as a (1024, 1024, 3) layer, filled from row `top` down."""
    rows = SIZE - top
    value = float(rng.uniform(0.10, 0.92))
    colour = _hsv(float(rng.random()), float(rng.uniform(0.0, 0.65)), value)
    y, x = np.mgrid[0:rows, 0:SIZE].astype(np.float32)
    gain = 1.0
    cloth: F32 = np.broadcast_to(colour, (rows, SIZE, 3)).astype(np.float32, order="C")
    if traits.pattern == "knit":
        stitch = np.abs((x % 12) - 6) * 0.9
        ridge = sin((y + stitch) * (2 * np.pi / 9)) * 0.11 + cos(x * (2 * np.pi / 12)) * 0.08
        cloth = cloth * (1 + ridge)[..., None]
    elif traits.pattern == "stripes":
        other = _hsv(float(rng.random()), 0.3, float(rng.uniform(0.2, 0.95)))
        period = float(rng.uniform(22, 60))
        wave = np.clip(sin((y + 0.05 * np.abs(x - 512)) * 2 * np.pi / period) * 6, -0.5, 0.5) + 0.5
        cloth = cloth * wave[..., None] + other * (1 - wave[..., None])
    elif traits.pattern == "plaid":
        period = float(rng.uniform(44, 90))
        bars = (sin(x * 2 * np.pi / period) > 0.3) * 0.28 + (sin(y * 2 * np.pi / period) > 0.3) * 0.28
        thin = (sin(x * 2 * np.pi / period + 2) > 0.985) | (sin(y * 2 * np.pi / period + 2) > 0.985)
        cloth = cloth * (1 - bars)[..., None] + (thin * 40.0)[..., None]
        gain = 0.8
    elif traits.pattern == "denim":
        cloth = _hsv(0.6, 0.45, 0.2 + 0.4 * value) * (1 + 0.09 * np.sign(sin((x + y) * 1.6)))[..., None]
        gain = 1.5
    # A shoulder turns away from the light on one side, and folds run down from the neck.
    fold = 0.10 * sin(x * 0.021 + 0.011 * y + float(rng.uniform(0, 6))) * np.clip(y / 60, 0, 1)
    shade = 0.80 + 0.30 * float(traits.light[0]) * (x / SIZE - 0.5) * 2 + fold
    out = np.zeros((SIZE, SIZE, 3), np.uint8)
    out[top:] = np.clip(cloth * np.clip(shade, 0.3, 1.2)[..., None], 3, 252).astype(np.uint8)
    out[top:] = cv2.addWeighted(out[top:], 1, crop(rng, "cloth", rows), gain, -128 * gain)
    return out


def draw_clothes(image: U8, rng: Rng, traits: Traits, pose: Pose) -> None:
    """Draw the garment over the neck and shoulders in place."""
    w = neck_width(traits) + 0.08
    dip, rise = {"crew": (4.22, 3.86), "vneck": (4.75, 3.84), "turtle": (3.88, 3.62)}.get(traits.garment, (4.6, 3.74))
    slope = float(rng.uniform(0.16, 0.30))
    right = [
        [w + 0.25, rise + 0.05],
        [2.2, rise + 0.28],
        [3.4, rise + 0.28 + slope],
        [5.2, rise + 0.7 + 2 * slope],
    ]
    if traits.garment in ("vneck", "shirt", "suit"):
        inner, low = w * 0.8, rise + 0.3
        neckline = np.array([[-w, rise], [-inner, low], [0, dip], [inner, low], [w, rise]], np.float32)
    else:
        inner, low = w * 0.62, (rise + 1.6 * dip) / 2.6
        neckline = curve([[-w, rise], [-inner, low], [0, dip], [inner, low], [w, rise]], 40)
    side = curve(right, 24)
    mirrored = side[::-1] * np.array([-1, 1], np.float32)
    bottom = np.array([[5.2, 6.5], [-5.2, 6.5]], np.float32)
    body = pose.to_image(np.concatenate([mirrored, neckline, side, bottom]).astype(np.float32))
    top = int(np.clip(body[:, 1].min() - 2, 0, SIZE - 8))
    mask = polygon_mask(body)
    throat = pose.to_image(np.concatenate([neckline, np.array([[w, 6.0], [-w, 6.0]], np.float32)]))
    edge = polygon_mask(throat + np.array([0, -5], np.float32), 6)
    darken(image, edge, 0.45)
    cloth = _fabric(rng, traits, top)
    if traits.garment in ("crew", "turtle", "vneck"):
        # A sewn collar: a band of shade follows the neckline.
        seam = pose.to_image(np.asarray(neckline + np.array([0, 0.16], np.float32), np.float32))
        line = np.zeros((SIZE, SIZE), np.uint8)
        cv2.polylines(line, [np.asarray(np.rint(seam * 16), np.int32)], False, 255, 3, cv2.LINE_AA, 4)
        darken(cloth, cv2.GaussianBlur(line, (0, 0), 1.4), 0.5)
    blend(image, cloth, mask)
    if traits.garment in ("shirt", "suit"):
        _collar(image, rng, traits, pose, cloth, w, rise, dip)


def _collar(image: U8, rng: Rng, traits: Traits, pose: Pose, cloth: U8, w: float, rise: float, dip: float) -> None:
    if traits.garment == "suit":
        pale = _fabric(rng, traits, 700)
        cloth = np.asarray(cv2.addWeighted(pale, 0.25, np.full_like(pale, 226), 0.72, 0), np.uint8)
    for side in (-1, 1):
        outer = [[w + 0.10, rise - 0.12], [w - 0.12, rise - 0.06], [w * 0.45, rise + 0.42]]
        flap = np.array([*outer, [0.06, dip - 0.02], [0.55, dip + 0.22], [w + 0.34, rise + 0.30]], np.float32)
        flap[:, 0] *= side
        pixels = pose.to_image(flap)
        darken(image, polygon_mask(pixels + np.array([side * 5, 9], np.float32), 6), 0.5)
        lit = 1.0 + 0.14 * side * float(traits.light[0])
        blend(image, cv2.convertScaleAbs(cloth, alpha=lit, beta=6), polygon_mask(pixels))
