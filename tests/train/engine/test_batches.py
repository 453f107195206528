"""Batches follow from seed and step alone; what cannot be paired is named."""

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.pictures import face
from support.training import CHANCES, pair_data, write_inputs, write_manifest

from pipeline.core.chain import Chain
from pipeline.core.chain_draws import ChainRanges
from pipeline.core.degradation import make_pair, reduce, told_of
from pipeline.core.images import ImageError
from pipeline.core.schema import FACES
from pipeline.core.shards import ShardError, write_rows
from pipeline.train.engine.batches import TOLD_ERROR, ManifestError, PairData, cut_of_use, prefetch
from pipeline.train.engine.config import BatchConfig
from pipeline.train.engine.dataset import Inputs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PairData:
    return pair_data(
        tmp_path_factory.mktemp("pairs"), [face(index, 256) for index in range(3)], chances=CHANCES, draws=4
    )


def clean(data: PairData) -> PairData:
    """The same data without its degraded and turned pairs."""
    same = copy.copy(data)
    same.rows = {scale: [item for item in rows if item["augmentation"] == "none"] for scale, rows in data.rows.items()}
    return same


BATCHES = BatchConfig(seed=5, batch=4, crop=64, scale_chances={"16to64": 1.0, "32to128": 1.0, "64to256": 1.0})


def test_a_batch_follows_from_seed_and_step_whatever_was_drawn_before(data: PairData) -> None:
    forwards = {step: data.batch(BATCHES, step) for step in range(6)}
    backwards = {step: data.batch(BATCHES, step) for step in reversed(range(6))}
    ahead = dict(prefetch(data, BATCHES, 2, 6))
    assert list(ahead) == [2, 3, 4, 5]
    for step, pair in forwards.items():
        for other in (backwards, ahead):
            assert all(torch.equal(a, b) for a, b in zip(pair, other.get(step, pair), strict=True))
    assert not torch.equal(forwards[0][0], forwards[1][0])
    assert not torch.equal(forwards[0][1], data.batch(replace(BATCHES, seed=6), 0)[1])


def test_crops_have_the_side_asked_for_or_the_whole_of_smaller_scales(data: PairData) -> None:
    for scale, crop, side in (("64to256", 96, 96), ("16to64", 96, 64), ("32to128", 256, 128)):
        low, truth, _ = data.batch(replace(BATCHES, crop=crop, scale_chances={scale: 1.0}), 0)
        assert truth.shape == (4, side, side, 3)
        assert low.shape == (4, side // 4, side // 4, 3)
        assert low.dtype == truth.dtype == torch.uint8


def test_the_crops_of_both_sides_show_the_same_place(data: PairData) -> None:
    data = clean(data)
    config = replace(BATCHES, batch=16, scale_chances={"64to256": 1.0})
    low, truth, _ = (side.numpy() for side in data.batch(config, 3))
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

    _, sharp, _ = data.batch(config, 0)
    low, smooth, _ = data.batch(replace(config, smoother=1.0), 0)
    assert smooth.shape == sharp.shape
    assert detail(smooth) < 0.7 * detail(sharp)
    assert all((reduce(large) == small).all() for small, large in zip(low.numpy(), smooth.numpy(), strict=True))


def test_the_share_of_smoother_ground_truths_is_the_one_asked_for(data: PairData) -> None:
    data = clean(data)
    config = replace(BATCHES, batch=100, scale_chances={"16to64": 1.0}, smoother=0.3)
    _, truth, _ = data.batch(config, 1)
    # at this scale the crop is the whole picture, so that every other ground truth is one of three
    whole = {make_pair(data.images[item["image_id"]], item)[0].tobytes() for item in data.rows["16to64"]}
    smoother = sum(picture.tobytes() not in whole for picture in truth.numpy())
    assert 15 <= smoother <= 45


def test_things_are_drawn_on_the_share_asked_for_and_reduced_with_their_ground_truth(data: PairData) -> None:
    data = clean(data)
    config = replace(BATCHES, batch=64, crop=64, scale_chances={"64to256": 1.0})
    low, plain, _ = data.batch(replace(config, drawn=1e-9), 0)
    low_on, drawn, _ = data.batch(replace(config, drawn=0.3), 0)
    on = [bool((one != other).any()) for one, other in zip(plain, drawn, strict=True)]
    assert 9 <= sum(on) <= 30
    for index in np.flatnonzero(on):
        assert (reduce(drawn[index].numpy()) == low_on[index].numpy()).all()
    assert (low_on[[not one for one in on]] == low[[not one for one in on]]).all()
    shared = data.batch(replace(config, drawn=0.3), 0, slice(16, 32))
    assert (shared.truth == drawn[16:32]).all()


def test_nothing_is_drawn_at_the_scale_of_use(damaged: PairData) -> None:
    config = replace(BATCHES, scale_chances={"256to1024": 1.0})
    for plain, asked in zip(damaged.batch(config, 5), damaged.batch(replace(config, drawn=1.0), 5), strict=True):
        assert (plain == asked).all()


def test_a_share_of_steps_has_clean_parts_whose_results_are_to_be_ground_truths(data: PairData) -> None:
    config = replace(BATCHES, results=0.4)
    batches = [data.batch(config, step) for step in range(100)]
    of_results = [batch for batch in batches if not batch.truth.shape[3]]
    assert 25 <= len(of_results) <= 55
    for low, truth, told in of_results:
        assert truth.shape == (4, 64, 64, 0)
        # enlarged 4 times and reduced 1.4 to 3 times they have the ground truths' side
        assert 1.3 <= low.shape[1] * 4 / 64 <= 3.1
        assert not told.any()
    first = of_results[0].low.numpy()
    images = [np.rot90(image, turns) for image in data.images.values() for turns in range(4)]
    found = (np.lib.stride_tricks.sliding_window_view(image, first[0].shape[:2], (0, 1)) for image in images)
    assert any((windows == first[0].transpose(2, 0, 1)).all((2, 3, 4)).any() for windows in found), "part of an input"


def test_steps_that_learn_from_pairs_are_the_same_beside_others_that_do_not(data: PairData) -> None:
    for step in range(20):
        batch = data.batch(replace(BATCHES, results=0.4), step)
        if not batch.truth.shape[3]:
            continue
        assert all(torch.equal(a, b) for a, b in zip(batch, data.batch(BATCHES, step), strict=True))


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


def test_a_manifest_that_names_a_missing_image_or_lacks_the_split_is_an_error(tmp_path: Path) -> None:
    images = write_inputs(tmp_path / "train", [face(0)], "train")
    write_manifest(tmp_path / "ghost.parquet", [*images, ("ghost", "train", 256)])
    with pytest.raises(ManifestError, match=r"ghost\.parquet names image ghost"):
        PairData(tmp_path / "train", tmp_path / "ghost.parquet", "train")
    write_manifest(tmp_path / "train.parquet", images)
    with pytest.raises(ManifestError, match="no pairs of split 'valid'"):
        PairData(tmp_path / "train", tmp_path / "train.parquet", "valid")


@pytest.mark.parametrize(
    ("column", "value"),
    [("scale", "8to32"), ("augmentation", "sepia"), ("strength", float("inf")), ("seed", -1), ("jpeg", 0)],
)
def test_a_manifest_edited_to_what_no_pair_can_have_is_refused_by_column(
    column: str, value: Any, tmp_path: Path
) -> None:
    images = write_inputs(tmp_path / "train", [face(index) for index in range(2)], "train")
    write_manifest(tmp_path / "pairs.parquet", images)
    table = pq.read_table(tmp_path / "pairs.parquet")
    rows = table.to_pylist()
    rows[1][column] = value
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), tmp_path / "pairs.parquet")
    with pytest.raises(ShardError, match=f"pairs.parquet: {column}"):
        PairData(tmp_path / "train", tmp_path / "pairs.parquet", "train")


def test_scales_that_the_manifest_lacks_are_never_drawn(tmp_path: Path) -> None:
    images = write_inputs(tmp_path / "valid", [face(0, 256)], "valid")
    write_manifest(tmp_path / "pairs.parquet", images)
    data = PairData(tmp_path / "valid", tmp_path / "pairs.parquet", "valid")
    assert {data.batch(replace(BATCHES, crop=256), step)[1].shape[1] for step in range(10)} == {256}
    with pytest.raises(ManifestError, match="no pairs of the scales"):
        data.batch(replace(BATCHES, scale_chances={"16to64": 1.0}), 0)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> PairData:
    """Pairs with chains, and such at the scale of use, of a large face and a small one."""
    folder = tmp_path_factory.mktemp("damaged")
    images = write_inputs(folder / "train", [face(1, 256), face(2, 128)], "train")
    write_manifest(folder / "pairs.parquet", images, draws=12, chain=ChainRanges(share=1.0), of_use=12)
    return PairData(folder / "train", folder / "pairs.parquet", "train")


def test_at_the_scale_of_use_the_clean_face_itself_is_the_ground_truth(damaged: PairData) -> None:
    low, truth, _ = damaged.batch(replace(BATCHES, crop=256, scale_chances={"256to1024": 1.0}), 0)
    assert low.shape == truth.shape == (4, 64, 64, 3)
    faces = [image.tobytes() for image in damaged.images.values()]
    for item in damaged.rows["256to1024"]:
        clean, worse = make_pair(damaged.images[item["image_id"]], item)
        assert clean.tobytes() in faces
        assert worse.shape == clean.shape
        assert (worse != clean).any() == bool(set(Chain.of_row(item).to_dict()) - {"reduction"})


def test_a_crop_at_the_scale_of_use_has_its_jpeg_blocks_where_the_whole_face_has_them(damaged: PairData) -> None:
    picture = next(image for image in damaged.images.values() if image.shape[0] == 256)
    row = {"scale": "256to1024", "augmentation": "none", "strength": 0.0, "seed": 1}
    row |= Chain(jpeg=40, subsampling="4:2:0").to_dict()
    _, whole = make_pair(picture, row)
    for across, down in ((0.0, 0.0), (0.37, 0.81), (1.0, 1.0)):
        low, _ = cut_of_use(picture, row, 64, across, down)
        top, left = round(down * 192), round(across * 192)
        assert (low == whole[top : top + 64, left : left + 64]).mean() > 0.999


def test_what_a_batch_tells_is_what_its_rows_suffered_within_the_error_of_an_estimate(damaged: PairData) -> None:
    config = replace(BATCHES, batch=32, scale_chances={"64to256": 1.0})
    _, _, told = damaged.batch(config, 3)
    known = np.array(sorted({told_of(item) for item in damaged.rows["64to256"]}))
    for values in told.numpy():
        ratios = np.where(known > 0, values / np.maximum(known, 1e-9), np.where(values == 0, 1.0, np.inf))
        assert (np.abs(np.log(np.maximum(ratios, 1e-9))) < TOLD_ERROR + 1e-4).all(axis=1).any()
    assert len(np.unique(told.numpy()[:, 0])) > 8


def test_a_clean_pair_tells_nothing(data: PairData) -> None:
    plain = clean(data)
    assert (plain.batch(BATCHES, 0).told == 0).all()


def test_a_manifest_of_before_chains_gives_the_same_batches(data: PairData, tmp_path: Path) -> None:
    images = write_inputs(tmp_path / "train", [face(index, 256) for index in range(3)], "train")
    write_manifest(tmp_path / "new.parquet", images, CHANCES, draws=4)
    table = pq.read_table(tmp_path / "new.parquet")
    before = ["pair_id", "image_id", "split", "scale", "augmentation", "strength", "seed"]
    pq.write_table(table.select(before), tmp_path / "old.parquet")
    old = PairData(tmp_path / "train", tmp_path / "old.parquet", "train")
    for step in range(4):
        assert all(torch.equal(a, b) for a, b in zip(old.batch(BATCHES, step), data.batch(BATCHES, step), strict=True))
