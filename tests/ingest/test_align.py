"""Ordinary portraits are aligned as CelebA-HQ and FFHQ are, never enlarged, and refused with a reason."""

from pathlib import Path

import numpy as np
import pytest
from support.faces import DETECTOR, PHOTOS, face_at, texture
from support.pictures import jpeg

from pipeline.core.images import ImageError, Pixels, decode, resize
from pipeline.faces.detector import Face
from pipeline.faces.geometry import apply, inverse, sample
from pipeline.ingest import align as aligning
from pipeline.ingest.align import Aligner, outside, resample, transform
from pipeline.pretrained.registry import WeightsError
from pipeline.synthetic.portrait import portrait

RECIPES = ("celebahq", "ffhq")
with_detector = pytest.mark.skipif(not (DETECTOR.is_file() and PHOTOS), reason="the detector is elsewhere")
SQUARE = 2 * 1.8 * 45  # side of the square of a face 100 wide: 45 from eyes to mouth


class FakeFinder:
    """Finds the faces that it is told."""

    def __init__(self, *faces: Face):
        self.faces = list(faces)

    def find(self, pixels: Pixels) -> list[Face]:
        return self.faces

    def look(self, pixels: Pixels, scale: float) -> list[Face]:
        assert pixels.shape == (320, 320, 3)
        return []


def aligner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *faces: Face, **options: object) -> Aligner:
    monkeypatch.setattr(aligning, "FaceFinder", lambda path: FakeFinder(*faces))
    (tmp_path / "detector.onnx").touch()
    values = {"recipe": "celebahq", "size": 128, "detector": tmp_path / "detector.onnx"} | options
    return Aligner(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("degrees", [0, 17, 90, 180, -135])
@pytest.mark.parametrize("size", [0.7, 1.0, 3.0])
def test_landmarks_land_where_the_recipe_puts_them_however_the_face_lies(degrees: float, size: float) -> None:
    points = face_at(500, 400, size, degrees).points
    matrix, side = transform(points, 64)
    assert side == 64
    landed = apply(matrix, points)
    # half a side is 1.8 distances from eyes to mouth (it is more than 2 between the eyes here); the centre of the eyes
    # lies a tenth of that distance above the middle
    unit = 32 / 1.8
    assert landed[:2].mean(axis=0) == pytest.approx((32, 32 - 0.1 * unit), abs=1e-6)
    assert landed[3:].mean(axis=0) == pytest.approx((32, 32 + 0.9 * unit), abs=1e-6)
    assert landed[0, 1] == pytest.approx(landed[1, 1])
    assert landed[1, 0] > landed[0, 0]


def test_a_wide_face_has_a_square_of_four_distances_between_its_eyes() -> None:
    points = face_at(0, 0).points * (2, 1)
    matrix, side = transform(points, None)
    assert side == 4 * 80
    assert np.linalg.det(matrix[:, :2]) == pytest.approx(1)


def test_nothing_is_ever_enlarged_and_small_faces_keep_their_own_side() -> None:
    points = face_at(300, 300).points
    for size, side in ((None, 160), (1024, 160), (164, 160), (162, 162), (160, 160), (64, 64)):
        matrix, made = transform(points, size)
        assert (made, SQUARE) == (side, pytest.approx(162))
        assert np.sqrt(np.linalg.det(matrix[:, :2])) == pytest.approx(side / SQUARE)
        assert side <= SQUARE


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_face_turned_in_a_larger_picture_comes_back_as_it_was(recipe: str) -> None:
    picture = resize(texture(100, 100), 800, 800)
    points = face_at(400, 400, 2.0, 25).points
    matrix, side = transform(points, 128)
    cut = resample(picture, matrix, side, recipe).astype(int)  # type: ignore[arg-type]
    # each pixel of the result is about the colour of the picture where the inverse map says that it comes from
    y, x = np.mgrid[8:120:5, 8:120:5]
    where = apply(inverse(matrix), np.stack((x.ravel() + 0.5, y.ravel() + 0.5), axis=1))
    small = resize(picture, 315, 315).astype(int)  # as much reduced as the result is
    places = np.floor(where * 315 / 800).astype(int)
    difference = np.abs(cut[y.ravel(), x.ravel()] - small[places[:, 1], places[:, 0]]).mean()
    shifted = np.abs(cut[y.ravel(), x.ravel() + 3] - small[places[:, 1], places[:, 0]]).mean()
    assert difference < 0.5 * shifted


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("factor", [3, 5, 9])
def test_reductions_are_antialiased(recipe: str, factor: int) -> None:
    board = (np.indices((900, 900)).sum(axis=0) % 2 * 255).astype(np.uint8)
    picture = np.repeat(board[..., None], 3, axis=2)
    matrix = np.array(((1 / factor, 0, 0), (0, 1 / factor, 0)))
    cut = resample(picture, matrix, 96, recipe)[4:-4, 4:-4].astype(int)  # type: ignore[arg-type]
    assert np.abs(cut - 127.5).max() < 12


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_lies_outside_is_mirrored_then_blurred_and_the_picture_itself_untouched(recipe: str) -> None:
    picture = texture(400, 400, seed=3)
    inner = resample(picture, np.array(((1.0, 0, 0), (0, 1, 0))), 200, recipe).astype(int)  # type: ignore[arg-type]
    cut = resample(picture, np.array(((1.0, 0, 60), (0, 1, 0))), 200, recipe).astype(int)  # type: ignore[arg-type]
    assert np.abs(cut[4:-4, 64:-4] - inner[4:-4, 4:-64]).max() <= 1  # the picture moved by 60 pixels

    def roughness(part: np.ndarray) -> float:
        return float(np.abs(np.diff(part, axis=0)).mean())

    mirrored = cut[4:-4, 57:60][:, ::-1]
    assert np.abs(mirrored - cut[4:-4, 61:64]).mean() < 8
    assert roughness(cut[4:-4, 4:40]) < 0.6 * roughness(cut[4:-4, 64:100])
    assert cut.std() > 10  # neither black nor one colour


def test_the_share_outside_is_that_of_the_turned_square() -> None:
    assert outside(face_at(500, 500).points, 1000, 1000) == 0
    centre_to_face = transform(face_at(0, 0).points, None)[0]
    half = apply(inverse(centre_to_face), np.array(((80.0, 80.0),)))[0]  # the square's centre, face at the origin
    assert outside(face_at(-half[0], 500).points, 1000, 1000) == pytest.approx(0.5, abs=1e-3)
    assert outside(face_at(-half[0], -half[1]).points, 1000, 1000) == pytest.approx(0.75, abs=1e-3)
    assert 0.5 < outside(face_at(5, 500, 1, 45).points - (40, 0), 1000, 1000) < 0.75


def test_a_picture_that_cannot_be_aligned_is_refused_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    picture = texture(400, 600)
    cases = (
        ((), {}, "no face found"),
        ((face_at(100, 200), face_at(300, 200), face_at(500, 200)), {}, "3 faces; several: reject"),
        ((face_at(300, 200, 0.3),), {}, r"face too small \(48 pixels aligned, at least 64 needed\)"),
        ((face_at(0, 200),), {}, "50% .* outside of the picture, at most 25% may"),
        ((face_at(0, 200),), {"max_padding": 0.4}, "at most 40% may"),
        # and the face behind is not taken instead
        ((face_at(0, 200, 1.5), face_at(400, 200)), {"several": "largest"}, "50% .* outside of the picture"),
    )
    for faces, options, reason in cases:
        with pytest.raises(ImageError, match=reason):
            aligner(monkeypatch, tmp_path, *faces, **options)(picture)


def test_of_several_faces_the_largest_or_each_is_taken_and_tiny_ones_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    picture = texture(400, 600)
    faces = (face_at(130, 200), face_at(400, 200, 1.5), face_at(580, 20, 0.2), face_at(600, 200))
    (one,) = aligner(monkeypatch, tmp_path, *faces, several="largest")(picture)
    assert apply(one.transform, faces[1].points)[:2].mean(axis=0)[0] == pytest.approx(64)
    both = aligner(monkeypatch, tmp_path, *faces, several="each")(picture)
    assert [np.round(apply(inverse(a.transform), np.array(((64.0, 64.0),)))[0, 0]) for a in both] == [130, 400]
    # neither does a tiny face count, nor one that is cut off
    (only,) = aligner(monkeypatch, tmp_path, faces[0], faces[2], faces[3])(picture)
    assert only.pixels.shape == (128, 128, 3)
    assert only.pixels.dtype == np.uint8
    assert (only.score, only.transform.shape, only.padding) == (0.9, (2, 3), 0)
    again = aligner(monkeypatch, tmp_path, faces[0])(picture.copy())[0]
    assert np.array_equal(again.pixels, only.pixels)


def test_a_missing_detector_is_said_with_where_it_comes_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"face_detection_yunet_2023mar\.onnx .*[0-9a-f]{64}"):
        Aligner("ffhq", 256)


@with_detector
def test_photographs_turned_and_reduced_are_aligned_alike() -> None:
    """Needs the detector: eyes stay within two pixels of 256 on the average, as the detector itself sees them."""
    align = Aligner("ffhq", 256, detector=DETECTOR, max_padding=0.5)
    shifts = []
    for photo in (decode(path.read_bytes()) for path in PHOTOS[:2]):
        (straight,) = align(photo)
        turned = sample(photo, np.array(((0.57, 0.33, 100.0), (-0.33, 0.57, 420.0))), 1000)
        (again,) = align(decode(jpeg(turned, 95)))
        seen, seen_again = (align._finder.find(one.pixels)[0].points for one in (straight, again))
        shifts.append(np.abs(seen - seen_again)[:2].mean())
    assert np.mean(shifts) < 2
    assert max(shifts) < 4


@with_detector
def test_drawn_portraits_are_found_and_keep_their_place() -> None:
    """Needs the detector. Drawn faces are aligned already, so that little moves."""
    align = Aligner("celebahq", None, detector=DETECTOR, max_padding=0.5)
    found = 0
    for index in range(2):
        try:
            (one,) = align(portrait(7, index))
        except ImageError:
            continue
        found += 1
        middle = apply(one.transform, np.array(((512.0, 512.0),)))[0] / one.pixels.shape[0]
        assert middle == pytest.approx((0.5, 0.5), abs=0.15)
    assert found >= 1
