"""Procedural portraits: seeded drawings of people that stand in for photographs which may not be shipped.

A portrait is drawn at 1024x1024 from a generator of its own, so it depends on seed and index alone. The head
is a height field lit by one lamp and the sky; hair, brows, lashes and beards are thousands of single strokes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import cv2
import numpy as np

from pipeline.synthetic.canvas import F32, SIZE, U8, Rng, blend, crop, polygon_mask
from pipeline.synthetic.extras import draw_ear, draw_earring, draw_glasses
from pipeline.synthetic.eyes import draw_brow, draw_eye, draw_lashes
from pipeline.synthetic.hairstyles import FALLING, draw_back_hair, draw_beard, draw_front_hair
from pipeline.synthetic.head import build_skin
from pipeline.synthetic.mouth import CENTRE, draw_mouth
from pipeline.synthetic.pose import GRID, U0, V0, Pose, draw_pose, neck_width, outline
from pipeline.synthetic.scene import draw_backdrop, draw_clothes
from pipeline.synthetic.traits import Traits, draw_traits

VERSION = 1  # bump when other people are drawn, or in another way
_drawing = RLock()


def file_name(index: int) -> str:
    """File name of a portrait: portrait-000000.png and on."""
    return f"portrait-{index:06d}.png"


def _box(pose: Pose, u: float, v: float, half_u: float, half_v: float) -> tuple[slice, slice]:
    """Return the rows and columns around a place on the face."""
    corners = np.array([[u + a * half_u, v + b * half_v] for a in (-1, 1) for b in (-1, 1)], np.float32)
    pixels = pose.to_image(corners)
    x0, y0 = np.clip(np.floor(pixels.min(axis=0)).astype(int), 0, SIZE)
    x1, y1 = np.clip(np.ceil(pixels.max(axis=0)).astype(int), 0, SIZE)
    return slice(int(y0), int(y1)), slice(int(x0), int(x1))


def _face_coordinates(column: F32, row: F32) -> tuple[F32, F32]:
    u, v = (column + np.float32(0.5)) / GRID + np.float32(U0), (row + np.float32(0.5)) / GRID + np.float32(V0)
    return np.asarray(u, np.float32), np.asarray(v, np.float32)


def _draw_face(image: U8, rng: Rng, traits: Traits, pose: Pose) -> None:
    skin = build_skin(rng, traits, pose)
    column, row = pose.to_grid()
    w = neck_width(traits)
    neck = np.array([[-w, 2.0], [w, 2.0], [w + 0.02, 3.6], [w + 0.5, 4.4], [w + 0.5, 5], [-w - 0.5, 5],
                     [-w - 0.5, 4.4], [-w - 0.02, 3.6]], np.float32)  # fmt: skip
    mask = cv2.bitwise_or(polygon_mask(pose.to_image(outline(traits))), polygon_mask(pose.to_image(neck)))
    mask = cv2.GaussianBlur(mask, (0, 0), 0.8)
    x, y, width, height = cv2.boundingRect(mask)
    box = np.s_[y : y + height, x : x + width]
    layer = cv2.remap(skin.colour, column[box], row[box], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    layer = cv2.multiply(layer, crop(rng, "pores", height, width), scale=1 / 128)
    blend(image[box], np.asarray(layer, np.uint8), np.ascontiguousarray(mask[box]))

    gaze = (float(rng.normal(0, 0.03)), float(rng.normal(0, 0.012)))
    places = [(_box(pose, side * 1.0, -0.05, 0.68, 0.42), side) for side in (-1, 1)]
    for box, side in places:
        light = cv2.remap(skin.light, column[box], row[box], cv2.INTER_LINEAR)
        u, v = _face_coordinates(column[box], row[box])
        draw_eye(image[box], rng, traits, u, v, light, side, gaze)
    box = _box(pose, 0, CENTRE + 0.1, 1.15, 0.75)
    light = cv2.remap(skin.light, column[box], row[box], cv2.INTER_LINEAR)
    u, v = _face_coordinates(column[box], row[box])
    draw_mouth(image[box], rng, traits, u, v, light)
    for side in (-1, 1):
        draw_lashes(image, rng, traits, pose, side)
        draw_brow(image, rng, traits, pose, side)


def _render(rng: Rng) -> U8:
    traits = draw_traits(rng)
    pose = draw_pose(rng)
    image = draw_backdrop(rng, traits)
    draw_back_hair(image, rng, traits, pose)
    # Falling hair covers the ears, and would leave slivers of them beside it.
    ears = () if traits.style in FALLING else (-1, 1)
    for side in ears:
        draw_ear(image, rng, traits, pose, side)
    _draw_face(image, rng, traits, pose)
    draw_clothes(image, rng, traits, pose)
    draw_beard(image, rng, traits, pose)
    style = int(rng.integers(0, 6))
    if traits.earrings:
        for side in ears:
            draw_earring(image, rng, traits, pose, side, style)
    draw_front_hair(image, rng, traits, pose)
    if traits.glasses:
        draw_glasses(image, rng, traits, pose)
    return np.asarray(cv2.addWeighted(image, 1, crop(rng, "grain"), 1, -128), np.uint8)


def portrait(seed: int, index: int, size: int = SIZE) -> U8:
    """Return portrait `index` of the series `seed`: RGB, uint8, shape (size, size, 3), values 0..255.

    The same arguments give the same bytes in any process and order and on any x86-64 processor, as long as this package
    and the versions of NumPy and OpenCV stay the same; which wheel of OpenCV it is makes no difference. Every size is
    drawn at 1024 and reduced: by area where `size` divides 1024, else by OpenCV's area resize at a fractional scale.

    Raises ValueError if `size` is below 1 or above 1024, or if `seed` or `index` is negative.
    """
    if not 1 <= size <= SIZE:
        raise ValueError(f"size must be 1..{SIZE}, not {size}")
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must not be negative: {seed}, {index}")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([VERSION, seed, index])))
    with _plain_opencv():
        image = _render(rng)
        if size == SIZE:
            return image
        return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


@contextmanager
def _plain_opencv() -> Iterator[None]:
    """Without what OpenCV has for one processor and not for another: each rounds in its own way."""
    with _drawing:  # the setting is the process'
        before = cv2.useOptimized()
        cv2.setUseOptimized(False)
        try:
            yield
        finally:
            cv2.setUseOptimized(before)
