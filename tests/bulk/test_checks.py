"""A result is compared with its input as the one bicubic would, and the pictures worth a look are named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.pictures import face

from pipeline.bulk.checks import DISAGREES_ALWAYS, consistency, flag, severity
from pipeline.core.images import resize
from pipeline.metrics import fidelity as metrics


def noisy(pixels: np.ndarray, amount: int, seed: int = 0) -> np.ndarray:
    top = np.iinfo(pixels.dtype).max
    change = np.random.default_rng(seed).integers(-amount, amount + 1, pixels.shape)
    return np.clip(pixels.astype(np.int64) + change, 0, top).astype(pixels.dtype)


def rows(**columns: list[Any]) -> list[dict[str, Any]]:
    return [
        {"status": "ok", **dict(zip(columns, values, strict=True))} for values in zip(*columns.values(), strict=True)
    ]


def flags(table: list[dict[str, Any]]) -> list[str]:
    flag(table)
    return [row["flags"] for row in table]


@pytest.mark.parametrize(
    "size", [(1, 1), (3, 7), (512, 513), (257, 700), (514, 257), (1031, 515), (1400, 20), (1300, 1)]
)
def test_a_picture_cut_into_pieces_scores_as_a_whole_one(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    low = random.integers(0, 256, (*size, 3), dtype=np.uint8)
    high = random.integers(0, 256, (4 * size[0], 4 * size[1], 3), dtype=np.uint8)
    assert consistency(low, high) == pytest.approx(metrics.consistency(high, low), abs=1e-9)


def test_the_original_of_a_reduced_picture_agrees_with_it_to_the_bit() -> None:
    high = face(1, 256)
    assert consistency(resize(high, 64, 64), high) == 0
    assert consistency(resize(high, 64, 64), 255 - high) > 20


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
    assert consistency(low, high) == pytest.approx(expected, abs=1e-9)


def test_sixteen_bits_are_told_on_the_same_scale_as_eight() -> None:
    high = noisy(face(3, 256), 20)
    low = noisy(resize(high, 64, 64), 12)
    deep_low, deep_high = (planes.astype(np.uint16) * 257 for planes in (low, high))
    assert consistency(deep_low, deep_high) == pytest.approx(consistency(low, high), abs=0.01)
    assert consistency(low, deep_high) == pytest.approx(consistency(low, high), abs=0.1)
    # a step that 8 bits cannot hold is seen
    fine = np.full((256, 256, 3), 30000, dtype=np.uint16)
    assert consistency(fine[:64, :64] + np.uint16(64), fine) == pytest.approx(64 / 257, abs=1e-3)


def test_sixteen_bit_overshoot_is_clipped_as_in_a_picture() -> None:
    high = np.zeros((64, 64, 1), dtype=np.uint16)
    high[:, 32:] = 65535
    low = resize(np.repeat((high >> 8).astype(np.uint8), 3, axis=2), 16, 16)[..., :1]
    assert consistency(low.astype(np.uint16) * 257, high) < 0.2


def test_a_result_in_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    low = noisy(np.zeros((600, 700, 3), dtype=np.uint8), 200)
    high = np.memmap(tmp_path / "high", dtype=np.uint8, mode="w+", shape=(2400, 2800, 3))
    high[:] = noisy(np.repeat(np.repeat(low, 4, axis=0), 4, axis=1), 30)
    assert consistency(low, high) == pytest.approx(metrics.consistency(np.array(high), low), abs=1e-9)


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
        consistency(low, high)


USUAL = [0.10, 0.12, 0.15, 0.11, 0.13, 0.14, 0.12, 0.16]


def test_a_result_that_strays_unlike_the_others_is_flagged() -> None:
    assert flags(rows(consistency=[*USUAL, 1.5])) == [""] * 8 + ["disagrees"]


def test_an_outlier_below_one_grey_level_is_not_worth_a_look() -> None:
    assert flags(rows(consistency=[*USUAL, 0.9])) == [""] * 9


def test_noisy_inputs_that_all_stray_alike_are_not_flagged() -> None:
    assert flags(rows(consistency=[2.1, 2.4, 2.2, 2.6, 2.5, 2.3, 2.0, 2.9])) == [""] * 8


def test_a_whole_set_gone_wrong_is_flagged_though_none_stands_out() -> None:
    assert flags(rows(consistency=[DISAGREES_ALWAYS + 1] * 20)) == ["disagrees"] * 20


def test_few_pictures_are_held_to_the_absolute_thresholds() -> None:
    table = rows(consistency=[0.1, 0.1, 0.9, 1.1], identity=[0.99, 0.98, 0.7, 0.4])
    assert flags(table) == ["", "", "", "disagrees,identity"]


def test_another_person_is_flagged_and_a_slight_difference_is_not() -> None:
    likeness = [0.99, 0.98, 0.985, 0.99, 0.97, 0.98]
    assert flags(rows(identity=[*likeness, 0.45])) == [""] * 6 + ["identity"]
    assert flags(rows(identity=[*likeness, 0.7])) == [""] * 6 + ["identity"]
    assert flags(rows(identity=[*likeness, 0.9])) == [""] * 7
    # 0.7 is no outlier where all lie there
    assert flags(rows(identity=[0.62, 0.75, 0.7, 0.66, 0.78, 0.71, 0.7])) == [""] * 7


def test_equal_values_have_no_outliers() -> None:
    assert flags(rows(consistency=[2.0] * 9 + [2.01], identity=[0.7] * 9 + [0.699])) == [""] * 10


def test_no_face_is_flagged_only_where_faces_were_looked_for() -> None:
    assert flags(rows(faces=[None, 0, 2])) == ["", "no-face", ""]
    assert flags([{"status": "ok"}]) == [""]


def test_what_was_not_measured_or_not_done_has_no_flags() -> None:
    table = rows(consistency=[None, float("nan"), 9.0], identity=[None, float("nan"), 0.1], faces=[None, None, 0])
    table[2]["status"] = "failed"
    assert flags(table) == ["", "", ""]


def test_failed_pictures_do_not_shift_what_is_usual() -> None:
    table = rows(consistency=[*USUAL, 1.5] + [3.0] * 20)
    for row in table[9:]:
        row["status"] = "failed"
    assert flags(table)[8] == "disagrees"


def test_worse_pictures_come_first() -> None:
    mild, bad = ({"flags": "disagrees", "consistency": value} for value in (1.2, 8.0))
    stranger = {"flags": "identity", "identity": 0.1}
    both = {"flags": "disagrees,identity", "consistency": 8.0, "identity": 0.1}
    assert severity({"flags": ""}) == severity({}) == 0
    assert 1 <= severity({"flags": "no-face"}) < severity(mild) < severity(stranger) < severity(bad) < severity(both)
