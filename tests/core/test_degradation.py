"""A row of the manifest and its input determine a training pair bit for bit."""

from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from support.pictures import face, static

from pipeline.core.degradation import make_pair, reduce
from pipeline.core.scales import GROUND_TRUTH_SIDE, SCALES


def row(augmentation: str = "none", scale: str = "64to256", strength: float = 0.0, seed: int = 7) -> dict[str, Any]:
    return {"scale": scale, "augmentation": augmentation, "strength": strength, "seed": seed}


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return face(1, 256)


@pytest.mark.parametrize("scale", SCALES)
def test_a_pair_has_the_sides_that_its_scale_says(scale: str, picture: np.ndarray) -> None:
    truth, low = make_pair(picture, row(scale=scale))
    side = GROUND_TRUTH_SIDE[scale]
    assert truth.shape == (side, side, 3)
    assert low.shape == (side // 4, side // 4, 3)
    assert scale == f"{side // 4}to{side}"


@pytest.mark.parametrize("scale", SCALES)
def test_both_sides_are_reduced_by_pillows_antialiased_bicubic(scale: str, picture: np.ndarray) -> None:
    truth, low = make_pair(picture, row(scale=scale))
    side = GROUND_TRUTH_SIDE[scale]
    theirs = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
    assert (truth == np.asarray(theirs)).all()
    assert (low == np.asarray(theirs.resize((side // 4, side // 4), Image.Resampling.BICUBIC))).all()


def test_the_reduction_is_not_opencvs_bicubic_which_aliases(picture: np.ndarray) -> None:
    theirs = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_CUBIC)
    assert np.abs(reduce(picture).astype(int) - theirs).max() > 20


@pytest.mark.parametrize(("augmentation", "strength"), [("noise", 5.0), ("blur", 0.5), ("jpeg", 80.0), ("rot90", 0.0)])
def test_a_row_determines_its_pair_bit_for_bit(augmentation: str, strength: float, picture: np.ndarray) -> None:
    np.random.seed(0)
    truth, low = make_pair(picture, row(augmentation, strength=strength))
    np.random.seed(1)  # no global state matters, nor what was drawn in between
    make_pair(static(3, 256), row("noise", strength=3.0, seed=99))
    again_truth, again_low = make_pair(picture.copy(), row(augmentation, strength=strength))
    assert (truth == again_truth).all()
    assert (low == again_low).all()


@pytest.mark.parametrize(("augmentation", "turns"), [("rot90", 1), ("rot180", 2), ("rot270", 3)])
def test_rotation_turns_both_sides(augmentation: str, turns: int, picture: np.ndarray) -> None:
    truth, low = make_pair(picture, row())
    turned_truth, turned_low = make_pair(picture, row(augmentation))
    assert (turned_truth == np.rot90(truth, turns)).all()
    # Pillow reduces one direction first and rounds and clips in between, so a turn before it shows a little
    assert np.abs(turned_low.astype(int) - np.rot90(low, turns)).mean() < 0.3
    assert np.abs(turned_low.astype(int) - low).mean() > 10


@pytest.mark.parametrize(("augmentation", "strength"), [("noise", 4.0), ("blur", 0.5), ("jpeg", 80.0)])
def test_noise_blur_and_jpeg_touch_the_low_side_only(augmentation: str, strength: float, picture: np.ndarray) -> None:
    truth, low = make_pair(picture, row())
    same_truth, worse_low = make_pair(picture, row(augmentation, strength=strength))
    assert (same_truth == truth).all()
    assert worse_low.shape == low.shape
    assert 0 < np.abs(worse_low.astype(int) - low).mean() < 10


def test_strength_is_the_sigma_of_the_noise_in_grey_levels_and_its_seed_changes_it() -> None:
    flat = np.full((256, 256, 3), 128, np.uint8)
    lows = [make_pair(flat, row("noise", strength=5.0, seed=seed))[1].astype(float) for seed in (1, 2)]
    for low in lows:
        assert low.std() == pytest.approx(5.0, rel=0.05)
        assert low.mean() == pytest.approx(128, abs=0.3)
    assert abs(np.corrcoef(lows[0].ravel(), lows[1].ravel())[0, 1]) < 0.05


def test_more_strength_blurs_more_and_more_quality_loses_less(picture: np.ndarray) -> None:
    _, low = make_pair(picture, row())

    def change(augmentation: str, strength: float) -> float:
        return float(np.abs(make_pair(picture, row(augmentation, strength=strength))[1].astype(int) - low).mean())

    assert change("blur", 0.3) < change("blur", 0.6)
    assert change("jpeg", 95) < change("jpeg", 75)


def test_an_unknown_augmentation_or_too_small_an_input_is_an_error(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="unknown augmentation 'mirror'"):
        make_pair(picture, row("mirror"))
    with pytest.raises(ValueError, match="128x128 has no 256x256 ground truth"):
        make_pair(picture[:128, :128], row())
