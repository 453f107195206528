"""A manifest row determines its pair, degradations touch the low side only, and batches follow from (seed, step)."""

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
from support.pictures import face
from support.training import CHANCES, STRENGTHS

from pipeline.core.degradation import Degradations, make_pair
from pipeline.core.scales import AUGMENTATIONS, SCALES
from pipeline.core.schema import PAIRS
from pipeline.pairs.manifest import PairsError, draw_manifest

IMAGES = [(f"face-{index:04d}", "train", 256) for index in range(400)]


def draw(images: list[tuple[str, str, int]], **changes: Any) -> list[dict[str, Any]]:
    drawn = draw_manifest(images, 2, Degradations(**{"seed": 1, "chances": CHANCES, **STRENGTHS, **changes}))
    return [item for batch in drawn for item in batch.to_pylist()]


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


def test_every_augmentation_of_the_schema_can_be_made() -> None:
    rows = [item for item in draw(IMAGES[:30]) if item["scale"] == "16to64"]
    assert {item["augmentation"] for item in rows} == set(AUGMENTATIONS)
    for item in rows:
        truth, low = make_pair(face(9, 256), item)
        assert (truth.shape, low.shape) == ((64, 64, 3), (16, 16, 3))
