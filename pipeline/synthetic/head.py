"""The skin of head and neck: a height field of the face, lit and tinted at half resolution."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.synthetic.canvas import F32, U8, Rng, blurred, blurred_column, bump, crop, smoothstep
from pipeline.synthetic.functions import exp, power
from pipeline.synthetic.pose import COLS, GRID, ROWS, U0, V0, Pose, half_width, neck_width
from pipeline.synthetic.traits import Traits

_U = (U0 + (np.arange(COLS, dtype=np.float32) + 0.5) / GRID).astype(np.float32)
_V = (V0 + (np.arange(ROWS, dtype=np.float32) + 0.5) / GRID).astype(np.float32)


@dataclass(frozen=True)
class Skin:
    """Skin in face coordinates: its colour (ROWS, COLS, 3) uint8 and the light on it (ROWS, COLS, 3)."""

    colour: U8
    light: F32


def _spot(u: float, v: float, su: float, sv: float) -> F32:
    return np.asarray(np.outer(bump(_V, v, sv), bump(_U, u, su)), np.float32)


def _pair(u: float, v: float, su: float, sv: float) -> F32:
    return np.asarray(np.outer(bump(_V, v, sv), bump(_U, u, su) + bump(_U, -u, su)), np.float32)


def _skull(traits: Traits) -> tuple[F32, F32]:
    """Return the height of the bare head and how far inside the head a place is (1 in, 0 out)."""
    w = np.maximum(half_width(traits, _V), 1e-3)[:, None]
    ratio = np.abs(_U)[None, :] / w
    # The outline slants, so the distance to it is shorter than the distance along a row.
    slant = np.sqrt(1 + np.gradient(w[:, 0], 1 / GRID) ** 2)[:, None].astype(np.float32)
    inside = smoothstep(0.6, -0.6, (ratio - 1) * w * GRID / slant) * (w > 0.02)
    inside = blurred(inside, 1.3)
    r = np.minimum(ratio, 0.985)
    section = np.sqrt(1 - power(r, 2.35))
    chin = traits.chin
    profile: F32 = np.interp(
        _V,
        [-3.55, -3.4, -3.1, -2.5, -1.7, -0.8, 0.2, 1.0, 2.0, 2.7, 3.1 + chin / 2, 3.4 + chin, 3.61 + chin],
        [0.7, 1.15, 1.6, 2.1, 2.42, 2.56, 2.5, 2.48, 2.45, 2.4, 2.28, 1.95, 1.3],
    ).astype(np.float32)
    profile = blurred_column(profile, 6)
    return np.asarray(section * profile, np.float32), np.asarray(inside, np.float32)


def _nose(traits: Traits) -> F32:
    n, end = traits.nose_width, traits.nose_length
    height: F32 = np.interp(
        _V,
        [-0.7, -0.25, 0.3, 0.8, 1.12 + end, 1.34 + end, 1.52 + end, 1.62 + end],
        [0.0, 0.12, 0.26, 0.42, 0.58, 0.52, 0.14, 0.0],
    ).astype(np.float32)
    height = blurred_column(height, 3)
    width = np.interp(_V, [-0.7, -0.2, 0.5, 1.1, 1.5], [0.42, 0.25, 0.29, 0.36, 0.36]).astype(np.float32)
    ridge = height * exp(-power(np.abs(_U)[None, :] / (width[:, None] * n), 2.2))
    tip = 0.13 * _spot(0, 1.17 + end, 0.27 * n, 0.24)
    wings = 0.25 * _pair(0.37 * n, 1.34 + end, 0.15 * n, 0.17)
    return np.asarray(ridge + tip + wings, np.float32)


def _features(traits: Traits) -> F32:
    m = 1.0 if traits.male else 0.45
    old = traits.age
    z = _nose(traits)
    z += 0.10 * m * _pair(0.85, -0.62, 0.75, 0.26) + 0.05 * m * _spot(0, -0.55, 0.4, 0.25)
    z -= 0.17 * _pair(0.92, -0.08, 0.62, 0.34) + 0.13 * _pair(0.42, -0.05, 0.2, 0.3)
    z += 0.13 * _pair(1.02, 0.0, 0.40, 0.26)
    z += 0.16 * traits.cheek * _pair(1.25, 0.85, 0.62, 0.5) - 0.10 * traits.cheek * _pair(1.35, 1.9, 0.5, 0.6)
    z -= 0.10 * _pair(2.0, -0.75, 0.4, 0.6)
    z += 0.13 * _spot(0, 2.12, 0.85, 0.5) - 0.06 * _spot(0, 1.75, 0.1, 0.2) + 0.03 * _pair(0.16, 1.75, 0.09, 0.22)
    z -= 0.12 * _spot(0, 2.68, 0.55, 0.15)
    z += (0.16 + 0.05 * m) * _spot(0, 3.12 + traits.chin * 0.7, 0.5, 0.3)
    z -= 0.05 * _pair(0.98 * traits.mouth_width, 2.16, 0.16, 0.2)
    # The fold from the nose wing to the mouth corner deepens with age and with a smile.
    fold = 0.025 + 0.05 * old + 0.05 * max(0.0, traits.smile)
    t = (_V - 1.35) / 0.95
    at = 0.52 + 0.42 * t
    line = exp(-(((np.abs(_U)[None, :] - at[:, None]) / 0.13) ** 2)) * bump(t, 0.5, 0.5)[:, None]
    z -= np.asarray(fold * line, np.float32)
    if old > 0.35:
        for v in (-1.2, -1.5, -1.78):
            z -= 0.035 * (old - 0.35) * _spot(0.1, v, 1.2, 0.05)
        z -= 0.05 * (old - 0.3) * _pair(0.95, 0.42, 0.5, 0.09)
    return z


def _neck(traits: Traits) -> F32:
    w = neck_width(traits)
    spread = np.interp(_V, [2.0, 3.7, 4.3, 4.9], [w, w, w + 0.22, w + 1.1]).astype(np.float32)[:, None]
    r = np.minimum(np.abs(_U)[None, :] / spread, 0.985)
    z = 1.25 * np.sqrt(1 - r * r) - 0.35
    cords = 0.10 * exp(-(((np.abs(_U)[None, :] - (0.95 - 0.42 * (_V[:, None] - 3.6))) / 0.16) ** 2))
    throat = 0.10 * _spot(0, 4.05, 0.2, 0.22) * (1.0 if traits.male else 0.2)
    return np.asarray(z + cords + throat, np.float32)


def _cast_shadow(height: F32, light: F32) -> F32:
    """Return 1 where the light reaches the height field, falling to 0 behind what stands in its way."""
    quarter = cv2.resize(height, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    scale = GRID / 4
    lit = np.ones_like(quarter)
    for step in (0.12, 0.22, 0.34, 0.5, 0.7, 0.95, 1.3):
        shift = np.array([[1, 0, -light[0] * step * scale], [0, 1, -light[1] * step * scale]], np.float32)
        ahead = cv2.warpAffine(quarter, shift, quarter.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        block = ahead - quarter - light[2] * step
        np.minimum(lit, smoothstep(0.14 + 0.25 * step, -0.04, block), out=lit)
    lit = blurred(lit, 1.3)
    return np.asarray(cv2.resize(lit, height.shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def _normals(height: F32) -> tuple[F32, F32, F32]:
    scale = GRID / 8
    nx = -cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3) * scale
    ny = -cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3) * scale
    inverse = 1 / np.sqrt(nx * nx + ny * ny + 1)
    return nx * inverse, ny * inverse, inverse


def _albedo(rng: Rng, traits: Traits) -> F32:
    """Return the colour of the skin in linear light: blood, freckles, sockets and nostrils tint it."""
    base = (traits.skin / 255) ** 2
    mottle = crop(rng, "mottle", ROWS, COLS)
    tint = cv2.addWeighted(mottle, 1.0, mottle, 0, 0, dtype=cv2.CV_32F) * np.float32(1 / 128)
    fair = 1 - 0.5 * traits.depth
    red = 0.75 * fair * _pair(1.3, 0.95, 0.6, 0.5) + 0.7 * fair * _spot(0, 1.2, 0.4, 0.3)
    red += 0.35 * _spot(0, 2.2, 1.1, 0.5) + 0.3 * _pair(2.2, 0.6, 0.3, 1.0) + 0.2 * _spot(0, 3.15, 0.5, 0.3)
    dark = (0.16 + 0.22 * traits.age) * _pair(0.9, 0.24, 0.5, 0.2) + 0.12 * _pair(0.55, -0.1, 0.3, 0.3)
    dark += 0.05 * _pair(1.0, -0.2, 0.6, 0.2)
    tint *= np.stack([1 - 0.42 * dark, 1 - 0.17 * red - 0.55 * dark, 1 - 0.17 * red - 0.5 * dark], axis=2)
    n, end = traits.nose_width, traits.nose_length
    hole = np.minimum(1, 1.5 * _pair(0.205 * n, 1.475 + end, 0.115 * n, 0.05))
    wing = 0.3 * np.clip(_pair(0.44 * n, 1.45 + end, 0.1, 0.1), 0, 1) + 0.32 * _spot(0, 1.56 + end, 0.3 * n, 0.05)
    tint *= (1 - np.minimum(0.92, hole))[..., None]
    tint *= 1 - wing[..., None] * np.array([0.42, 0.6, 0.6], np.float32)
    tint *= base
    _spots(rng, traits, tint)
    return np.asarray(tint, np.float32)


def _spots(rng: Rng, traits: Traits, tint: F32) -> None:
    count = int(rng.integers(90, 260)) if traits.freckles else 0
    moles = int(rng.integers(0, 6))
    layer = np.full(tint.shape[:2], 255, np.uint8)
    for i in range(count + moles):
        u = float(rng.normal(0, 0.95)) if i < count else float(rng.uniform(-1.9, 1.9))
        v = float(rng.normal(0.75, 0.5)) if i < count else float(rng.uniform(-1.8, 3.2))
        radius = float(rng.uniform(0.5, 1.4)) if i < count else float(rng.uniform(1.0, 2.2))
        shade = int(rng.uniform(170, 235)) if i < count else int(rng.uniform(70, 150))
        centre = (int((u - U0) * GRID * 16), int((v - V0) * GRID * 16))
        cv2.circle(layer, centre, int(radius * 16), shade, -1, cv2.LINE_AA, 4)
    weight = cv2.GaussianBlur(layer, (0, 0), 0.6).astype(np.float32)[..., None] * np.float32(1 / 255)
    tint *= 1 - (1 - weight) * np.array([0.55, 0.8, 0.9], np.float32)


def build_skin(rng: Rng, traits: Traits, pose: Pose) -> Skin:
    """Return the lit skin of head and neck in face coordinates."""
    skull, inside = _skull(traits)
    face = skull + _features(traits) * np.clip(skull, 0, 1)
    neck = _neck(traits)
    height = np.where(inside > 0.5, face, neck).astype(np.float32)
    shadow = _cast_shadow(height, traits.light)
    # A turned head turns its normals; the light stays where it is.
    turn, nod = np.float32(pose.yaw * 0.42), np.float32(pose.pitch * 0.42)
    normals = []
    for z in (face, neck):
        nx, ny, nz = _normals(z)
        normals.append((nx + turn * nz, ny + nod * nz, nz))
    nx, ny, nz = (f * inside + n * (1 - inside) for f, n in zip(*normals, strict=True))
    lx, ly, lz = (float(c) for c in traits.light)
    facing = nx * lx + ny * ly + nz * lz
    cavity = height - cv2.resize(
        blurred(cv2.resize(height, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA), 4),
        height.shape[::-1],
    )
    closed = np.clip(1 + 1.5 * np.minimum(cavity, 0.05), 0.35, 1.08)
    # Red light spreads furthest in skin, so the edge of its shadow is the softest.
    sky = (0.62 - 0.30 * ny + 0.12 * nz) * closed
    light = np.empty((ROWS, COLS, 3), np.float32)
    for c, wrap in enumerate((0.42, 0.27, 0.22)):
        lit = np.clip((facing + wrap) / (1 + wrap), 0, None)
        gone = 1 - shadow
        kept = 1 - gone * (0.80 + 0.06 * c)
        light[..., c] = lit * kept * float(traits.key[c]) + sky * float(traits.ambient[c])
    under = smoothstep(4.6, 3.3, _V)[:, None]
    light *= (1 - 0.45 * (1 - inside) * under)[..., None]
    half = np.array([lx, ly, lz + 1], np.float32)
    half /= np.float32(np.linalg.norm(half))
    glint = np.clip(nx * half[0] + ny * half[1] + nz * half[2], 0, 1)
    oily = 0.5 + 0.6 * _spot(0, 0.9, 0.4, 0.8) + 0.35 * _spot(0, -1.3, 1.3, 0.6) + 0.2 * _pair(1.2, 0.7, 0.5, 0.4)
    gloss = (0.045 * power(glint, 10) + 0.075 * power(glint, 34)) * oily * shadow * inside
    colour = _albedo(rng, traits) * light + (gloss[..., None] * traits.key)
    # Square root stands for the display's gamma; it is the cheap inverse of the square above.
    rgb = np.sqrt(np.clip(colour, 0, 1)) * 255
    return Skin(np.asarray(rgb, np.uint8), light)
