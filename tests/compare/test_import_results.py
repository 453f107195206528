"""Other methods come in through the same path, and results on augmented inputs stand apart."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.evaluation import METHODS, SIDE, build, face, measure

from pipeline.compare.import_results import enlarge_inputs, import_pictures
from pipeline.compare.name_match import MatchError
from pipeline.core.images import encode_png, pixel_hash, psnr, resize
from pipeline.evaluate.aggregate import aggregate
from pipeline.evaluate.summary import headline
from pipeline.report.write import write


def lows(count: int) -> list[np.ndarray]:
    return [resize(face(number), SIDE, SIDE) for number in range(count)]


def test_a_folder_of_pictures_by_face_name_is_a_method_of_its_own(tmp_path: Path) -> None:
    config = build(tmp_path, {"test": 4})
    place = tmp_path / "theirs"
    place.mkdir()
    for number, low in enumerate(lows(2)):
        (place / f"{number}.png").write_bytes(encode_png(resize(low, 4 * SIDE, 4 * SIDE, lanczos=True)))
    (place / f"{pixel_hash(face(2))}.png").write_bytes(encode_png(face(2)))  # by id: and as good as it gets
    (place / "3.png").write_bytes(encode_png(face(3)[:50]))
    (place / "9.png").write_bytes(encode_png(face(9)))
    problems = import_pictures("theirs", str(place), config, tmp_path / "in")
    assert [problem.split(": ")[1] for problem in problems] == ["3.png", "9.png"]
    assert "256x50 is neither 64 x 64 nor 4 times that" in problems[0]
    config = replace(config, references=["theirs"], folders={"theirs": str(tmp_path / "in")})
    measure(config, tmp_path / "parts")
    scores = aggregate(tmp_path / "parts", config)["test"]["256to1024"]
    assert {name: score["count"] for name, score in scores.items()} == {
        **dict.fromkeys(("bicubic", "lanczos", *METHODS), 4),
        "theirs": 3,
    }
    same = scores["theirs"]["on_same_faces"]
    assert set(same) == {"bicubic", "lanczos", *METHODS}
    expected = [psnr(face(number), resize(low, 4 * SIDE, 4 * SIDE)) for number, low in enumerate(lows(3))]
    assert same["bicubic"]["psnr"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert scores["theirs"]["psnr"] > same["bicubic"]["psnr"]
    assert "theirs" not in aggregate(tmp_path / "parts", config)["test"]["64to256"]
    assert "on 3 faces" in headline({"test": {"256to1024": scores}})


def test_a_method_over_all_faces_stands_in_the_main_rows_and_does_not_move_them(tmp_path: Path) -> None:
    config = build(tmp_path, {"test": 3})
    measure(config, tmp_path / "without")
    enlarge_inputs("nearest", lambda low, chain: np.repeat(np.repeat(low, 4, 0), 4, 1), config, tmp_path / "in")
    more = replace(config, references=["nearest"], folders={"nearest": str(tmp_path / "in")})
    measure(more, tmp_path / "with")
    without, found = aggregate(tmp_path / "without", config)["test"], aggregate(tmp_path / "with", more)["test"]
    for scale in ("64to256", "256to1024"):
        assert found[scale]["nearest"]["count"] == 3
        assert "on_same_faces" not in found[scale]["nearest"]
        for method in ("bicubic", *METHODS):
            assert found[scale][method]["psnr"] == without[scale][method]["psnr"]
    reports = tmp_path / "reports"
    write(tmp_path / "with", more, reports, {})
    assert "nearest" in (reports / "tables/results.md").read_text()
    assert json.loads((reports / "summary.json").read_text())["test 256to1024"]["nearest"]["psnr"] > 10


def test_no_picture_of_any_face_is_an_error(tmp_path: Path) -> None:
    config = build(tmp_path, {"test": 1})
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "else.png").write_bytes(encode_png(face(0)))
    with pytest.raises(MatchError, match="bears a face's id or name"):
        import_pictures("x", str(tmp_path / "x"), config, tmp_path / "in")
