"""What cannot be seen does not show: colour under alpha 0, and three channels that are one grey."""

from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.upscaling import make_models

from pipeline.upscale.hidden import filled, is_grey
from pipeline.upscale.upscaler import Upscaler


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> Upscaler:
    return Upscaler.load(make_models(tmp_path_factory.mktemp("models")), precision="fp32")


def disc(dtype: Any = np.uint8, channels: int = 4, hidden: int = 0) -> np.ndarray:
    """Light colours in an opaque disc, `hidden` levels around it."""
    y, x = np.mgrid[:40, :48]
    inside = (x - 24) ** 2 + (y - 20) ** 2 < 150
    top = np.iinfo(dtype).max
    picture = np.full((40, 48, channels), hidden, dtype)
    picture[inside, :-1] = np.array([0.8, 0.7, 0.6][: channels - 1]) * top
    picture[..., -1] = np.where(inside, top, 0)
    return picture


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4])
def test_colour_under_alpha_0_does_not_bleed_into_what_is_seen(
    channels: int, dtype: Any, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = np.iinfo(dtype).max
    results = [upscaler(disc(dtype, channels, hidden)) for hidden in (0, top, top // 3)]
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    seen = results[0][..., -1] > 0
    inside = (np.array([0.8, 0.7, 0.6][: channels - 1]) * top).astype(dtype)
    # what the tiny network makes of an even plane of that colour, and no more
    plane = upscaler(np.full((40, 48, channels - 1), inside, dtype))
    limit = np.abs(plane.astype(int) - inside).max() + top // 255
    assert np.abs(results[0][seen][:, :-1].astype(int) - inside).max() <= limit
    # in tiles as at once
    tiled, _ = upscaler.into(disc(dtype, channels, top), None, tile=16)
    assert np.abs(tiled.astype(int) - results[0]).max() <= top // 255


def test_a_palette_with_transparency_does_not_bleed_either(upscaler: Upscaler) -> None:
    results = []
    for hidden in ([0, 0, 0], [255, 0, 255]):
        image = Image.fromarray((disc()[..., 3] // 255).astype(np.uint8), "P")
        image.putpalette([*hidden, 200, 180, 150])
        image.info["transparency"] = b"\0\xff"
        results.append(np.asarray(upscaler(image)))
    np.testing.assert_array_equal(*results)


def test_what_is_seen_at_all_is_not_touched() -> None:
    picture = disc(hidden=7)
    picture[:5, :, 3] = 1
    before = picture.copy()
    result = filled(picture)
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(result[..., 3], before[..., 3])
    seen = before[..., 3] > 0
    np.testing.assert_array_equal(result[seen], before[seen])
    assert (result[~seen][:, :3].max(axis=1) > 7).all() or (result[~seen] != before[~seen]).any()


@pytest.mark.parametrize("alpha", [255, 1, 0])
def test_where_alpha_is_0_nowhere_or_everywhere_the_picture_is_the_very_same(alpha: int) -> None:
    picture = disc()
    picture[..., 3] = alpha
    assert filled(picture) is picture
    colour = picture[..., :3]
    assert filled(colour) is colour


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_grey_picture_in_colour_is_enlarged_as_a_grey_one(alpha: bool, dtype: Any, upscaler: Upscaler) -> None:
    random = np.random.default_rng(0)
    grey = random.integers(0, np.iinfo(dtype).max, (40, 48, 1)).astype(dtype)
    more = [random.integers(1, np.iinfo(dtype).max, (40, 48, 1)).astype(dtype)] if alpha else []
    result = upscaler(np.concatenate([grey, grey, grey, *more], axis=2))
    alone = upscaler(np.concatenate([grey, *more], axis=2))
    for channel in range(3):
        np.testing.assert_array_equal(result[..., channel], alone[..., 0])
    if alpha:
        np.testing.assert_array_equal(result[..., 3], alone[..., 1])
    tiled, _ = upscaler.into(np.concatenate([grey, grey, grey, *more], axis=2), None, tile=16)
    assert is_grey(tiled)


def test_one_pixel_of_colour_makes_a_picture_of_colour_and_neighbours_in_a_batch_do_not_matter(
    upscaler: Upscaler,
) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (32, 32, 1), dtype=np.uint8).repeat(3, axis=2)
    colour = grey.copy()
    colour[31, 31, 2] ^= 1
    assert is_grey(grey)
    assert not is_grey(colour)
    together = upscaler.batch([grey, colour, grey])
    for one, result in zip((grey, colour, grey), together, strict=True):
        np.testing.assert_array_equal(upscaler(one), result)
    assert [is_grey(result) for result in together] == [True, False, True]
