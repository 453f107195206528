"""A manifest row determines its pair, degradations touch the low side only, and batches follow from (seed, step)."""

import copy
import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from support.pictures import face, static
from support.training import CHANCES, STRENGTHS, write_inputs, write_manifest

from pipeline.core.degradation import Degradations, make_pair, reduce
from pipeline.core.images import ImageError
from pipeline.core.scales import AUGMENTATIONS, GROUND_TRUTH_SIDE, SCALES
from pipeline.core.schema import FACES, PAIRS
from pipeline.core.shards import write_rows
from pipeline.pairs.manifest import PairsError, draw_manifest
from pipeline.train.engine.batches import BatchConfig, ManifestError, PairData, prefetch
from pipeline.train.engine.dataset import Inputs

IMAGES = [(f"face-{index:04d}", "train", 256) for index in range(400)]


def row(augmentation: str = "none", scale: str = "64to256", strength: float = 0.0, seed: int = 7) -> dict[str, Any]:
    return {"scale": scale, "augmentation": augmentation, "strength": strength, "seed": seed}


def draw(images: list[tuple[str, str, int]], **changes: Any) -> list[dict[str, Any]]:
    drawn = draw_manifest(images, 2, Degradations(**{"seed": 1, "chances": CHANCES, **STRENGTHS, **changes}))
    return [item for batch in drawn for item in batch.to_pylist()]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return face(1, 256)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PairData:
    folder = tmp_path_factory.mktemp("pairs")
    images = write_inputs(folder / "train", [face(index, 256) for index in range(3)], "train")
    write_manifest(folder / "pairs.parquet", images, CHANCES, draws=4)
    return PairData(folder / "train", folder / "pairs.parquet", "train")


def clean(data: PairData) -> PairData:
    """The same data without its degraded and turned pairs."""
    same = copy.copy(data)
    same.rows = {scale: [item for item in rows if item["augmentation"] == "none"] for scale, rows in data.rows.items()}
    return same


# one pair


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


# the manifest


def test_the_manifest_is_the_same_every_time_and_another_with_another_seed() -> None:
    assert draw(IMAGES[:20]) == draw(IMAGES[:20])
    assert draw(IMAGES[:20]) != draw(IMAGES[:20], seed=2)


def test_adding_a_face_leaves_the_rows_of_all_others_as_they_were() -> None:
    few = {item["pair_id"]: item for item in draw(IMAGES[:10])}
    more = {item["pair_id"]: item for item in draw([("new", "train", 256), *reversed(IMAGES[:10])])}
    assert {key: more[key] for key in few} == few
    assert len(more) == len(few) + 2 * len(SCALES)


def test_a_manifest_row_has_the_columns_of_its_schema_and_an_id_of_its_own() -> None:
    rows = draw(IMAGES[:20])
    assert all(list(item) == PAIRS.names for item in rows)
    assert len({item["pair_id"] for item in rows}) == len(rows) == 20 * 2 * len(SCALES)


def test_no_pair_is_ever_made_of_a_test_face() -> None:
    with pytest.raises(ValueError, match="'test'"):
        draw([*IMAGES[:3], ("secret", "test", 256)])


def test_a_face_has_rows_of_the_scales_that_fit_it_alone_and_too_small_a_one_is_named() -> None:
    for side, scales in ((64, 1), (127, 1), (128, 2), (255, 2), (256, 3), (1024, 3)):
        assert {item["scale"] for item in draw([("a", "train", side)])} == set(SCALES[:scales])
        assert [item["scale"] for item in draw([("a", "valid", side)])] == [SCALES[scales - 1]]
    # what is drawn for a scale does not depend on which others fit
    small = draw([("a", "train", 64)])
    assert draw([("a", "train", 256)])[: len(small)] == small
    with pytest.raises(PairsError, match="image a of 63 pixels is too small"):
        draw([("a", "train", 63)])


def test_the_draws_are_those_of_numpys_generator() -> None:
    chances = {"none": 0.3, "noise": 0.7}
    for item in draw(IMAGES[:20], chances=chances):
        image_id, scale, number = item["pair_id"].rsplit("-", 2)
        key = hashlib.sha256(f"1:{image_id}:{scale}:{number}".encode()).digest()
        random = np.random.default_rng(int.from_bytes(key[:16], "little"))
        name = str(random.choice(["none", "noise"], p=[0.3, 0.7]))
        strength = random.uniform(*(STRENGTHS["noise"] if name == "noise" else (0, 0)))
        expected = (name, round(strength, 3), int(random.integers(2**62)))
        assert (item["augmentation"], item["strength"], item["seed"]) == expected


def test_the_manifest_does_not_depend_on_how_the_images_were_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = draw(IMAGES[:20])
    monkeypatch.setattr("pipeline.pairs.manifest._IMAGES", 7)
    assert draw(IMAGES[:20]) == whole


def test_validation_faces_get_one_clean_row_at_the_largest_scale() -> None:
    (item,) = draw([("v", "valid", 256)])
    assert (item["scale"], item["augmentation"], item["strength"], item["split"]) == ("64to256", "none", 0.0, "valid")


def test_strengths_stay_within_their_ranges_and_use_them() -> None:
    rows = draw(IMAGES)
    for name, (low, high) in STRENGTHS.items():
        found = [item["strength"] for item in rows if item["augmentation"] == name]
        assert low <= min(found) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(found) <= high
    assert {item["strength"] for item in rows if item["augmentation"] not in STRENGTHS} == {0.0}
    assert all(item["strength"].is_integer() for item in rows if item["augmentation"] == "jpeg")


def test_augmentations_come_as_often_as_their_chances_say() -> None:
    chances = {"none": 5.0, "rot90": 1.0, "noise": 3.0, "jpeg": 1.0}
    counts = Counter(item["augmentation"] for item in draw(IMAGES, chances=chances))
    total = sum(counts.values())
    assert set(counts) == set(chances)
    for name, chance in chances.items():
        share = chance / 10
        # five standard deviations of a binomial
        assert counts[name] / total == pytest.approx(share, abs=5 * (share * (1 - share) / total) ** 0.5)


def test_every_augmentation_of_the_schema_can_be_made(picture: np.ndarray) -> None:
    rows = [item for item in draw(IMAGES[:30]) if item["scale"] == "16to64"]
    assert {item["augmentation"] for item in rows} == set(AUGMENTATIONS)
    for item in rows:
        truth, low = make_pair(picture, item)
        assert (truth.shape, low.shape) == ((64, 64, 3), (16, 16, 3))


# batches

BATCHES = BatchConfig(seed=5, batch=4, crop=64, scale_chances={"16to64": 1.0, "32to128": 1.0, "64to256": 1.0})


def test_a_batch_follows_from_seed_and_step_whatever_was_drawn_before(data: PairData) -> None:
    forwards = {step: data.batch(BATCHES, step) for step in range(6)}
    backwards = {step: data.batch(BATCHES, step) for step in reversed(range(6))}
    ahead = {step: (low, truth) for step, low, truth in prefetch(data, BATCHES, 2, 6)}
    assert list(ahead) == [2, 3, 4, 5]
    for step, pair in forwards.items():
        for other in (backwards, ahead):
            assert all(torch.equal(a, b) for a, b in zip(pair, other.get(step, pair), strict=True))
    assert not torch.equal(forwards[0][0], forwards[1][0])
    assert not torch.equal(forwards[0][1], data.batch(replace(BATCHES, seed=6), 0)[1])


def test_crops_have_the_side_asked_for_or_the_whole_of_smaller_scales(data: PairData) -> None:
    for scale, crop, side in (("64to256", 96, 96), ("16to64", 96, 64), ("32to128", 256, 128)):
        low, truth = data.batch(replace(BATCHES, crop=crop, scale_chances={scale: 1.0}), 0)
        assert truth.shape == (4, side, side, 3)
        assert low.shape == (4, side // 4, side // 4, 3)
        assert low.dtype == truth.dtype == torch.uint8


def test_the_crops_of_both_sides_show_the_same_place(data: PairData) -> None:
    data = clean(data)
    config = replace(BATCHES, batch=16, scale_chances={"64to256": 1.0})
    low, truth = (side.numpy() for side in data.batch(config, 3))
    for small, large in zip(low, truth, strict=True):
        inner = np.s_[2:-2, 2:-2]  # the kernel reaches two low pixels beyond the crop
        assert (reduce(large)[inner] == small[inner]).all()
    assert len({large.tobytes() for large in truth}) > 8


def test_scales_come_as_often_as_their_chances_say(data: PairData) -> None:
    config = replace(BATCHES, batch=1, crop=32, scale_chances={"16to64": 0.0, "32to128": 1.0, "64to256": 3.0})
    whole = replace(config, crop=256)
    sides = Counter(data.batch(whole, step)[1].shape[1] for step in range(200))
    assert set(sides) == {128, 256}
    assert sides[256] / 200 == pytest.approx(0.75, abs=0.15)


def test_smoother_ground_truths_have_less_detail_and_are_still_reduced_to_their_low_side(data: PairData) -> None:
    data = clean(data)
    config = replace(BATCHES, batch=16, scale_chances={"64to256": 1.0})

    def detail(truth: torch.Tensor) -> float:
        return float((truth.float() - truth.float().roll(1, 1)).square()[:, 1:].mean())

    _, sharp = data.batch(config, 0)
    low, smooth = data.batch(replace(config, smoother=1.0), 0)
    assert smooth.shape == sharp.shape
    assert detail(smooth) < 0.7 * detail(sharp)
    assert all((reduce(large) == small).all() for small, large in zip(low.numpy(), smooth.numpy(), strict=True))


def test_the_share_of_smoother_ground_truths_is_the_one_asked_for(data: PairData) -> None:
    data = clean(data)
    config = replace(BATCHES, batch=100, scale_chances={"16to64": 1.0}, smoother=0.3)
    _, truth = data.batch(config, 1)
    # at this scale the crop is the whole picture, so that every other ground truth is one of three
    whole = {make_pair(data.images[item["image_id"]], item)[0].tobytes() for item in data.rows["16to64"]}
    smoother = sum(picture.tobytes() not in whole for picture in truth.numpy())
    assert 15 <= smoother <= 45


def test_batches_are_the_same_whether_inputs_are_kept_decoded_or_not(data: PairData, tmp_path: Path) -> None:
    images = write_inputs(tmp_path / "train", [face(index, 256) for index in range(3)], "train")
    write_manifest(tmp_path / "pairs.parquet", images, CHANCES, draws=4)
    for budget in (0, 256 * 256 * 3):  # none; the first and, since there was room left, none more
        frugal = PairData(tmp_path / "train", tmp_path / "pairs.parquet", "train", decoded_bytes=budget)
        for step in range(6):
            for one, other in zip(data.batch(BATCHES, step), frugal.batch(BATCHES, step), strict=True):
                assert torch.equal(one, other)


def test_inputs_beyond_the_budget_stay_encoded(tmp_path: Path) -> None:
    write_inputs(tmp_path / "train", [face(index, 64) for index in range(5)], "train")

    def decoded(budget: int) -> int:
        kept = Inputs(tmp_path / "train", budget)
        return sum(kept[name] is kept[name] for name in kept)

    assert [decoded(budget) for budget in (0, 1, 2 * 64 * 64 * 3, 10**6)] == [0, 1, 2, 5]


def test_a_damaged_input_is_named(tmp_path: Path) -> None:
    images = write_inputs(tmp_path / "train", [face(0)], "train")
    rows = pq.read_table(tmp_path / "train/train-00000.parquet").to_pylist()
    rows[0]["image"]["bytes"] = rows[0]["image"]["bytes"][:500]
    write_rows(tmp_path / "train/train-00000.parquet", rows, FACES)
    with pytest.raises(ImageError, match=f"input {images[0][0]}: "):
        Inputs(tmp_path / "train")


def test_few_large_faces_are_not_drawn_again_and_again(tmp_path: Path) -> None:
    images = write_inputs(tmp_path / "train", [face(index, 256 if index == 0 else 64) for index in range(20)], "train")
    write_manifest(tmp_path / "pairs.parquet", images)
    mixed = PairData(tmp_path / "train", tmp_path / "pairs.parquet", "train")
    config = replace(BATCHES, batch=1, crop=256, scale_chances={"16to64": 1.0, "64to256": 1.0})
    sides = Counter(mixed.batch(config, step)[1].shape[1] for step in range(400))
    assert 5 <= sides[256] <= 40  # one of 21; half of all if the scales had equal chances


# what cannot be paired


def test_a_manifest_that_names_a_missing_image_or_lacks_the_split_is_an_error(tmp_path: Path) -> None:
    images = write_inputs(tmp_path / "train", [face(0)], "train")
    write_manifest(tmp_path / "ghost.parquet", [*images, ("ghost", "train", 256)])
    with pytest.raises(ManifestError, match=r"ghost\.parquet names image ghost"):
        PairData(tmp_path / "train", tmp_path / "ghost.parquet", "train")
    write_manifest(tmp_path / "train.parquet", images)
    with pytest.raises(ManifestError, match="no pairs of split 'valid'"):
        PairData(tmp_path / "train", tmp_path / "train.parquet", "valid")


def test_scales_that_the_manifest_lacks_are_never_drawn(tmp_path: Path) -> None:
    images = write_inputs(tmp_path / "valid", [face(0, 256)], "valid")
    write_manifest(tmp_path / "pairs.parquet", images)
    data = PairData(tmp_path / "valid", tmp_path / "pairs.parquet", "valid")
    assert {data.batch(replace(BATCHES, crop=256), step)[1].shape[1] for step in range(10)} == {256}
    with pytest.raises(ManifestError, match="no pairs of the scales"):
        data.batch(replace(BATCHES, scale_chances={"16to64": 1.0}), 0)
