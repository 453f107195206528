"""Ears, earrings and glasses."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.synthetic.canvas import F32, SIZE, U8, Rng, bump, crop, curve, darken, fixed, polygon_mask, smoothstep
from pipeline.synthetic.functions import cos, power, sin
from pipeline.synthetic.pose import Pose, half_width
from pipeline.synthetic.traits import Traits


def _ear_centre(traits: Traits) -> tuple[float, float]:
    v = np.array([0.35], np.float32)
    return float(half_width(traits, v)[0]) + 0.03, 0.42


def draw_ear(image: U8, rng: Rng, traits: Traits, pose: Pose, side: int) -> None:
    """Draw one ear in place, to be overlapped by the head drawn after it."""
    cu, cv = _ear_centre(traits)
    turn = 1 - 0.9 * pose.yaw * side
    middle = pose.to_image(np.array([[cu * side, cv]], np.float32))[0]
    reach = np.array([0.75, 1.0], np.float32) * pose.unit
    x0, y0 = (max(0, int(c)) for c in middle - reach)
    x1, y1 = (min(SIZE, int(c)) for c in middle + reach)
    if x1 - x0 < 4:
        return
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    a = (x - middle[0]) / pose.unit * side / np.float32(np.clip(turn, 0.4, 1.5))
    b = (y - middle[1]) / pose.unit
    a = a - 0.16 * -b * 1.0 + 0.04
    width = np.interp(b, [-0.9, -0.75, -0.4, 0.1, 0.55, 0.8, 0.95], [0.14, 0.27, 0.36, 0.32, 0.24, 0.18, 0.1])
    rho = np.sqrt((a / width.astype(np.float32)) ** 2 + power(np.abs(b / 0.86), 3.2))
    mask = smoothstep(1.02, 0.985, rho)
    height = 0.22 * bump(rho, 0.84, 0.13) * smoothstep(0.7, 0.3, b) + 0.12 * bump(a, 0.05, 0.07) * bump(b, -0.02, 0.38)
    height = height - 0.2 * bump(a, -0.09, 0.13) * bump(b, 0.10, 0.24) + 0.05 * bump(b, 0.66, 0.2) * bump(a, 0, 0.25)
    scale = pose.unit / 8
    nx = -cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3) * scale + 0.5 * side
    ny = -cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3) * scale
    length = np.sqrt(nx * nx + ny * ny + 1)
    light = traits.light
    facing = (nx * light[0] + ny * light[1] + light[2]) / length
    lit = np.clip((facing + 0.4) / 1.4, 0, None)
    hollow = 1 - 0.7 * bump(a, -0.12, 0.14) * bump(b, 0.10, 0.26)
    albedo = (traits.skin / 255) ** 2 * np.array([1, 0.86, 0.86], np.float32)
    colour = albedo * (lit[..., None] * traits.key + traits.ambient * 0.62) * hollow[..., None]
    grain = crop(rng, "pores", y1 - y0, x1 - x0).astype(np.float32) * np.float32(1 / 128)
    skin = np.sqrt(np.clip(colour, 0, 1)) * 255 * grain
    box = image[y0:y1, x0:x1]
    box[:] = np.clip(box * (1 - mask[..., None]) + skin * mask[..., None], 0, 255).astype(np.uint8)


def draw_earring(image: U8, rng: Rng, traits: Traits, pose: Pose, side: int, style: int) -> None:
    """Draw a stud, a drop or a hoop at one ear lobe in place."""
    cu, cv = _ear_centre(traits)
    lobe = pose.to_image(np.array([[(cu - 0.04) * side, cv + 0.74]], np.float32))[0]
    metal = [(214, 178, 96), (196, 198, 204)][style % 2]
    bright = [(255, 236, 176), (248, 250, 255)][style % 2]
    at = fixed(lobe)
    if style < 2:
        cv2.circle(image, tuple(map(int, at)), 7 * 16, metal, -1, cv2.LINE_AA, 4)
    elif style < 4:
        for drop, radius in ((0, 5), (22, 4), (44, 10)):
            cv2.circle(image, (int(at[0]), int(at[1]) + drop * 16), radius * 16, metal, -1, cv2.LINE_AA, 4)
    else:
        hoop = (int(at[0]), int(at[1]) + 34 * 16)
        cv2.ellipse(image, hoop, (22 * 16, 34 * 16), 0, 0, 360, [c * 0.7 for c in metal], 5, cv2.LINE_AA, 4)
        cv2.ellipse(image, hoop, (22 * 16, 34 * 16), 0, 100, 300, bright, 2, cv2.LINE_AA, 4)
    shine = (int(at[0] + traits.light[0] * 40), int(at[1] + traits.light[1] * 40))
    cv2.circle(image, shine, 2 * 16, bright, -1, cv2.LINE_AA, 4)


def _rim(shape: int, side: int) -> F32:
    t = np.linspace(0, 2 * np.pi, 72, dtype=np.float32)
    exponent = (1.0, 0.6, 0.78)[shape]
    c, s = cos(t), sin(t)
    x = np.sign(c) * power(np.abs(c), exponent) * (0.74, 0.80, 0.80)[shape]
    y = np.sign(s) * power(np.abs(s), exponent) * (0.70, 0.52, 0.62)[shape]
    y = y + (0.0, 0.0, -0.10)[shape] * x
    return np.asarray(np.stack([side * (1.0 + x), 0.12 + y], axis=1), np.float32)


def draw_glasses(image: U8, rng: Rng, traits: Traits, pose: Pose) -> None:
    """Draw glasses in place: their shadow, the frame with its edge of light, and a sheen on the lenses."""
    shape = int(rng.integers(0, 3))
    frames = np.array([[28, 26, 28], [84, 52, 34], [150, 140, 126], [46, 54, 84], [110, 36, 42]], np.float32)
    colour = frames[int(rng.integers(0, len(frames)))]
    thick = int(rng.integers(4, 13))
    lines = [pose.to_image(_rim(shape, side)) for side in (-1, 1)]
    lines.append(pose.to_image(curve([[-0.24, -0.02], [-0.1, -0.11], [0.1, -0.11], [0.24, -0.02]], 16)))
    ear = _ear_centre(traits)[0]
    for side in (-1, 1):
        lines.append(pose.to_image(curve([[1.76 * side, -0.12], [(ear - 0.05) * side, -0.14]], 8)))
    ink = np.zeros((SIZE, SIZE), np.uint8)
    drop = np.array([-traits.light[0], -traits.light[1]], np.float32) * 16
    cv2.polylines(ink, [fixed(line + drop) for line in lines], False, 255, thick, cv2.LINE_AA, 4)
    rows = np.s_[200:820]
    ink[rows] = cv2.GaussianBlur(ink[rows], (0, 0), 5)
    darken(image, ink, 0.42)
    for side in (0, 1):
        glass = polygon_mask(lines[side])
        x, y, w, h = cv2.boundingRect(glass)
        ramp = np.linspace(0, 1, w, dtype=np.float32)[None, :] + np.linspace(0, 1, h, dtype=np.float32)[:, None]
        sheen = (0.012 + 0.12 * bump(ramp, 0.62, 0.13)) * glass[y : y + h, x : x + w] * np.float32(1 / 255)
        box = image[y : y + h, x : x + w]
        box[:] = np.clip(box + (250 - box.astype(np.float32)) * sheen[..., None], 0, 255).astype(np.uint8)
    points = [fixed(line) for line in lines]
    cv2.polylines(image, points, False, [float(c) for c in colour], thick, cv2.LINE_AA, 4)
    shift = np.array([traits.light[0], traits.light[1]], np.float32) * thick * 0.28
    glow = [float(c) for c in np.clip(colour * 1.35 + 38, 0, 255)]
    cv2.polylines(image, [fixed(line + shift) for line in lines], False, glow, max(1, thick // 4), cv2.LINE_AA, 4)
