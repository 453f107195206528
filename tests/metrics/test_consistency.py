"""A result is compared with its input as the pipeline's bicubic would reduce it, of any depth and size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.pictures import face

from pipeline.core.images import resize
from pipeline.metrics.fidelity import consistency


def noisy(pixels: np.ndarray, amount: int, seed: int = 0) -> np.ndarray:
    top = np.iinfo(pixels.dtype).max
    change = np.random.default_rng(seed).integers(-amount, amount + 1, pixels.shape)
    return np.clip(pixels.astype(np.int64) + change, 0, top).astype(pixels.dtype)


def whole(high: np.ndarray, low: np.ndarray) -> float:
    return float(np.abs(resize(high, *low.shape[:2]).astype(int) - low).mean())


@pytest.mark.parametrize(
    "size", [(1, 1), (3, 7), (512, 513), (257, 700), (514, 257), (1031, 515), (1400, 20), (1300, 1)]
)
def test_a_picture_cut_into_pieces_scores_as_a_whole_one(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    low = random.integers(0, 256, (*size, 3), dtype=np.uint8)
    high = random.integers(0, 256, (4 * size[0], 4 * size[1], 3), dtype=np.uint8)
    assert consistency(high, low) == pytest.approx(whole(high, low), abs=1e-9)


def test_the_original_of_a_reduced_picture_agrees_with_it_to_the_bit() -> None:
    high = face(1, 256)
    assert consistency(high, resize(high, 64, 64)) == 0
    assert consistency(255 - high, resize(high, 64, 64)) > 20


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_grey_counts_as_rgb_does_and_alpha_not_at_all(channels: int) -> None:
    high = noisy(face(2, 256), 60)
    low = noisy(resize(high, 64, 64), 5)
    colours = channels - (channels + 1) % 2
    expected = np.abs(resize(high, 64, 64)[..., :colours].astype(int) - low[..., :colours]).mean()
    high, low = (np.ascontiguousarray(planes[..., :colours]) for planes in (high, low))
    if colours != channels:
        high = np.concatenate([high, np.zeros_like(high[..., :1])], axis=2)
        low = np.concatenate([low, np.full_like(low[..., :1], 255)], axis=2)
    assert consistency(high, low) == pytest.approx(expected, abs=1e-9)


def test_sixteen_bits_are_told_on_the_same_scale_as_eight() -> None:
    high = noisy(face(3, 256), 20)
    low = noisy(resize(high, 64, 64), 12)
    deep_low, deep_high = (planes.astype(np.uint16) * 257 for planes in (low, high))
    assert consistency(deep_high, deep_low) == pytest.approx(consistency(high, low), abs=0.01)
    assert consistency(deep_high, low) == pytest.approx(consistency(high, low), abs=0.1)
    # a step that 8 bits cannot hold is seen
    fine = np.full((256, 256, 3), 30000, dtype=np.uint16)
    assert consistency(fine, fine[:64, :64] + np.uint16(64)) == pytest.approx(64 / 257, abs=1e-3)


def test_sixteen_bit_overshoot_is_clipped_as_in_a_picture() -> None:
    high = np.zeros((64, 64, 1), dtype=np.uint16)
    high[:, 32:] = 65535
    low = resize(np.repeat((high >> 8).astype(np.uint8), 3, axis=2), 16, 16)[..., :1]
    assert consistency(high, low.astype(np.uint16) * 257) < 0.2


def test_a_result_in_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    low = noisy(np.zeros((600, 700, 3), dtype=np.uint8), 200)
    high = np.memmap(tmp_path / "high", dtype=np.uint8, mode="w+", shape=(2400, 2800, 3))
    high[:] = noisy(np.repeat(np.repeat(low, 4, axis=0), 4, axis=1), 30)
    assert consistency(high, low) == pytest.approx(whole(np.array(high), low), abs=1e-9)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (np.zeros((4, 4, 3), np.uint8), np.zeros((16, 15, 3), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((16, 16, 1), np.uint8)),
        (np.zeros((4, 4, 3), np.float32), np.zeros((16, 16, 3), np.float32)),
        (np.zeros((4, 4), np.uint8), np.zeros((16, 16), np.uint8)),
    ],
)
def test_pictures_that_do_not_belong_together_are_refused(low: Any, high: Any) -> None:
    with pytest.raises(ValueError, match=r"times its input|differ in colour|expected uint8"):
        consistency(high, low)
