"""Hairstyles and beards: where the strands grow, how far and in which direction."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.synthetic.canvas import F32, SIZE, U8, Rng, curve, darken, polygon_mask, soften
from pipeline.synthetic.functions import cos, exp, power, sin
from pipeline.synthetic.hair import draw_sheet, draw_strands, hairline, lay_ground, locks, skull_line
from pipeline.synthetic.pose import Pose, half_width
from pipeline.synthetic.traits import Traits

FALLING = ("bob", "long", "wavy")


def _lengths(traits: Traits) -> tuple[float, float]:
    """Return how far falling hair reaches down, and how far it stands off the head."""
    return {"bob": (2.7, 0.52), "long": (5.4, 0.50), "wavy": (5.2, 0.72)}[traits.style]


def draw_back_hair(image: U8, rng: Rng, traits: Traits, pose: Pose) -> None:
    """Draw the hair behind head and neck in place; only falling styles have any."""
    if traits.style not in FALLING:
        return
    end, thick = _lengths(traits)
    w = float(half_width(traits, np.array([0.0], np.float32))[0])
    left = curve([[-0.4, -3.2], [-w - thick * 0.2, -1.6], [-w - thick * 0.7, 1.0], [-w - thick * 0.6, end]], 25)
    right = left * np.array([-1, 1], np.float32)
    lay_ground(image, traits, pose, np.concatenate([left, right[::-1]]), 0.0)
    t = rng.random((420, 1)).astype(np.float32)
    paths = left[None] * (1 - t[..., None]) + right[None] * t[..., None]
    draw_strands(image, rng, traits, pose, paths, np.full(len(t), -0.26, np.float32), 4)


def _falling(image: U8, rng: Rng, traits: Traits, pose: Pose) -> None:
    end, thick = _lengths(traits)
    part = float(rng.uniform(-0.75, 0.75))
    w = float(half_width(traits, np.array([-0.3], np.float32))[0])
    wave = {"bob": 0.02, "long": 0.025, "wavy": 0.10}[traits.style]
    open_face = float(rng.uniform(0.0, 0.28))
    sides = (-1, 1) if part > 0 else (1, -1)
    for side in sides:
        start = part * side
        tuck = float(rng.uniform(-0.05, 0.15))
        inner = curve(
            [[start, -2.28], [max(start + 0.3, 0.75), -2.08], [1.42, -1.6],
             [w - 0.42 + open_face * 0.7, -0.8], [w - 0.30 + open_face, 0.2],
             [w - 0.30 + tuck, 1.4], [w - 0.55 + tuck, 2.3],
             [w - 0.72, max(2.62, end * 0.75)], [w - 0.75, end]], 43)  # fmt: skip
        outer = curve(
            [[start, -3.62 - thick * 0.5], [max(start + 0.5, 1.1), -3.45 - thick * 0.45],
             [1.95, -2.75 - 0.3 * thick], [w + 0.10 + thick * 0.4, -1.5],
             [w + thick * 0.85, 0.0], [w + thick, 1.3],
             [w + thick * 0.95, 2.2], [w + thick * 0.8, max(2.5, end * 0.75)],
             [w + thick * 0.55, end]], 43)  # fmt: skip
        if traits.style == "bob":
            inner[:, 1] = np.minimum(inner[:, 1], end)
        flip = np.array([side, 1], np.float32)
        draw_sheet(image, rng, traits, pose, inner * flip, outer * flip, 1200, wave)


def _fringe(image: U8, rng: Rng, traits: Traits, pose: Pose) -> None:
    low = float(rng.uniform(-1.05, -0.78))
    left = curve([[-0.5, -3.5], [-1.35, -2.9], [-1.85, -2.0], [-1.98, low + 0.25]], 25)
    right = left * np.array([-1, 1], np.float32)
    draw_sheet(image, rng, traits, pose, left, right, 1000, 0.006, 0.03, 0.4)
    # Ends of uneven length keep the fringe from being cut with a ruler.
    t = rng.random(420).astype(np.float32)
    foot = left[-1] * (1 - t[:, None]) + right[-1] * t[:, None]
    reach = rng.uniform(0.05, 0.34, len(t)).astype(np.float32)
    s = np.linspace(-1.2, 1, 7, dtype=np.float32)[None, :]
    lean = (foot[:, 0] * 0.05 + rng.normal(0, 0.03, len(t)))[:, None]
    paths = np.stack([foot[:, :1] + lean * s, foot[:, 1:] + reach[:, None] * s], axis=2)
    draw_strands(image, rng, traits, pose, np.asarray(paths, np.float32), locks(rng, t, 20) + np.float32(0.14))


def _along(line: F32, a: F32) -> F32:
    """Return the points at the places `a` (0..1) of a polyline (K, 2): shape (len(a), 2)."""
    at = a * (len(line) - 1)
    marks = np.arange(len(line))
    return np.stack([np.interp(at, marks, line[:, 0]), np.interp(at, marks, line[:, 1])], axis=1).astype(np.float32)


def _spread(rng: Rng, low: F32, high: F32, count: int) -> F32:
    """Return `count` places 0..1 along a mass of hair, denser where it is deeper."""
    depth = np.cumsum(np.linalg.norm(high - low, axis=1) + 0.1)
    places = np.interp(rng.random(count), (depth - depth[0]) / (depth[-1] - depth[0]), np.linspace(0, 1, len(low)))
    return np.asarray(places, np.float32)


def _crop_cut(image: U8, rng: Rng, traits: Traits, pose: Pose) -> None:
    """Short and swept-back hair: strands rooted between hairline and crown, combed one way."""
    swept, bun = traits.style == "swept", traits.style == "bun"
    thick = float(rng.uniform(0.38, 0.66) if swept else 0.22 if bun else rng.uniform(0.24, 0.48))
    sides = float(rng.uniform(0.15, 0.55))
    n = 121
    low = hairline(rng, traits, sides, n)
    high = skull_line(traits, thick, sides, len(low))
    if bun:
        knot = np.array([[0.0, -3.6 - thick]], np.float32)
        angle = np.linspace(0, 2 * np.pi, 40)
        ball = knot + 0.8 * np.stack([cos(angle), 0.7 * sin(angle)], axis=1)
        lay_ground(image, traits, pose, np.asarray(ball, np.float32), 0.0)
    # The ground starts behind the hairline, whose own hairs are seen one by one against the skin.
    ground = np.concatenate([low * 0.93 + high * 0.07, high[::-1]])
    lay_ground(image, traits, pose, np.asarray(ground, np.float32), 0.35)
    comb = float(rng.choice([-1, 1]) * rng.uniform(0.5, 1.2))
    count = 5200 if not bun else 3000
    a = _spread(rng, low, high, count)
    d = power(rng.random(count).astype(np.float32), 0.85)
    foot = _along(low, a)
    rise = _along(high, a) - foot
    tall = np.linalg.norm(rise, axis=1, keepdims=True) + np.float32(1e-3)
    lock = locks(rng, a, 34) * 0.8
    up = rise / tall
    if bun:
        direction, length = rise * (1 - d[:, None]), rng.uniform(0.5, 1.0, count)
        bent = np.zeros((count, 2), np.float32)
    else:
        sideways = np.array([comb, 0.10], np.float32)
        # On the sides hair is combed down and back, on the top forward or up.
        edge = np.abs(a - 0.5) * 2
        top = np.clip(1.35 - edge * 1.6, 0, 1)[:, None]
        down = np.stack([np.sign(a - 0.5) * 0.35, np.full(count, 1.0)], axis=1)
        clump = np.interp(a, np.linspace(0, 1, 40), rng.normal(0, 0.35, 40))[:, None]
        direction = up * (1.15 if swept else 0.45) * top + sideways * top * (0.8 + clump) + down * (1 - top) * 0.8
        direction = direction + rng.normal(0, 0.13, (count, 2))
        length = (0.75 if swept else 0.48) * rng.uniform(0.6, 1.1, count) * (0.45 + 0.55 * top[:, 0])
        bent = np.asarray(sideways * top * (0.55 if swept else 0.3) + np.array([0, 0.22]), np.float32)
    root = foot + rise * d[:, None] * (0.93 if bun else 0.97)
    s = np.linspace(0, 1, 7, dtype=np.float32)[None, :, None]
    paths = root[:, None] + length[:, None, None] * (direction[:, None] * s + bent[:, None] * s * s)
    paths = np.asarray(paths, np.float32)
    lock = lock - 0.10 * (1 - d) * (not bun)
    order = np.argsort(-d, kind="stable")  # another kind sorts equal ones as the processor does
    for part in np.array_split(order, 4):
        draw_strands(image, rng, traits, pose, paths[part], lock[part].astype(np.float32), 2)


def _curls(image: U8, rng: Rng, traits: Traits, pose: Pose) -> None:
    """Curly hair and afros: small helices scattered through a mass around the skull."""
    afro = traits.style == "afro"
    thick = float(rng.uniform(0.7, 1.25) if afro else rng.uniform(0.4, 0.75))
    sides = float(rng.uniform(0.5, 1.3))
    low = hairline(rng, traits, min(sides, 0.5), 121)
    high = skull_line(traits, thick, min(sides, 1.0), len(low))
    grown = np.clip((high[:, 1] + 2.5) / 3, 0, 1)[:, None]
    high = high + np.sign(high) * grown * np.array([thick * 0.75, 0], np.float32)
    # The mass rounds off towards its two lower ends, where it would break off in a shelf.
    end = np.clip(0.5 - np.abs(np.linspace(-0.5, 0.5, len(high))), 0, 0.13) / 0.13
    high = low + (high - low) * np.sqrt(1 - (1 - end) ** 2)[:, None]
    bumps = np.interp(np.linspace(0, 1, len(high)), np.linspace(0, 1, 42), rng.normal(0, 0.05, 42))
    high = np.asarray(high * (1 + bumps[:, None] * 0.6), np.float32)
    # Curls reach past the ground on all sides, so that its smooth edge stays hidden.
    ground = np.concatenate([low * 0.92 + high * 0.08, (high * 0.9 + low * 0.1)[::-1]])
    lay_ground(image, traits, pose, np.asarray(ground, np.float32), 0.4)
    count = 2300 if afro else 1500
    a, d = _spread(rng, low, high, count), rng.random(count).astype(np.float32)
    root = _along(low, a) * (1 - d[:, None]) + _along(high, a) * d[:, None] + rng.normal(0, 0.07, (count, 2))
    size = (rng.uniform(0.035, 0.10, count) if afro else rng.uniform(0.06, 0.16, count)).astype(np.float32)
    s = np.linspace(0, 1, 19, dtype=np.float32)[None, :]
    turns = rng.uniform(1.2, 2.4, count)[:, None] * 2 * np.pi
    phase = rng.uniform(0, 2 * np.pi, count)[:, None]
    drift = rng.uniform(0, 2 * np.pi, count)[:, None] if afro else rng.normal(np.pi / 2, 0.7, count)[:, None]
    reach = size[:, None] * (2.2 if afro else 4.2)
    x = root[:, :1] + size[:, None] * cos(turns * s + phase) + cos(drift) * reach * s
    y = root[:, 1:] + size[:, None] * 0.7 * sin(turns * s + phase) + sin(drift) * reach * s
    paths = np.asarray(np.stack([x, y], axis=2), np.float32)
    twin = np.concatenate([paths, paths + rng.normal(0, 0.014, (count, 1, 2)).astype(np.float32)])
    lock = rng.normal(-0.02, 0.08, count).astype(np.float32)
    draw_strands(image, rng, traits, pose, twin, np.tile(lock, 2), 6)


def _buzz(image: U8, rng: Rng, traits: Traits, pose: Pose) -> None:
    """Hair cut to a few millimetres: the scalp shows through short single hairs."""
    low = hairline(rng, traits, 0.3, 121)
    high = skull_line(traits, 0.07, 0.3, len(low))
    mask = soften(polygon_mask(pose.to_image(np.concatenate([low, high[::-1]]))), 7)
    tint = 1 - (traits.hair / np.maximum(traits.skin, 40)).clip(0, 0.9)
    darken(image, mask, float(0.62 * tint.mean()))
    count = 8000
    a, d = _spread(rng, low, high, count), rng.random(count).astype(np.float32)[:, None]
    root = _along(low, a) * (1 - d) + _along(high, a) * d + rng.normal(0, 0.02, (count, 2))
    direction = np.stack([rng.normal(0.015, 0.016, count), rng.normal(0.01, 0.018, count)], axis=1)
    paths = root[:, None] + direction[:, None] * np.linspace(0, 1, 2)[None, :, None]
    before = image.copy()
    draw_strands(image, rng, traits, pose, np.asarray(paths, np.float32), rng.normal(0, 0.1, count).astype(np.float32))
    cv2.addWeighted(image, 0.6, before, 0.4, 0, dst=image)


def draw_front_hair(image: U8, rng: Rng, traits: Traits, pose: Pose) -> None:
    """Draw the hair over head and ears in place."""
    if traits.style in FALLING:
        _falling(image, rng, traits, pose)
    elif traits.style in ("short", "swept", "bun"):
        _crop_cut(image, rng, traits, pose)
    elif traits.style in ("curly", "afro"):
        _curls(image, rng, traits, pose)
    elif traits.style == "buzz":
        _buzz(image, rng, traits, pose)
    if traits.fringe and traits.style in (*FALLING, "bun"):
        _fringe(image, rng, traits, pose)


def _beard_density(traits: Traits, u: F32, v: F32) -> F32:
    """Return how densely a beard grows at face coordinates, 0..1; lips and cheeks are left free."""
    edge = half_width(traits, v)
    cheek_line = 1.95 - 1.75 * power(np.clip((np.abs(u) - 0.9) / 1.1, 0, 1), 1.3)
    jaw = np.clip((v - cheek_line) / 0.4, 0, 1) * np.clip((edge + 0.02 - np.abs(u)) / 0.06, 0, 1)
    lips = np.clip((np.abs(u) / 1.02) ** 2 + ((v - 2.2) / 0.33) ** 2 - 1, 0, 0.25) * 4
    moustache = np.clip((v - 1.66) / 0.1, 0, 1) * (v < 2.2) * np.clip((1.12 - np.abs(u)) / 0.2, 0, 1)
    patch = 1 - 0.6 * exp(-(((np.abs(u) - 0.5) / 0.2) ** 2) - ((v - 2.72) / 0.16) ** 2)
    return np.asarray(np.maximum(jaw, moustache) * lips * patch, np.float32)


def draw_beard(image: U8, rng: Rng, traits: Traits, pose: Pose) -> None:
    """Draw stubble or a beard in place, if the person has one."""
    if traits.beard == "none":
        return
    count = {"stubble": 9000, "short": 12000, "full": 13000}[traits.beard]
    u = rng.uniform(-2.1, 2.1, count).astype(np.float32)
    v = rng.uniform(0.3, 3.75, count).astype(np.float32)
    kept = rng.random(count) < _beard_density(traits, u, v)
    u, v = u[kept], v[kept]
    length = {"stubble": 0.03, "short": 0.10, "full": 0.24}[traits.beard]
    if traits.beard != "stubble":
        dots = np.zeros((SIZE, SIZE), np.uint8)
        at = np.clip(pose.to_image(np.stack([u, v], axis=1)), 0, SIZE - 1).astype(np.int32)
        dots[at[:, 1], at[:, 0]] = 255
        ground = np.minimum(soften(dots, 9).astype(np.float32) * 14, 255).astype(np.uint8)
        darken(image, ground, 0.62 if float(traits.hair.mean()) < 120 else 0.3)
    n = len(u)
    lean = 0.10 * u + rng.normal(0, 0.35, n) + 0.5 * np.sign(u) * (v < 2.1) * (np.abs(u) < 1.1)
    reach = length * rng.uniform(0.5, 1.2, n)
    s = np.linspace(0, 1, 4, dtype=np.float32)[None, :]
    x = u[:, None] + reach[:, None] * lean[:, None] * s
    y = v[:, None] + reach[:, None] * s * (1 - 0.25 * np.abs(lean[:, None]))
    paths = np.asarray(np.stack([x, y], axis=2), np.float32)
    before = image.copy()
    draw_strands(image, rng, traits, pose, paths, rng.normal(-0.02, 0.14, n).astype(np.float32))
    cover = {"stubble": 0.45, "short": 0.75, "full": 0.85}[traits.beard]
    cv2.addWeighted(image, cover, before, 1 - cover, 0, dst=image)
