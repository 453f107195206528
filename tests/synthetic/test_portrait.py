"""What the procedural portraits promise: repeatable bytes, true detail, variety, and clear errors."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from support.stages import ROOT

from pipeline.synthetic import portrait as synthetic
from pipeline.synthetic.canvas import tile
from pipeline.synthetic.portrait import portrait

_HASHES = """
import hashlib, sys
from pipeline.synthetic.portrait import portrait
for index in map(int, sys.argv[1:]):
    print(index, hashlib.sha256(portrait(3, index).tobytes()).hexdigest())
"""


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2)
    return float(10 * np.log10(255**2 / max(float(error), 1e-9)))


def _there_and_back(image: np.ndarray, factor: int) -> np.ndarray:
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((width // factor, height // factor), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def _digest(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def gallery() -> list[np.ndarray]:
    """Forty full-size portraits of one series, drawn once for the tests of this file."""
    return [portrait(3, index) for index in range(40)]


def test_a_portrait_is_rgb_bytes_of_full_size(gallery: list[np.ndarray]) -> None:
    for image in gallery:
        assert image.shape == (1024, 1024, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous


def test_the_same_seed_and_index_give_the_same_bytes_in_another_process(gallery: list[np.ndarray]) -> None:
    _drawn_elsewhere(gallery, [7, 2, 11, 0], {})


def test_a_processor_that_can_do_less_gives_the_same_bytes(gallery: list[np.ndarray]) -> None:
    # else the default faces, their ids and so their splits would be other ones on each kind of machine
    numpy = np._core._multiarray_umath
    used = [name for name in numpy.__cpu_dispatch__ if numpy.__cpu_features__[name]]
    less = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(used),
        "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,FP16,AVX,SSE4.2,SSE4.1",
        "OPENCV_IPP": "disabled",
        "OPENBLAS_CORETYPE": "Nehalem",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA",
    }
    _drawn_elsewhere(gallery, [0, 4, 5, 8, 16], less)


def _drawn_elsewhere(gallery: list[np.ndarray], order: list[int], environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HASHES, *map(str, order)], env=os.environ | environment,
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    other = dict(line.split() for line in done.stdout.splitlines())
    assert other == {str(index): _digest(gallery[index]) for index in order}


def test_no_gaussian_blur_of_opencv_gets_float32_which_its_builds_round_differently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the wheels for older and newer systems of one release gave portraits that differed by a grey level
    blur, seen = cv2.GaussianBlur, set()

    def watched(values: np.ndarray, *arguments: Any, **named: Any) -> np.ndarray:
        seen.add(values.dtype.name)
        return blur(values, *arguments, **named)

    monkeypatch.setattr(cv2, "GaussianBlur", watched)
    tile.cache_clear()
    for index in range(12):
        portrait(3, index)
    assert seen == {"uint8", "float64"}


def test_calling_order_and_thread_count_leave_the_bytes_alone(gallery: list[np.ndarray]) -> None:
    threads = cv2.getNumThreads()
    try:
        for count, index in ((1, 9), (4, 4), (2, 9)):
            cv2.setNumThreads(count)
            assert _digest(portrait(3, index)) == _digest(gallery[index])
    finally:
        cv2.setNumThreads(threads)


def test_seed_index_and_version_each_change_the_portrait(
    gallery: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _psnr(portrait(4, 0), gallery[0]) < 25
    assert _psnr(gallery[1], gallery[0]) < 25
    monkeypatch.setattr(synthetic, "VERSION", synthetic.VERSION + 1)
    assert _psnr(portrait(3, 0), gallery[0]) < 25


def test_portraits_hold_detail_at_full_resolution(gallery: list[np.ndarray]) -> None:
    losses = [_psnr(image, _there_and_back(image, 2)) for image in gallery[::2]]
    assert max(losses) < 42
    assert 28 < float(np.median(losses)) < 38


def test_the_detail_is_drawn_and_not_mere_noise(gallery: list[np.ndarray]) -> None:
    # White noise strong enough for this loss would leave no image smooth anywhere.
    for image in gallery[:20]:
        fine = image.astype(np.float32) - cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.float32)
        local = cv2.blur((fine**2).mean(axis=2), (32, 32))
        assert float(np.percentile(local, 5)) < 0.25 * float(np.percentile(local, 95))


def test_no_two_portraits_are_alike(gallery: list[np.ndarray]) -> None:
    small = np.stack([cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA) for image in gallery])
    flat = small.reshape(len(small), -1).astype(np.float32)
    for i in range(len(flat) - 1):
        error = ((flat[i + 1 :] - flat[i]) ** 2).mean(axis=1)
        assert float(error.min()) > 255**2 / 10**2.5


@pytest.mark.parametrize("size", [512, 256, 128, 64])
def test_smaller_sizes_are_area_means_of_the_full_portrait(gallery: list[np.ndarray], size: int) -> None:
    image = portrait(3, 5, size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    step = 1024 // size
    mean = gallery[5].reshape(size, step, size, step, 3).astype(np.float64).mean(axis=(1, 3))
    assert float(np.abs(image - mean).max()) <= 0.51


def test_sizes_that_do_not_divide_are_served_too() -> None:
    assert portrait(3, 6, 300).shape == (300, 300, 3)


@pytest.mark.parametrize("size", [0, -4, 1025, 2048])
def test_sizes_that_cannot_be_drawn_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="size"):
        portrait(0, 0, size)


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1)])
def test_negative_seeds_and_indices_are_refused(seed: int, index: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        portrait(seed, index)
