"""`from pipeline import Upscaler`: any picture in, the same kind of picture four times larger out."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from support.upscaling import encoded, make_models, picture

import pipeline
from pipeline.core.images import ImageError
from pipeline.upscale.upscaler import Upscaler


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> Upscaler:
    return Upscaler.load(make_models(tmp_path_factory.mktemp("models")), precision="fp32")


def planes(channels: int, dtype: Any = np.uint8, height: int = 21, width: int = 34) -> np.ndarray:
    random = np.random.default_rng(channels)
    coarse = random.uniform(0.2, 0.8, (5, 6, channels)).astype(np.float32)
    large = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)
    return np.rint(large.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


def test_the_package_offers_the_upscaler_and_the_released_generator_is_the_default() -> None:
    assert pipeline.Upscaler is Upscaler
    low = np.asarray(picture(1))
    result = pipeline.Upscaler.load()(low)
    assert result.shape == (128, 160, 3)
    with pytest.raises(AttributeError):
        pipeline.Downscaler  # noqa: B018


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_depth_and_number_of_channels_comes_back_as_it_went_in_and_reduces_to_its_input(
    channels: int, dtype: Any, upscaler: Upscaler
) -> None:
    low = planes(channels, dtype)
    high = upscaler(low)
    assert high.dtype == dtype
    assert high.shape == (84, 136, channels)
    reduced = high.reshape(21, 4, 34, 4, channels).mean((1, 3))
    grey_level = np.iinfo(dtype).max / 255
    assert np.abs(reduced - low).mean() < grey_level


def test_a_picture_without_a_channel_axis_is_grey_and_stays_without(upscaler: Upscaler) -> None:
    low = planes(1)
    assert (upscaler(low[..., 0]) == upscaler(low)[..., 0]).all()


def test_pictures_without_a_channel_axis_stay_without_in_a_list_too(upscaler: Upscaler) -> None:
    grey = planes(1)[..., 0]
    alone = upscaler(grey)
    for several in ([grey], [grey, grey], [grey, planes(1)]):
        np.testing.assert_array_equal(upscaler(several)[0], alone)


def test_an_array_of_the_other_byte_order_is_the_same_picture(upscaler: Upscaler) -> None:
    picture = planes(3, np.uint16)
    assert np.array_equal(upscaler(picture.astype(">u2")), upscaler(picture))


@pytest.mark.parametrize("options", [{"tile": 0}, {"tile": -5}, {"back_projection": -1}])
def test_options_that_make_no_sense_are_refused_when_it_is_made(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        Upscaler.load(**options)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_a_matrix_is_an_array_and_a_mask_is_refused(upscaler: Upscaler) -> None:
    grey = planes(1)[..., 0]
    np.testing.assert_array_equal(upscaler(np.matrix(grey)), upscaler(grey))
    with pytest.raises(ValueError, match="mask"):
        upscaler(np.ma.masked_less(grey, 100))
    with pytest.raises(ValueError, match="0 or more"):
        upscaler(grey, back_projection=-1)


def test_constant_alpha_stays_exact_and_colours_do_not_depend_on_alpha(upscaler: Upscaler) -> None:
    low = planes(4)
    low[..., 3] = 255
    high = upscaler(low)
    assert (high[..., 3] == 255).all()
    assert (high[..., :3] == upscaler(np.ascontiguousarray(low[..., :3]))).all()


def test_files_pil_images_arrays_and_batches_of_any_sizes_give_the_same_pixels(
    upscaler: Upscaler, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(1))
    low = np.asarray(picture(1))
    high = upscaler(low)
    for one in (path, str(path), picture(1)):
        result = upscaler(one)
        assert isinstance(result, Image.Image)
        assert (np.asarray(result) == high).all()
    small = np.asarray(picture(2, width=17, height=9))
    mixed = upscaler([low, small, path])
    assert (mixed[0] == high).all()
    assert mixed[1].shape == (36, 68, 3)
    assert (np.asarray(mixed[2]) == high).all()
    same = upscaler([low, low])
    assert (same[0] == high).all()
    assert upscaler([]) == []
    assert upscaler([low])[0].shape == high.shape


def test_a_lossy_file_is_not_made_to_agree_with_its_compression(upscaler: Upscaler, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(1, "JPEG"))
    low = np.asarray(Image.open(path))
    assert (np.asarray(upscaler(path)) == upscaler(low, back_projection=0)).all()
    assert not (np.asarray(upscaler(path)) == upscaler(low)).all()


def test_exif_orientation_is_applied_once(upscaler: Upscaler, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1).save(tmp_path / "turned.png", exif=exif)
    for one in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        assert upscaler(one).size == (128, 160)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("steps", [0, 2])
def test_tiles_give_what_the_whole_picture_gives(channels: int, steps: int, upscaler: Upscaler) -> None:
    low = planes(channels, height=150, width=203)
    (whole,) = upscaler.batch([low], steps)
    tiled, tile = upscaler.into(low, None, steps, tile=64)
    assert tile == 64
    assert np.abs(tiled.astype(int) - whole).max() <= 1


def test_a_batch_gives_each_picture_what_it_gets_alone(upscaler: Upscaler) -> None:
    pictures = [planes(3, height=20, width=20) + index for index in range(5)]
    for alone, together in zip(pictures, upscaler.batch(pictures), strict=True):
        assert (upscaler.batch([alone])[0] == together).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 16), (1, 300), (1400, 2), (37, 41)])
def test_any_size_and_aspect_ratio_is_enlarged(height: int, width: int, upscaler: Upscaler) -> None:
    low = np.full((height, width, 3), 90, np.uint8)
    high = upscaler(low)
    assert high.shape == (4 * height, 4 * width, 3)
    assert np.abs(high.astype(int) - 90).mean() < 30


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((16, 16, 3), np.float32),
        np.zeros((16, 16, 5), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(16, np.uint8),
    ],
    ids=["float", "five channels", "empty", "a line"],
)
def test_other_arrays_are_refused(wrong: np.ndarray, upscaler: Upscaler) -> None:
    with pytest.raises(ValueError, match="uint8 or uint16"):
        upscaler(wrong)


def test_a_file_that_is_no_picture_is_an_error_that_says_so(upscaler: Upscaler, tmp_path: Path) -> None:
    path = tmp_path / "words.png"
    path.write_text("words")
    with pytest.raises(ImageError, match="not a picture"):
        upscaler(path)
    with pytest.raises(ValueError, match="one shape and type"):
        upscaler.batch([planes(3), planes(1)])
