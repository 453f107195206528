"""A chain does what its links say, bit for bit the same each time, and is drawn as often and as strongly as asked."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.pictures import face

from pipeline.core.chain import (
    CHAIN_COLUMNS,
    Chain,
    compress,
    degrade_by,
    degrade_to_file,
    gaussian,
    reduce_by,
    standard_tables,
    table_factor,
)
from pipeline.core.chain_draws import DRAWS, ChainRanges, draw_chains
from pipeline.core.degradation import make_pair, told_of
from pipeline.core.images import Pixels, decode
from pipeline.core.scales import SCALE_OF_USE

FULL = Chain(
    reduction="box", blur=0.8, noise=4.0, grey=0.5, first_jpeg=60, shift=3, jpeg=75, subsampling="4:2:2", tables="flat"
)


def row(scale: str = "64to256", seed: int = 7, **links: Any) -> dict[str, Any]:
    return {"scale": scale, "augmentation": "none", "strength": 0.0, "seed": seed, **links}


def change(a: Pixels, b: Pixels) -> float:
    return float(np.abs(a.astype(int) - b).mean())


def flat(side: int = 256) -> Pixels:
    return np.full((side, side, 3), 128, np.uint8)


def draw(count: int, ranges: ChainRanges, reduced: bool = True, seed: int = 0) -> dict[str, list[Any]]:
    return draw_chains(np.random.default_rng(seed).random((count, DRAWS)), ranges, np.full(count, reduced))


# links


def test_a_chain_and_its_seed_determine_the_input_bit_for_bit() -> None:
    picture = face(1, 256)
    whole = row(**FULL.to_dict())
    np.random.seed(0)
    truth, low = make_pair(picture, whole)
    np.random.seed(1)  # no global state matters
    assert (make_pair(picture.copy(), whole)[1] == low).all()
    assert (truth == picture).all()
    assert (make_pair(picture, whole | {"seed": 8})[1] != low).any()
    for link in ("reduction", "blur", "noise", "grey", "first_jpeg", "shift", "jpeg", "subsampling", "tables"):
        assert (make_pair(picture, whole | {link: None})[1] != low).any(), link


def test_an_empty_chain_leaves_the_input_alone_and_knows_it() -> None:
    picture = face(2, 64)
    assert (degrade_by(picture, Chain(), 1) == picture).all()
    assert Chain().to_dict() == {}
    assert Chain.of_row({"scale": "64to256"}) == Chain()
    assert Chain.of_row(FULL.to_dict()) == FULL


def test_noise_has_the_strength_that_it_says_and_channels_share_as_much_of_it() -> None:
    for grey in (None, 0.3, 1.0):
        noise = degrade_by(flat(), Chain(noise=6.0, grey=grey), 1).astype(float) - 128
        assert noise.std() == pytest.approx(6.0, rel=0.03)
        assert noise.mean() == pytest.approx(0, abs=0.2)
        shared = np.corrcoef(noise.reshape(-1, 3).T)[np.triu_indices(3, 1)].mean()
        assert shared == pytest.approx(grey or 0.0, abs=0.03)


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.5])
def test_blur_has_the_sigma_that_it_says_and_keeps_the_mean(sigma: float) -> None:
    point = np.zeros((33, 33, 3), np.uint8)
    point[16, 16] = 255
    blurred = gaussian(point, sigma)[..., 0]
    assert blurred.sum() == pytest.approx(255, rel=1e-4)
    taps = np.exp(-((np.arange(-16, 17) / sigma) ** 2) / 2)
    expected = np.arange(-16, 17) ** 2 @ (taps / taps.sum())
    spread = (blurred.sum(axis=0) * np.arange(-16, 17) ** 2).sum() / 255
    assert spread == pytest.approx(expected, rel=1e-2)
    assert np.abs(gaussian(flat(40), sigma) - 128).max() < 1e-3, "edges neither darken nor brighten"


def blocks(picture: Pixels) -> np.ndarray:
    """Mean step between columns x and x+1, by x modulo 8, over all rows: it stands out where blocks meet."""
    steps = np.abs(np.diff(picture.astype(int).mean(axis=2), axis=1)).mean(axis=0)
    return np.array([steps[offset::8].mean() for offset in range(8)])


def test_the_blocks_of_an_earlier_compression_are_shifted() -> None:
    ramp = np.repeat(np.linspace(40, 210, 128)[None, :, None], 128, 0) + np.zeros(3)
    smooth = np.rint(ramp).astype(np.uint8)
    for shift in (0, 3, 5):
        once = degrade_by(smooth, Chain(first_jpeg=5, shift=shift), 1)
        assert once.shape == smooth.shape
        # a block's last column lies before its edge, which moved to the left
        assert blocks(once).argmax() == (7 - shift) % 8
    twice = degrade_by(smooth, Chain(first_jpeg=5, shift=3, jpeg=95), 1)
    assert blocks(twice).argmax() == 4, "a second compression of high quality keeps the first one's blocks"


def test_subsampling_and_quality_are_those_of_the_file() -> None:
    for subsampling, factors in (("4:2:0", (2, 2)), ("4:2:2", (2, 1)), ("4:4:4", (1, 1))):
        picture, file = degrade_to_file(face(3, 64), Chain(blur=0.5, jpeg=75, subsampling=subsampling), 1)
        assert file is not None
        with Image.open(io.BytesIO(file)) as opened:
            assert tuple(opened.layer[0][1:3]) == factors  # type: ignore[attr-defined]
            expected = [max(1, round(step * table_factor(75))) for step in standard_tables()[0]]
            assert np.abs(np.array(opened.quantization[0]) - expected).max() <= 1  # type: ignore[attr-defined]
        chain = Chain(blur=0.5, jpeg=75, subsampling=subsampling)
        assert (degrade_by(face(3, 64), chain, 1) == decode(file)).all()
        assert (degrade_by(face(3, 64), Chain(blur=0.5), 1) == picture).all()
    assert degrade_to_file(face(3, 64), Chain(blur=0.5), 1)[1] is None


def test_chroma_is_lost_by_subsampling_and_luma_is_not() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    # red and a blue of the same luma, column by column
    stripes[:, ::2], stripes[:, 1::2] = (200, 20, 60), (20, 90, 180)
    lost = {name: change(compress(stripes, 95, name), stripes) for name in ("4:4:4", "4:2:2", "4:2:0")}
    assert lost["4:4:4"] < 8 < lost["4:2:2"]
    assert lost["4:2:0"] >= lost["4:2:2"] - 1


def test_flat_tables_spare_high_frequencies_and_lose_as_much() -> None:
    chain = Chain(jpeg=60, subsampling="4:4:4")
    tables = {}
    for name, one in (("standard", chain), ("flat", replace(chain, tables="flat"))):
        file = degrade_to_file(face(1, 64), one, 1)[1]
        assert file is not None
        with Image.open(io.BytesIO(file)) as opened:
            tables[name] = np.array(opened.quantization[0])  # type: ignore[attr-defined]
    assert tables["flat"].max() < tables["standard"].max()
    assert tables["flat"].min() > tables["standard"].min()
    assert tables["flat"].mean() == pytest.approx(tables["standard"].mean(), rel=0.05)


@pytest.mark.parametrize("reduction", ["box", "lanczos", "bilinear", "aliased", "halves"])
def test_reductions_give_a_quarter_of_each_side_and_keep_an_even_picture(reduction: str) -> None:
    assert (reduce_by(flat(), reduction) == 128).all()
    low = reduce_by(face(1, 256), reduction)
    assert low.shape == (64, 64, 3)
    assert 0 < change(low, reduce_by(face(1, 256), None)) < 10


def test_box_is_the_mean_of_16_pixels_and_the_aliased_reduction_aliases() -> None:
    picture = face(4, 256)
    means = picture.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    # Pillow rounds between columns and rows
    assert np.abs(reduce_by(picture, "box") - means).max() <= 1.0
    assert np.abs(reduce_by(picture, "halves") - means).max() <= 1.5
    lines = flat()
    lines[:, ::4] = 255  # one of four columns, which an antialiased reduction sees as a grey
    for reduction in ("box", "lanczos", "bilinear", "halves", None):
        assert change(reduce_by(lines, reduction), flat(64)) > 10
    assert (reduce_by(lines, "aliased") == 128).all(), "it looks at the inner two columns alone"


def test_what_is_told_is_the_last_compression_or_the_noise_that_nothing_reshaped() -> None:
    assert Chain().told == Chain(blur=1.0, reduction="box").told == (0.0, 0.0)
    assert Chain(noise=5.0).told == (0.0, 0.5)
    assert Chain(jpeg=50).told == (1.0, 0.0)
    assert Chain(jpeg=75).told == pytest.approx((0.5**0.5, 0.0))
    assert Chain(jpeg=75, noise=5.0).told == Chain(jpeg=75, first_jpeg=30).told == Chain(jpeg=75).told
    assert Chain(jpeg=10).told[0] > Chain(jpeg=30).told[0] > Chain(jpeg=95).told[0] > 0
    # the augmentation counts as well, and the stronger of both
    both = row(jpeg=75, subsampling="4:2:0") | {"augmentation": "jpeg", "strength": 50.0}
    assert told_of(both) == (1.0, 0.0)
    assert told_of(row() | {"augmentation": "noise", "strength": 2.0}) == (0.0, 0.2)


def test_at_the_scale_of_use_the_input_is_as_large_as_its_truth() -> None:
    picture = face(5, 100)
    truth, low = make_pair(picture, row(SCALE_OF_USE, noise=3.0))
    assert (truth == picture).all()
    assert low.shape == picture.shape
    assert 0 < change(low, picture) < 4
    assert (make_pair(picture, row(SCALE_OF_USE))[1] == picture).all()


# draws

MANY = 20_000


def test_links_come_as_often_as_their_chances_say() -> None:
    ranges = ChainRanges()
    columns = draw(MANY, ranges)
    assert tuple(sorted(columns)) == tuple(sorted(CHAIN_COLUMNS))
    share = {name: sum(value is not None for value in column) / MANY for name, column in columns.items()}
    jpeg = ranges.share * ranges.jpeg_chance
    expected = {
        "blur": ranges.share * ranges.blur_chance,
        "noise": ranges.share * ranges.noise_chance,
        "grey": ranges.share * ranges.noise_chance * ranges.grey_chance,
        "jpeg": jpeg,
        "subsampling": jpeg,
        "tables": jpeg * ranges.tables_chance,
        "first_jpeg": jpeg * ranges.twice_chance,
        "shift": jpeg * ranges.twice_chance,
        "reduction": ranges.share * ranges.reduction_chance,
    }
    for name, chance in expected.items():
        # five standard deviations of a binomial
        assert share[name] == pytest.approx(chance, abs=5 * (chance * (1 - chance) / MANY) ** 0.5), name
    kinds = [kind for kind in columns["subsampling"] if kind]
    assert kinds.count("4:2:0") / len(kinds) == pytest.approx(0.75, abs=0.03)
    assert set(columns["reduction"]) == {None, "box", "lanczos", "bilinear", "aliased", "halves"}


def test_strengths_stay_within_their_ranges_and_use_them() -> None:
    ranges = ChainRanges(blur=(0.5, 0.9), noise=(2.0, 3.0), jpeg=(40, 60))
    columns = draw(MANY, ranges)
    for name in ("blur", "noise", "jpeg"):
        low, high = getattr(ranges, name)
        found = [value for value in columns[name] if value is not None]
        assert low <= min(found) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(found) <= high
    assert all(isinstance(value, int) for value in columns["jpeg"] if value is not None)
    shifts = [value for value in columns["shift"] if value is not None]
    assert set(shifts) == set(range(16))
    assert shifts.count(0) / len(shifts) == pytest.approx(0.5, abs=0.06)
    assert all(1 <= value <= 100 for value in columns["first_jpeg"] if value is not None)
    assert all(0 <= value <= 1 for value in columns["grey"] if value is not None)


def test_chances_of_none_and_of_all_are_exact_and_a_row_at_use_is_never_reduced() -> None:
    never = draw(500, ChainRanges(share=0.0))
    assert all(value is None for column in never.values() for value in column)
    always = ChainRanges(share=1.0, blur_chance=1.0, noise_chance=0.0, jpeg_chance=1.0, reduction_chance=1.0)
    columns = draw(500, always)
    for name in ("blur", "jpeg", "reduction"):
        assert None not in columns[name]
    assert set(columns["noise"]) == set(columns["grey"]) == {None}
    assert set(draw(500, always, reduced=False)["reduction"]) == {None}
    at_use = replace(always, share=0.0, share_of_use=1.0)
    assert set(draw(500, at_use)["jpeg"]) == {None}
    assert None not in draw(500, at_use, reduced=False)["jpeg"]


def test_a_row_depends_on_its_own_numbers_alone() -> None:
    shares = np.random.default_rng(3).random((50, DRAWS))
    columns = draw_chains(shares, ChainRanges(), np.ones(50, bool))
    turned = draw_chains(shares[::-1], ChainRanges(), np.ones(50, bool))
    assert {name: column[::-1] for name, column in turned.items()} == columns
    for edge in (0.0, np.nextafter(1.0, 0.0)):
        drawn = draw_chains(np.full((1, DRAWS), edge), ChainRanges(), np.ones(1, bool))
        degrade_by(face(1, 64), Chain(**{name: column[0] for name, column in drawn.items()}), 1)
