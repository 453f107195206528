"""Who is drawn: every choice that makes one portrait differ from another, taken from its generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.canvas import F32, Rng

_SKIN = np.array(
    [
        [244, 208, 188], [236, 194, 168], [224, 176, 146], [206, 155, 122], [184, 132, 98],
        [156, 107, 78], [124, 83, 60], [96, 63, 47], [74, 49, 38],
    ],
    np.float32,
)  # fmt: skip
_HAIR = {
    "black": (30, 26, 26), "dark brown": (54, 39, 30), "brown": (88, 60, 40), "chestnut": (112, 68, 42),
    "red": (150, 78, 40), "dark blond": (150, 118, 76), "blond": (204, 170, 118),
    "grey": (146, 144, 142), "white": (208, 205, 200),
}  # fmt: skip
_IRIS = {
    "brown": (92, 58, 34), "dark": (58, 38, 26), "hazel": (122, 96, 52), "green": (96, 118, 82),
    "blue": (92, 132, 168), "grey": (122, 134, 142),
}  # fmt: skip
_BEARDS = ("none", "stubble", "short", "full")
_STYLES = ("bald", "buzz", "short", "swept", "curly", "afro", "bob", "long", "wavy", "bun")


@dataclass(frozen=True)
class Traits:
    """One person, their light and their clothes; colours are RGB 0..255, the rest plain factors."""

    male: bool
    age: float
    skin: F32
    depth: float
    hair: F32
    style: str
    fringe: bool
    iris: F32
    jaw: float
    width: float
    chin: float
    cheek: float
    nose_width: float
    nose_length: float
    eye_width: float
    eye_open: float
    eye_slant: float
    brow_weight: float
    brow_arch: float
    lip_upper: float
    lip_lower: float
    mouth_width: float
    smile: float
    mouth_open: float
    lipstick: float
    beard: str
    glasses: bool
    earrings: bool
    freckles: bool
    light: F32
    key: F32
    ambient: F32
    backdrop: str
    garment: str
    pattern: str


def _pick(rng: Rng, table: dict[str, tuple[int, int, int]], odds: list[float]) -> F32:
    p = np.array(odds)
    name = list(table)[int(rng.choice(len(table), p=p / p.sum()))]
    colour = np.array(table[name], np.float32) * np.float32(rng.uniform(0.88, 1.12))
    return np.asarray(colour * (1 + rng.normal(0, 0.03, 3)), np.float32)


def _light(rng: Rng, depth: float) -> tuple[F32, F32, F32]:
    side = rng.uniform(-1.0, 1.0)
    direction = np.array([np.sin(side), rng.uniform(-0.75, -0.25), np.cos(side) * 0.9], np.float32)
    direction /= np.float32(np.linalg.norm(direction))
    # A photographer opens the lens for a deeper skin.
    exposure = 0.96 + 0.42 * depth**1.5
    warmth = rng.normal(0, 0.05)
    key = np.array([1 + warmth, 1, 1 - warmth], np.float32) * np.float32(exposure * rng.uniform(0.80, 1.08))
    sky = np.array([1 - warmth, 1, 1 + warmth], np.float32) * np.float32(exposure * rng.uniform(0.20, 0.36))
    return direction, key, sky


def draw_traits(rng: Rng) -> Traits:
    """Return the traits of one portrait, drawn from `rng` in a fixed order."""
    male = bool(rng.random() < 0.5)
    age = float(rng.beta(1.4, 2.0))
    depth = float(rng.uniform(0, 1))
    at = depth * (len(_SKIN) - 1)
    skin = np.array([np.interp(at, np.arange(len(_SKIN)), _SKIN[:, c]) for c in range(3)], np.float32)
    skin = np.asarray(skin * (1 + rng.normal(0, 0.025, 3)), np.float32)
    grey = max(0.0, age - 0.55) * 3
    fair = max(0.05, 1 - 1.7 * depth)
    hair_odds = [1 + 2 * depth, 1.2, 1.2 * fair, fair, 0.5 * fair, 0.9 * fair, fair, grey, grey / 2]
    hair = _pick(rng, _HAIR, hair_odds)
    iris = _pick(rng, _IRIS, [1.2, 1.0 + depth, 0.6 * fair, 0.5 * fair, fair, 0.6 * fair])
    odds = [1.0, 1.2, 2.4, 2.2, 1.0, 0.7, 0.0, 0.5, 0.3, 0.1] if male else [
        0.0, 0.15, 0.7, 0.5, 1.1, 0.7, 2.0, 2.4, 2.4, 1.4]  # fmt: skip
    style = _STYLES[int(rng.choice(len(_STYLES), p=np.array(odds) / sum(odds)))]
    fringe = bool(rng.random() < (0.0 if male else 0.3))
    light, key, ambient = _light(rng, depth)
    opened = rng.random()
    return Traits(
        male=male, age=age, skin=skin, depth=depth, hair=hair, style=style, fringe=fringe, iris=iris,
        jaw=float(rng.normal(0.12 if male else -0.12, 0.08)),
        width=float(np.clip(rng.normal(1.0, 0.045), 0.9, 1.1)),
        chin=float(np.clip(rng.normal(0.06 if male else -0.04, 0.09), -0.2, 0.24)),
        cheek=float(rng.uniform(0.5, 1.2)),
        nose_width=float(np.clip(rng.normal(0.98 + 0.22 * depth, 0.09), 0.8, 1.35)),
        nose_length=float(rng.normal(0.0, 0.07)),
        eye_width=float(np.clip(rng.normal(1.0 if male else 1.05, 0.04), 0.9, 1.15)),
        eye_open=float(np.clip(rng.normal(0.80 if male else 0.93, 0.10), 0.62, 1.15)),
        eye_slant=float(rng.normal(-0.03, 0.05)),
        brow_weight=float(np.clip(rng.normal(0.95 if male else 0.62, 0.15), 0.35, 1.3)),
        brow_arch=float(rng.normal(0.03 if male else 0.09, 0.04)),
        lip_upper=float(np.clip(rng.normal(0.85 + 0.25 * depth, 0.14), 0.5, 1.4)),
        lip_lower=float(np.clip(rng.normal(0.95 + 0.2 * depth, 0.12), 0.6, 1.4)),
        mouth_width=float(np.clip(rng.normal(1.0, 0.06), 0.85, 1.15)),
        smile=float(np.clip(rng.normal(0.35, 0.35), -0.2, 1.0)),
        mouth_open=float(0.0 if opened < 0.55 else rng.uniform(0.35, 1.0)),
        lipstick=float(0.0 if male or rng.random() < 0.4 else rng.uniform(0.3, 1.0)),
        beard=str(rng.choice(_BEARDS, p=[0.45, 0.27, 0.14, 0.14])) if male else "none",
        glasses=bool(rng.random() < 0.17),
        earrings=bool(not male and rng.random() < 0.4),
        freckles=bool(depth < 0.45 and rng.random() < 0.3),
        light=light, key=key, ambient=ambient,
        backdrop=str(rng.choice(["studio", "bokeh", "foliage", "wall", "room", "brick", "sky"])),
        garment=str(rng.choice(["crew", "vneck", "shirt", "turtle", "suit"])),
        pattern=str(rng.choice(["plain", "knit", "stripes", "plaid", "denim"])),
    )  # fmt: skip
