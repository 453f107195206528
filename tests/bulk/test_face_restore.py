"""Faces are found, aligned, enlarged and put back where they were, and a person is known again."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling
from support.faces import DETECTOR, EMBEDDING, PHOTOS, face_at, texture

from pipeline.bulk.face_restore import restore_faces
from pipeline.core.images import Pixels, Planes
from pipeline.faces.detector import Face, FaceFinder, _distinct
from pipeline.faces.geometry import apply, canonical, roll, sample, snapped
from pipeline.metrics.identity import Identity
from pipeline.pretrained.registry import WeightsError

with_networks = pytest.mark.skipif(
    not (DETECTOR.is_file() and EMBEDDING.is_file() and len(PHOTOS) > 5),
    reason="networks and photographs are elsewhere",
)


def quadruple(pixels: Planes) -> Planes:
    """Bicubic, 8 or 16 bit, any number of channels."""
    limit = np.iinfo(pixels.dtype).max
    size = (4 * pixels.shape[1], 4 * pixels.shape[0])
    planes = [
        np.asarray(Image.fromarray(plane).resize(size, Resampling.BICUBIC))
        for plane in pixels.transpose(2, 0, 1).astype(np.float32)
    ]
    whole = np.clip(np.rint(np.stack(planes, axis=2)), 0, limit)
    return whole.astype(np.uint16) if limit > 255 else whole.astype(np.uint8)


def chequered(pixels: Planes) -> Planes:
    """An enlargement that brings detail that was not there: a fine chequered pattern."""
    large = quadruple(pixels).astype(np.float32)
    rows, columns = np.indices(large.shape[:2])
    limit = float(np.iinfo(pixels.dtype).max)
    return np.clip(large + (((rows // 2 + columns // 2) % 2) - 0.5)[..., None] * 0.2 * limit, 0, limit).astype(
        pixels.dtype
    )


@pytest.mark.parametrize("degrees", [0, 33, -120])
def test_the_canonical_frame_puts_eyes_and_mouth_where_the_recipe_says(degrees: float) -> None:
    matrix, side, square = canonical(face_at(300, 200, 1.5, degrees).points)
    # eyes 60 apart, mouth 67.5 below them: the square's half side is the larger of 2 x 60 and 1.8 x 67.5
    assert square == pytest.approx(2 * 1.8 * 67.5)
    assert side == 256  # 243 and what is missing to a multiple of 16
    # its middle lies a tenth of the way from eyes to mouth, and eyes and mouth stand upright around it
    eyes_y, mouth_y = 128 - 6.75, 128 + 0.9 * 67.5
    wanted = [(128 - 30, eyes_y), (128 + 30, eyes_y), (128 - 24, mouth_y), (128 + 24, mouth_y)]
    placed = apply(matrix, face_at(300, 200, 1.5, degrees).points)
    np.testing.assert_allclose(placed[[0, 1, 3, 4]], wanted, atol=1e-9)
    assert roll(face_at(0, 0, 1, degrees).points) == pytest.approx(degrees)


def test_frames_have_sides_that_networks_take_and_pixels_as_large_as_the_picture() -> None:
    for size in (0.05, 0.3, 0.77, 1.0, 2.9):
        matrix, side, square = canonical(face_at(50, 60, size, 25).points)
        assert side % 16 == 0
        assert side == 64 or square <= side < square + 16
        assert np.linalg.det(matrix[:, :2]) == pytest.approx(1)


def test_an_upright_face_is_cut_out_pixel_by_pixel() -> None:
    picture = texture(200, 220)
    matrix, side, _ = canonical(face_at(101.3, 97.8, 0.6, 4).points)
    matrix, whole = snapped(matrix, side)
    assert whole
    left, top = (-matrix[:, 2]).astype(int)
    assert np.array_equal(sample(picture, matrix, side), picture[top : top + side, left : left + side])


def test_reducing_by_sampling_is_antialiased_and_does_not_shift() -> None:
    large = np.asarray(Image.fromarray(texture(100, 100)).resize((1200, 1200), Resampling.BICUBIC))
    matrix = np.array(((0.1, 0.0, 0.0), (0.0, 0.1, 0.0)))
    wanted = np.asarray(Image.fromarray(large).resize((120, 120), Resampling.BOX)).astype(float)
    difference = np.abs(sample(large, matrix, 120) - wanted)
    assert difference.mean() < 1
    moved = np.asarray(Image.fromarray(large).resize((120, 120), Resampling.BOX, (2, 2, 1200, 1200))).astype(float)
    assert np.abs(moved - wanted).mean() > 3 * difference.mean()  # a shift by a tenth of a pixel would be seen
    chequers = np.indices((500, 500)).sum(axis=0)[..., None] % 2 * np.full(3, 255, np.uint8)
    grey = sample(chequers.astype(np.uint8), np.array(((0.3, 0.0, 0.0), (0.0, 0.3, 0.0))), 128)
    assert np.abs(grey.astype(float) - 127.5).max() < 40


@pytest.mark.parametrize("degrees", [0, 7, 28, 90, 170])
def test_the_same_enlargement_put_back_leaves_the_picture_as_it_was(degrees: float) -> None:
    low = texture(180, 200)
    high = quadruple(low)
    before = high.copy()
    assert restore_faces(quadruple, low, high, [face_at(104.3, 88.6, 0.6, degrees)]) == 1
    difference = np.abs(high.astype(int) - before)
    assert difference.mean() < 0.2
    assert difference.max() <= (10 if degrees == 28 else 1)  # turned hard edges are resampled twice
    moved = np.abs(np.roll(before, 1, axis=1).astype(int) - before)
    assert moved.mean() > 20 * difference.mean()  # so a shift by a single pixel would not have passed


@pytest.mark.parametrize("degrees", [0, 30])
def test_new_detail_reaches_the_face_alone_and_the_picture_still_agrees_with_the_input(degrees: float) -> None:
    low = texture(180, 200)
    high = quadruple(low)
    before = high.copy()
    face = face_at(100, 90, 0.5, degrees)
    restore_faces(chequered, low, high, [face])
    changed = np.abs(high.astype(int) - before).max(axis=2)
    assert changed[4 * 85 : 4 * 95, 4 * 95 : 4 * 105].mean() > 15
    rows, columns = np.nonzero(changed)
    reach = 4 * canonical(face.points)[2] * 0.75  # half the diagonal of the square
    assert np.hypot(rows - 4 * 90, columns - 4 * 100).max() < reach
    reduced = np.asarray(Image.fromarray(high).resize((200, 180), Resampling.BICUBIC)).astype(int)
    first = np.asarray(Image.fromarray(before).resize((200, 180), Resampling.BICUBIC))
    assert np.abs(reduced - first).mean() < 0.5


def test_a_tone_that_the_face_was_given_leaves_no_trace() -> None:
    low = texture(180, 200)
    high = quadruple(low)
    before = high.copy()

    def brighter(pixels: Planes) -> Planes:
        return np.clip(quadruple(pixels).astype(int) + 20, 0, 255).astype(np.uint8)

    restore_faces(brighter, low, high, [face_at(100, 90, 0.5, 0)])
    assert np.abs(high.astype(int) - before).mean() < 0.2


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_kind_of_picture_keeps_its_alpha(channels: int, depth: type, tmp_path: Path) -> None:
    low = texture(160, 170, channels).astype(depth)
    if depth is np.uint16:
        low = low * np.uint16(257)
    first = quadruple(low)
    high = np.memmap(tmp_path / "high", first.dtype, "w+", shape=first.shape)
    high[:] = first
    seen: list[tuple[tuple[int, ...], np.dtype]] = []

    def enlarge(pixels: Planes) -> Planes:
        seen.append((pixels.shape, pixels.dtype))
        return chequered(pixels)

    assert restore_faces(enlarge, low, high, [face_at(80, 80, 0.4, 20)]) == 1
    assert seen == [((80, 80, 3), low.dtype)]
    colours = 3 if channels > 2 else 1
    assert np.array_equal(high[..., colours:], first[..., colours:])
    changed = np.abs(high[300:340, 300:340, :colours].astype(int) - first[300:340, 300:340, :colours])
    assert changed.mean() > 15 * (np.iinfo(depth).max // 255)


@pytest.mark.parametrize("degrees", [0, 40])
def test_faces_partly_outside_of_the_picture_and_overlapping_ones_are_done(degrees: float) -> None:
    low = texture(150, 160)
    high = quadruple(low)
    before = high.copy()
    faces = [
        face_at(5, 8, 0.7, degrees),
        face_at(155, 146, 0.7, degrees),
        face_at(80, 75, 0.6),
        face_at(100, 80, 0.5, 30),
    ]
    assert restore_faces(quadruple, low, high, faces) == 4
    difference = np.abs(high.astype(int) - before)
    assert difference.mean() < 0.3
    assert difference.max() <= 12


def test_faces_that_are_too_large_or_no_faces_are_left_as_they_are() -> None:
    low = texture(64, 64)
    high = quadruple(low)
    before = high.copy()
    point = Face((3, 3, 0, 0), np.full((5, 2), 3.0), 0.9)
    nowhere = Face((3, 3, 9, 9), np.full((5, 2), np.nan), 0.9)
    assert restore_faces(chequered, low, high, [face_at(32, 32, 4), point, nowhere]) == 0
    assert np.array_equal(high, before)


def test_pictures_that_do_not_belong_together_are_refused() -> None:
    low = texture(32, 40)
    with pytest.raises(ValueError, match="cannot put faces"):
        restore_faces(quadruple, low, texture(128, 161), [])
    with pytest.raises(ValueError, match="cannot put faces"):
        restore_faces(quadruple, low, quadruple(low).astype(np.uint16), [])


def test_a_face_seen_twice_counts_once() -> None:
    whole = Face((100, 100, 80, 100), face_at(140, 150).points, 0.9)
    again = Face((104, 97, 80, 100), face_at(143, 148).points, 0.95)
    eye = Face((110, 120, 20, 20), face_at(120, 130, 0.2).points, 0.97)
    other = Face((165, 100, 80, 100), face_at(205, 150).points, 0.7)
    assert _distinct([whole, again, eye, other]) == [again, other]


@pytest.mark.parametrize("network", ["detector", "embedding"])
def test_a_network_that_is_missing_or_no_network_is_reported_by_its_file(network: str, tmp_path: Path) -> None:
    def load(path: Path) -> object:
        return FaceFinder(path) if network == "detector" else Identity(path, None)

    with pytest.raises(WeightsError, match=f"{network}: there is no file .*nowhere.onnx"):
        load(tmp_path / "nowhere.onnx")
    for content in (b"", b"<html>not found</html>" * 20):
        (tmp_path / "page.onnx").write_bytes(content)
        with pytest.raises(WeightsError, match=r"page.onnx is not an ONNX file of the network"):
            load(tmp_path / "page.onnx")


@with_networks
def test_one_network_is_not_taken_for_the_other() -> None:
    with pytest.raises(WeightsError, match="not an ONNX file of the network"):
        FaceFinder(EMBEDDING)
    with pytest.raises(WeightsError, match="not an ONNX file of the network"):
        Identity(DETECTOR, None)


def photo(index: int, side: int) -> Image.Image:
    return Image.open(PHOTOS[index]).convert("RGB").resize((side, side), Resampling.BICUBIC)


def montage(sides: list[int], cell: int, width: int, height: int, degrees: list[int]) -> tuple[Pixels, list[float]]:
    """Photographs on grey in cells, and where the middle of each lies across."""
    sheet, middles = Image.new("RGB", (width, height), (128, 128, 128)), []
    for index, (side, turn) in enumerate(zip(sides, degrees, strict=True)):
        small = photo(index, side).rotate(turn, Resampling.BICUBIC, fillcolor=(128, 128, 128))
        sheet.paste(small, (index * cell + 20, height // 3))
        middles.append(index * cell + 20 + side / 2)
    return np.asarray(sheet), middles


@with_networks
def test_faces_small_and_large_are_found_from_left_to_right() -> None:
    sides = [48, 80, 160, 400, 64]
    picture, middles = montage(sides, 450, 2300, 900, [0] * 5)
    faces = FaceFinder(DETECTOR).find(picture)
    assert len(faces) == 5
    for face, middle, side in zip(faces, middles, sides, strict=True):
        assert abs(face.box[0] + face.box[2] / 2 - middle) < side / 5
        eyes, mouth = face.points[:2].mean(axis=0), face.points[3:].mean(axis=0)
        assert mouth[1] - eyes[1] > side / 10
        assert face.points[0, 0] < face.points[1, 0]  # the subject's right eye is on the left


@with_networks
def test_turned_faces_have_turned_landmarks() -> None:
    turns = [0, 30, 60, -45]
    picture, _ = montage([200] * 4, 240, 1000, 600, turns)
    faces = FaceFinder(DETECTOR).find(picture)
    assert len(faces) == 4
    for face, turn in zip(faces, turns, strict=True):
        assert abs(roll(face.points) + turn) < 15  # Pillow turns anticlockwise


@with_networks
@pytest.mark.parametrize(("width", "height"), [(16, 16), (1, 1), (3, 900), (3000, 2), (17, 33), (1290, 20)])
def test_pictures_of_odd_sizes_are_looked_at_without_harm(width: int, height: int) -> None:
    assert FaceFinder(DETECTOR).find(np.full((height, width, 3), 90, np.uint8)) == []


@with_networks
def test_a_person_is_known_again_in_a_reduced_picture_and_not_in_another() -> None:
    identity = Identity(EMBEDDING, FaceFinder(DETECTOR))
    people = [np.asarray(photo(index, 512)) for index in range(4)]
    reduced = [np.asarray(photo(index, 128)) for index in range(4)]
    assert identity.similarity(people[0], people[0]) == pytest.approx(1)
    same = [identity.similarity(low, high) for low, high in zip(reduced, people, strict=True)]
    assert min(value for value in same if value is not None) > 0.7
    assert None not in same
    other = identity.similarity(reduced[0], people[1])
    assert other is not None
    assert other < 0.4
    assert identity.similarity(np.full((64, 64, 3), 90, np.uint8), np.full((256, 256, 3), 90, np.uint8)) is None


@with_networks
def test_without_a_finder_a_picture_is_one_aligned_face() -> None:
    finder, people = FaceFinder(DETECTOR), []
    for index in range(2):
        portrait = np.asarray(photo(index, 1024))
        matrix, side, _ = canonical(finder.find(portrait)[0].points)
        people.append(sample(portrait, matrix, side))
    identity = Identity(EMBEDDING, None)
    reduced = [np.asarray(Image.fromarray(one).resize((128, 128), Resampling.BICUBIC)) for one in people]
    same, other = identity.similarity(reduced[0], people[0]), identity.similarity(reduced[0], people[1])
    assert same is not None
    assert other is not None
    assert same > 0.7
    assert other < 0.4
